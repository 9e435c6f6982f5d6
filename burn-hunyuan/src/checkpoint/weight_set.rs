//! Files that hold one set of weights, by their names.

use std::collections::BTreeMap;

/// How the names of weights end, the preferred first.
const FORMATS: [&str; 6] = ["safetensors", "gguf", "bin", "pt", "pth", "ckpt"];

/// What tells one set of weights from the others in its folder, the preferred first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WeightSet {
    /// safetensors, then GGUF, then pickles.
    format: usize,
    /// None, then `fp16` and the like.
    variant: Option<String>,
    /// What is before all that.
    stem: String,
}

impl WeightSet {
    /// Of `model.safetensors`, `model.fp16-00001-of-00002.safetensors`,
    /// `model.safetensors.index.fp16.json` and their like; `None` for what is no weights.
    pub fn of(name: &str) -> Option<Self> {
        let mut words: Vec<&str> = name.split('.').collect();
        if words.last() == Some(&"json") {
            words.pop();
            // The word "index" is followed or preceded by the variant, depending on the library.
            words.remove(words.iter().position(|word| *word == "index")?);
        }
        let at = words.iter().rposition(|word| FORMATS.contains(word))?;
        let format = FORMATS.iter().position(|format| *format == words[at])?;
        words.remove(at);
        let unnumbered = |word: &str| {
            let numbered = word.split_once("-of-");
            let before = numbered.and_then(|(before, _)| before.rsplit_once('-'));
            before.map_or(word, |(before, _)| before).to_string()
        };
        let mut words = words.into_iter().map(unnumbered);
        let stem = words.next()?;
        let variant: Vec<String> = words.collect();
        Some(Self {
            format,
            variant: (!variant.is_empty()).then(|| variant.join(".")),
            stem,
        })
    }

    /// The names of weights among `names`, by the set that they belong to.
    pub fn all<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<Self, Vec<&'a str>> {
        let mut sets: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for name in names {
            if let Some(set) = Self::of(name) {
                sets.entry(set).or_default().push(name);
            }
        }
        sets
    }

    /// The sets that could be meant where nothing tells which: those of the best format that is there.
    pub fn candidates<'a>(names: impl Iterator<Item = &'a str>) -> Vec<Vec<&'a str>> {
        let sets = Self::all(names);
        let best = sets.keys().next().map(|set| set.format);
        let of_best = sets.into_iter().filter(|(set, _)| Some(set.format) == best);
        of_best.map(|(_, names)| names).collect()
    }
}

/// The file that a set is opened by: its index, or its only file. None for shards without an index.
pub(super) fn entry<'a>(set: &[&'a str]) -> Option<&'a str> {
    match set {
        [only] => Some(*only),
        shards => shards.iter().copied().find(|name| name.ends_with(".json")),
    }
}
