//! The configuration of a run.
//!
//! Every stage describes its own options; here they are gathered into one TOML file. `curation.toml`
//! beside this crate's sources lists all of them with their defaults.

use std::{fs, path::Path, sync::LazyLock};

use serde::{Deserialize, Serialize};

use crate::{
    Error, Result, aesthetics, clarity, concepts, duplicates, kmeans, media, motion, overlays,
    privacy, run, scenes,
    tiers::{self, Tier},
};

/// The default configuration, with a comment on every field.
pub const DEFAULT: &str = include_str!("../curation.toml");

/// All that decides what comes out of a run, besides its input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Clips, and the pictures on which they are judged.
    pub clips: run::Config,
    /// Where shots end.
    pub shots: scenes::Config,
    /// Dissolves and fades, which are no cuts.
    pub transitions: scenes::TransitionConfig,
    /// How a clip begins.
    pub clarity: clarity::Config,
    /// Borders, subtitles, logos and watermarks.
    pub overlays: overlays::Config,
    /// Optical flow.
    pub motion: motion::Config,
    /// Learned scores, where weights are given.
    pub aesthetics: aesthetics::Config,
    /// Clusters of clips: concepts, and the cells in which duplicates are sought.
    pub clusters: kmeans::Config,
    /// Near-duplicates.
    pub duplicates: duplicates::Config,
    /// Weights that balance the concepts.
    pub concepts: concepts::Config,
    /// What one file may cost.
    pub limits: media::Limits,
    /// Licence, consent, retention, scrubbing, pseudonyms.
    pub privacy: privacy::Config,
    /// The tiers, each kind's in order from the first to the strictest.
    #[serde(rename = "tier")]
    pub tiers: Vec<Tier>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clips: Default::default(),
            shots: Default::default(),
            transitions: Default::default(),
            clarity: Default::default(),
            overlays: Default::default(),
            motion: Default::default(),
            aesthetics: Default::default(),
            clusters: Default::default(),
            duplicates: Default::default(),
            concepts: Default::default(),
            limits: Default::default(),
            privacy: Default::default(),
            tiers: DEFAULT_TIERS.clone(),
        }
    }
}

/// The tiers of the default file: rules are data, and stand in one place only.
static DEFAULT_TIERS: LazyLock<Vec<Tier>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    struct Tiers {
        tier: Vec<Tier>,
    }
    // Part of the program, and read by the tests.
    #[allow(clippy::expect_used)]
    toml::from_str::<Tiers>(DEFAULT)
        .expect("the default configuration")
        .tier
});

impl Config {
    /// Reads a configuration; what the file leaves out keeps its default.
    ///
    /// # Errors
    /// If the file cannot be read, names an unknown key, or has a rule that cannot hold.
    pub fn open(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).map_err(|source| Error::File {
            action: "read",
            path: path.into(),
            source,
        })?;
        Self::parse(&text).map_err(|problem| Error::Unusable {
            path: path.into(),
            problem,
        })
    }

    /// Reads a configuration from TOML; tells what is wrong with it.
    fn parse(text: &str) -> Result<Self, String> {
        let config: Self =
            toml::from_str(text).map_err(|error| with_suggestion(&error.to_string()))?;
        tiers::check(&config.tiers).map_err(|error| error.to_string())?;
        Ok(config)
    }
}

/// Adds the nearest known name to serde's complaint about an unknown one.
pub(crate) fn with_suggestion(problem: &str) -> String {
    let problem = problem.trim_end();
    let quoted: Vec<&str> = problem
        .split_once("unknown field ")
        .map(|(_, names)| names.split('`').skip(1).step_by(2).collect())
        .unwrap_or_default();
    let suggestion = match quoted.split_first() {
        Some((unknown, known)) => nearest(unknown, known.iter().copied()),
        None => None,
    };
    match suggestion {
        Some(name) => format!("{problem}; did you mean `{name}`?"),
        None => problem.into(),
    }
}

/// The known name that is most like `name`, if one is like it at all.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known));
    let best = scored.max_by(|(a, _), (b, _)| a.total_cmp(b))?;
    (best.0 > 0.8).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commented_file_is_the_default() {
        let text = |config: &Config| toml::to_string(config).unwrap();
        let given = Config::parse(DEFAULT).unwrap();
        assert_eq!(text(&given), text(&Config::default()));
        assert_eq!(given, Config::default());
        assert_eq!(Config::parse(""), Ok(Config::default()));
    }

    #[test]
    fn the_commented_file_names_every_field() {
        let given: toml::Table = DEFAULT.parse().unwrap();
        let full: toml::Table = toml::to_string(&Config::default())
            .unwrap()
            .parse()
            .unwrap();
        let mut missing = Vec::new();
        compare("", &full, &given, &mut missing);
        assert_eq!(missing, Vec::<String>::new());
    }

    /// The names in `full` that `given` lacks.
    fn compare(within: &str, full: &toml::Table, given: &toml::Table, missing: &mut Vec<String>) {
        for (name, value) in full {
            let path = format!("{within}{name}");
            match (value.as_table(), given.get(name)) {
                (_, None) => missing.push(path),
                (Some(full), Some(given)) => {
                    compare(
                        &format!("{path}."),
                        full,
                        given.as_table().unwrap(),
                        missing,
                    );
                }
                (None, Some(_)) => {}
            }
        }
    }

    #[test]
    fn unknown_keys_are_refused_with_a_suggestion() {
        let error = Config::parse("[privacy]\nscrubb = true").unwrap_err();
        assert!(error.contains("did you mean `scrub`?"), "{error}");
        let error = Config::parse("[privcy]").unwrap_err();
        assert!(error.contains("did you mean `privacy`?"), "{error}");
        let error = Config::parse("[privacy]\nzzz = 1").unwrap_err();
        assert!(
            error.contains("`zzz`") && !error.contains("did you mean"),
            "{error}"
        );
    }

    #[test]
    fn what_a_file_leaves_out_keeps_its_default() {
        let config = Config::parse("[privacy]\nscrub = false").unwrap();
        assert!(!config.privacy.scrub);
        assert_eq!(config.tiers, Config::default().tiers);
        let config = Config::parse("[[tier]]\nname = 'all'\nkind = 'video'\nrules = []").unwrap();
        assert_eq!(config.tiers.len(), 1);
    }

    #[test]
    fn rules_on_unknown_columns_are_refused() {
        let text = "[[tier]]\nname = 'a'\nkind = 'video'\n\
                    rules = [{ stage = 's', column = 'secnds', min = 1 }]";
        let error = Config::parse(text).unwrap_err();
        assert!(error.contains("did you mean `seconds`?"), "{error}");
    }
}
