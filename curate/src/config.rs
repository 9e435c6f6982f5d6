//! The configuration of a run.
//!
//! Every stage describes its own options; here they are gathered into one TOML file. `curation.toml`
//! beside this crate's sources lists all of them with their defaults.
//!
//! Each also checks its own: [`Config::check`] asks them all, before a run begins.

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
        config.check().map_err(|error| error.to_string())?;
        Ok(config)
    }

    /// Checks that every value can be carried out.
    ///
    /// # Errors
    /// The first that cannot: its section, its key, the value and what is allowed.
    pub fn check(&self) -> Result<()> {
        let sections = [
            ("clips", self.clips.check()),
            ("shots", self.shots.check()),
            ("transitions", self.transitions.check()),
            ("clarity", self.clarity.check()),
            ("overlays", self.overlays.check()),
            ("motion", self.motion.check()),
            ("aesthetics", self.aesthetics.check()),
            ("clusters", self.clusters.check()),
            ("duplicates", self.duplicates.check()),
            ("concepts", self.concepts.check()),
            ("limits", self.limits.check()),
        ];
        for (section, checked) in sections {
            checked.map_err(|fault| Error::Request(format!("[{section}] {fault}")))?;
        }
        tiers::check(&self.tiers)
    }

    /// Whether the same is measured by `other`. What decides afterwards may differ: clusters,
    /// duplicates, concepts and tiers are a plan over what was measured.
    pub(crate) fn measures_as(&self, other: &Self) -> bool {
        let measured = Self {
            clusters: self.clusters.clone(),
            duplicates: self.duplicates.clone(),
            concepts: self.concepts.clone(),
            tiers: self.tiers.clone(),
            ..other.clone()
        };
        *self == measured
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

    /// A section, what stands in it, and what is told of it.
    const REFUSED: &str = "
clips | longest = 0 | longest is 0; it has to be more than 0 and at most 3600
clips | longest = inf | longest is inf; it has to be more than 0 and at most 3600
clips | analysis_rate = 0 | analysis_rate is 0; it has to be more than 0 and at most 1000
clips | analysis_rate = nan | analysis_rate is NaN; it has to be more than 0 and at most 1000
clips | analysis_side = 0 | analysis_side is 0; it has to be at least 16 and at most 8192
clips | clarity_interval = 0 | clarity_interval is 0; it has to be more than 0 and at most 3600
clips | crf = 52 | crf is 52; it has to be at least 0 and at most 51
clips | preset = 'best' | preset is `best`; it has to be one of ultrafast, superfast, veryfast, faster, fast, medium, slow, slower, veryslow, placebo
shots | adaptive = { kernel_size = 2 } | adaptive.kernel_size is 2; it has to be odd, at least 3 and at most 255
shots | content = { kernel_size = 4 } | content.kernel_size is 4; it has to be odd, at least 3 and at most 255
shots | adaptive = { window_width = 0 } | adaptive.window_width is 0; it has to be at least 1 and at most 100
shots | adaptive = { threshold = nan } | adaptive.threshold is NaN; it has to be at least 0 and finite
shots | content = { weights = { hue = 0, saturation = 0, luma = 0 } } | content.weights are all 0; one of them has to be another
shots | content = { weights = { hue = nan } } | content.weights.hue is NaN; it has to be finite
shots | threshold = { fade_bias = 2 } | threshold.fade_bias is 2; it has to be at least -1 and at most 1
shots | hash = { size = 64, lowpass = 64 } | hash.size * lowpass is 4096; it has to be at least 1 and at most 1024
shots | histogram = { bins = 0 } | histogram.bins is 0; it has to be at least 1 and at most 256
transitions | longest = -1 | longest is -1; it has to be at least 0.25 and at most 30
transitions | longest = 0 | longest is 0; it has to be at least 0.25 and at most 30
transitions | longest = nan | longest is NaN; it has to be at least 0.25 and at most 30
clarity | head = -1 | head is -1; it has to be at least 0
overlays | min_area = 5 | min_area is 5; it has to be at least 0 and at most 1
overlays | min_aspect = 9 | max_aspect is 2.4; it has to be at least 9
motion | longer_side = 0 | longer_side is 0; it has to be at least 16 and at most 8192
motion | flow = { winsize = 0 } | flow.winsize is 0; it has to be at least 2 and at most 512
motion | flow = { pyr_scale = 1.5 } | flow.pyr_scale is 1.5; it has to be more than 0 and less than 1
motion | flow = { poly_n = 1000 } | flow.poly_n is 1000; it has to be at least 1 and at most 32
aesthetics | frames_per_second = 0 | frames_per_second is 0; it has to be more than 0
clusters | points_per_cluster = 0 | points_per_cluster is 0; it has to be at least 1
clusters | mini_batch = 0 | mini_batch is 0; it has to be at least 1
duplicates | threshold = 7 | threshold is 7; it has to be at least -1 and at most 1
duplicates | cells = 0 | cells is 0; it has to be at least 1
concepts | maximum = 0.5 | maximum is 0.5; it has to be at least 1
concepts | maximum = inf | maximum is inf; it has to be at least 1 and finite
concepts | temperature = nan | temperature is NaN; it has to be at least 0 and at most 1
limits | pixels = 1 | pixels is 1; it has to be at least 65536
limits | seconds = 0 | seconds is 0; it has to be at least 1 and at most 31536000
limits | memory = 1000000 | memory is 1000000; it has to be at least 536870912
";

    #[test]
    fn values_that_cannot_be_carried_out_are_refused() {
        for line in REFUSED.trim().lines() {
            let parts: Vec<&str> = line.split(" | ").collect();
            let [section, setting, told] = parts[..] else {
                panic!("{line}");
            };
            let refused = Config::parse(&format!("[{section}]\n{setting}"));
            assert_eq!(refused, Err(format!("[{section}] {told}")));
        }
    }

    #[test]
    fn what_comes_after_measuring_may_differ() {
        let parsed = |text| Config::parse(text).unwrap();
        let default = Config::default();
        for text in [
            "[duplicates]\nthreshold = 0.9",
            "[clusters]\nseed = 1",
            "[concepts]\nmaximum = 2.0",
            "[[tier]]\nname = 'all'\nkind = 'video'\nrules = []",
        ] {
            assert!(parsed(text).measures_as(&default), "{text}");
        }
        for text in [
            "[clips]\nlongest = 3.0",
            "[overlays]\nedge = 13.0",
            "[privacy]\nscrub = false",
        ] {
            assert!(!parsed(text).measures_as(&default), "{text}");
        }
    }

    #[test]
    fn rules_on_unknown_columns_are_refused() {
        let text = "[[tier]]\nname = 'a'\nkind = 'video'\n\
                    rules = [{ stage = 's', column = 'secnds', min = 1 }]";
        let error = Config::parse(text).unwrap_err();
        assert!(error.contains("did you mean `seconds`?"), "{error}");
    }
}
