//! Tiers: the rules that sort clips, each stricter than the one before.
//!
//! A tier is a list of [`Rule`]s over the columns of the tables. A clip goes through the tiers of
//! its kind in order; it belongs to the last one whose rules it passes, and the first rule that it
//! fails is the reason why it goes no further. So each tier is a subset of the one before.

mod explain;
mod rule;

use serde::{Deserialize, Serialize};

pub use explain::explain;
pub use rule::Rule;

use crate::{
    Error, Result,
    tables::{CLIPS, Column, IMAGES, Row},
};

/// What a tier holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Medium {
    /// Clips of videos.
    Video,
    /// Single pictures.
    Image,
}

impl Medium {
    /// The columns of the table that holds this medium.
    pub fn columns(self) -> &'static [Column] {
        match self {
            Self::Video => &CLIPS,
            Self::Image => &IMAGES,
        }
    }
}

/// A set of training data and what it takes to be in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// What the tier is called in the tables.
    pub name: String,
    /// Whether it holds clips or images.
    pub kind: Medium,
    /// What has to hold, in the order of looking, besides the rules of the tiers before.
    pub rules: Vec<Rule>,
}

/// One rule that a clip met.
#[derive(Debug, Clone, PartialEq)]
pub struct Step<'a> {
    /// The tier that the rule belongs to.
    pub tier: &'a Tier,
    /// The rule.
    pub rule: &'a Rule,
    /// Whether the clip passed.
    pub passed: bool,
}

/// The rules that a row meets, in order, up to and with the first that it fails.
pub fn journey<'a>(tiers: &'a [Tier], medium: Medium, row: &Row) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    let tiers = tiers.iter().filter(|tier| tier.kind == medium);
    for (tier, rule) in tiers.flat_map(|tier| tier.rules.iter().map(move |rule| (tier, rule))) {
        let passed = rule.passes(row);
        steps.push(Step { tier, rule, passed });
        if !passed {
            break;
        }
    }
    steps
}

/// How far a row gets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// The last tier whose rules it passes.
    pub tier: Option<String>,
    /// The stage of the first rule that it fails.
    pub stage: Option<String>,
    /// That rule, with the value.
    pub reason: Option<String>,
    /// The number of tiers passed.
    #[serde(skip)]
    pub rank: usize,
}

/// Sorts a row into its tier.
pub fn sort(tiers: &[Tier], medium: Medium, row: &Row) -> Outcome {
    let of_kind = || tiers.iter().filter(|tier| tier.kind == medium);
    let failed = journey(tiers, medium, row)
        .pop()
        .filter(|step| !step.passed);
    let rank = match &failed {
        Some(step) => of_kind().take_while(|tier| *tier != step.tier).count(),
        None => of_kind().count(),
    };
    Outcome {
        tier: of_kind().take(rank).last().map(|tier| tier.name.clone()),
        stage: failed.as_ref().map(|step| step.rule.stage.clone()),
        reason: failed.as_ref().map(|step| step.rule.reason(row)),
        rank,
    }
}

/// One line of the funnel: what a stage of a tier left.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sieve {
    /// The tier.
    pub tier: String,
    /// The stage.
    pub stage: String,
    /// Rows that came to it.
    pub before: usize,
    /// Rows that passed it.
    pub after: usize,
}

/// Counts what each stage of each tier leaves, in the order of looking.
pub fn funnel(tiers: &[Tier], medium: Medium, rows: &[Row]) -> Vec<Sieve> {
    let mut left: Vec<&Row> = rows.iter().collect();
    let mut funnel = Vec::new();
    for tier in tiers.iter().filter(|tier| tier.kind == medium) {
        for rules in tier.rules.chunk_by(|a, b| a.stage == b.stage) {
            let before = left.len();
            left.retain(|row| rules.iter().all(|rule| rule.passes(row)));
            funnel.push(Sieve {
                tier: tier.name.clone(),
                stage: rules[0].stage.clone(),
                before,
                after: left.len(),
            });
        }
    }
    funnel
}

/// Checks the tiers of a configuration.
///
/// # Errors
/// If a name is empty or used twice, or a rule asks for what its column cannot hold.
pub fn check(tiers: &[Tier]) -> Result<()> {
    for (index, tier) in tiers.iter().enumerate() {
        let earlier = &tiers[..index];
        let twice = |other: &Tier| other.name == tier.name && other.kind == tier.kind;
        if tier.name.is_empty() || earlier.iter().any(twice) {
            return Err(Error::Request(format!(
                "tier {} is named `{}`: a tier needs a name of its own",
                index + 1,
                tier.name
            )));
        }
        for rule in &tier.rules {
            if let Some(fault) = rule.fault(tier.kind.columns()) {
                return Err(Error::Request(format!("tier `{}`: {fault}", tier.name)));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables;

    /// Two video tiers and one of images over real columns.
    fn tiers() -> Vec<Tier> {
        #[derive(Deserialize)]
        struct Tiers {
            tier: Vec<Tier>,
        }
        let text = "
            [[tier]]
            name = 'low'
            kind = 'video'
            rules = [
                { stage = 'length', column = 'seconds', min = 2 },
                { stage = 'size', column = 'short_side', min = 256 },
            ]
            [[tier]]
            name = 'pictures'
            kind = 'image'
            rules = [{ stage = 'size', column = 'short_side', min = 512 }]
            [[tier]]
            name = 'high'
            kind = 'video'
            rules = [{ stage = 'size', column = 'short_side', min = 720 }]
        ";
        toml::from_str::<Tiers>(text).unwrap().tier
    }

    fn clip(seconds: f64, short_side: u32) -> Row {
        tables::row(&serde_json::json!({"seconds": seconds, "short_side": short_side}))
    }

    #[test]
    fn a_clip_goes_as_far_as_its_first_failure() {
        let sorted = |seconds, side| {
            let outcome = sort(&tiers(), Medium::Video, &clip(seconds, side));
            (outcome.tier, outcome.stage, outcome.rank)
        };
        let some = |text: &str| Some(text.to_string());
        assert_eq!(sorted(1.0, 1080), (None, some("length"), 0));
        assert_eq!(sorted(2.0, 240), (None, some("size"), 0));
        assert_eq!(sorted(2.0, 256), (some("low"), some("size"), 1));
        assert_eq!(sorted(3.0, 720), (some("high"), None, 2));
        let image = sort(&tiers(), Medium::Image, &clip(0.0, 300));
        let reason = "short_side is 300, not at least 512";
        assert_eq!(image.reason.as_deref(), Some(reason));
    }

    #[test]
    fn the_funnel_counts_what_each_stage_leaves() {
        let rows = [
            clip(1.0, 1080),
            clip(3.0, 720),
            clip(2.0, 256),
            clip(9.0, 100),
        ];
        let counts: Vec<_> = funnel(&tiers(), Medium::Video, &rows)
            .into_iter()
            .map(|sieve| (sieve.tier, sieve.stage, sieve.before, sieve.after))
            .collect();
        let line = |tier: &str, stage: &str, before, after| {
            (tier.to_string(), stage.to_string(), before, after)
        };
        assert_eq!(
            counts,
            [
                line("low", "length", 4, 3),
                line("low", "size", 3, 2),
                line("high", "size", 2, 1),
            ]
        );
    }

    #[test]
    fn tiers_need_names_of_their_own() {
        let mut twice = tiers();
        assert!(check(&twice).is_ok());
        twice[2].name = "low".into();
        let error = check(&twice).unwrap_err().to_string();
        assert!(error.contains("`low`"), "{error}");
    }
}
