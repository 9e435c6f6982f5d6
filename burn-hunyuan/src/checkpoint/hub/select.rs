//! Which files of a repository a checkpoint needs.

use std::collections::BTreeMap;

/// The parts of a diffusers pipeline that this program runs.
const FOLDERS: [&str; 7] = [
    "transformer",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "tokenizer",
    "tokenizer_2",
    "scheduler",
];

/// The files to download, of all files of a repository (paths with `/`):
///
/// - of a diffusers pipeline (it has a `model_index.json`): the configurations and tokenizers of
///   its parts, and one set of weights for each: safetensors before `.bin` and `.pt`, those
///   without a variant (`.fp16.`) before those with;
/// - of Tencent's layout: the transformer in bf16, the VAE and its configuration;
/// - else all safetensors, gguf, json and txt files.
pub fn needed(files: &[String]) -> Vec<String> {
    const TENCENT: &str = "transformers/mp_rank_00_model_states.pt";
    let keep = |test: &dyn Fn(&str) -> bool| files.iter().filter(|f| test(f)).cloned().collect();
    if files.iter().any(|file| file == "model_index.json") {
        diffusers(files)
    } else if files.iter().any(|file| file.ends_with(TENCENT)) {
        keep(&|file| {
            let vae = file.starts_with("vae/") || file.contains("/vae/");
            file.ends_with(TENCENT) || (vae && has_extension(file, &["pt", "json", "safetensors"]))
        })
    } else {
        keep(&|file| has_extension(file, &["safetensors", "gguf", "json", "txt"]))
    }
}

/// Whether a file holds weights, by its name.
pub(super) fn is_weights(file: &str) -> bool {
    has_extension(file, &["safetensors", "gguf", "pt", "pth", "bin"])
}

fn has_extension(file: &str, extensions: &[&str]) -> bool {
    file.rsplit_once('.')
        .is_some_and(|(_, extension)| extensions.contains(&extension))
}

fn diffusers(files: &[String]) -> Vec<String> {
    let mut needed = vec!["model_index.json".to_string()];
    for folder in FOLDERS {
        let inner = files.iter().filter_map(|file| {
            let (parent, name) = file.rsplit_once('/')?;
            (parent == folder).then_some(name)
        });
        // Weights by how they are preferred; a sharded set and its index go together.
        let mut sets: BTreeMap<_, Vec<&str>> = BTreeMap::new();
        for name in inner {
            match Weights::parse(name) {
                Some(weights) => sets.entry(weights).or_default().push(name),
                None if has_extension(name, &["json", "txt"]) => {
                    needed.push(format!("{folder}/{name}"));
                }
                None => {}
            }
        }
        let best = sets.into_values().next().unwrap_or_default();
        needed.extend(best.into_iter().map(|name| format!("{folder}/{name}")));
    }
    needed
}

/// What tells one set of weights from another, the preferred first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Weights {
    /// safetensors, then pickles.
    format: usize,
    /// None, then `fp16` and the like.
    variant: Option<String>,
    /// What is before all that.
    stem: String,
}

impl Weights {
    /// Of `model.safetensors`, `model.fp16-00001-of-00002.safetensors`,
    /// `model.safetensors.index.fp16.json` and their like.
    fn parse(name: &str) -> Option<Self> {
        const FORMATS: [&str; 3] = ["safetensors", "bin", "pt"];
        let mut words: Vec<&str> = name.split('.').collect();
        if words.last() == Some(&"json") {
            words.pop();
            // The word "index" is followed or preceded by the variant, depending on the library.
            words.remove(words.iter().position(|word| *word == "index")?);
        }
        let at = words.iter().rposition(|word| FORMATS.contains(word))?;
        let format = FORMATS.iter().position(|format| *format == words[at])?;
        words.remove(at);
        let unnumbered = |word: &str| match word.split_once("-0") {
            Some((before, number)) if number.contains("-of-") => before.to_string(),
            _ => word.to_string(),
        };
        let mut words = words.into_iter().map(unnumbered);
        let stem = words.next()?;
        Some(Self {
            format,
            variant: words.next(),
            stem,
        })
    }
}
