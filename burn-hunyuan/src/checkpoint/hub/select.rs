//! Which files of a repository a checkpoint needs.

use super::super::weight_set::{self, WeightSet};

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
/// - where a `file` is asked for: it, with the shards of an index and the scales of a float8 `.pt`;
/// - of a diffusers pipeline (it has a `model_index.json`, or weights in the folder of a part): the
///   configurations and tokenizers of its parts, and one set of weights for each: safetensors before
///   `.bin` and `.pt`, those without a variant (`.fp16.`) before those with;
/// - of Tencent's layout: the transformer in bf16, the VAE and its configuration;
/// - else the only set of weights.
///
/// With the weights come the configurations and tokenizers in their folder.
///
/// # Errors
/// The files that `file` could name, where more than one set of weights is there or it is none of them.
pub fn needed(files: &[String], file: Option<&str>) -> Result<Vec<String>, Vec<String>> {
    const TENCENT: &str = "transformers/mp_rank_00_model_states.pt";
    let is_part = |path: &String| {
        let folder = path.split_once('/').map_or("", |(folder, _)| folder);
        path == "model_index.json" || FOLDERS.contains(&folder) && is_weights(path)
    };
    if let Some(file) = file {
        named(files, file)
    } else if files.iter().any(is_part) {
        Ok(diffusers(files))
    } else if files.iter().any(|file| file.ends_with(TENCENT)) {
        let is_needed = |path: &&String| {
            let vae = path.starts_with("vae/") || path.contains("/vae/");
            path.ends_with(TENCENT) || vae && (is_weights(path) || is_setting(path))
        };
        Ok(files.iter().filter(is_needed).cloned().collect())
    } else {
        only(files)
    }
}

/// Whether a file is weights, or the index of their shards, by its name.
pub(super) fn is_entry(path: &str) -> bool {
    WeightSet::of(split(path).1).is_some()
}

/// Whether a file holds weights, by its name.
pub(super) fn is_weights(path: &str) -> bool {
    is_entry(path) && !path.ends_with(".json")
}

/// Whether a file may hold a configuration or a tokenizer, by its name.
fn is_setting(path: &str) -> bool {
    !is_entry(path) && [".json", ".txt"].iter().any(|end| path.ends_with(end))
}

/// A path's folder, empty or with the `/`, and its name.
fn split(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |slash| slash + 1))
}

/// The names in a folder.
fn names_in<'a>(files: &'a [String], folder: &str) -> impl Iterator<Item = &'a str> {
    let paths = files.iter().map(|path| split(path));
    paths.filter_map(move |(parent, name)| (parent == folder).then_some(name))
}

/// Files with the settings beside them.
fn with_settings<'a>(
    files: &'a [String],
    folder: &str,
    names: impl IntoIterator<Item = &'a str>,
) -> Vec<String> {
    let settings = names_in(files, folder).filter(|name| is_setting(name));
    let names = names.into_iter().chain(settings);
    names.map(|name| format!("{folder}{name}")).collect()
}

fn named(files: &[String], file: &str) -> Result<Vec<String>, Vec<String>> {
    let (folder, name) = split(file);
    if !names_in(files, folder).any(|other| other == name) {
        return Err(entries(files));
    }
    let mut names = vec![name];
    if name.ends_with(".json") {
        let set = WeightSet::of(name);
        let shards = names_in(files, folder).filter(|other| WeightSet::of(other) == set);
        names.extend(shards.filter(|other| *other != name));
    }
    let map = name
        .strip_suffix(".pt")
        .map(|stem| format!("{stem}_map.pt"));
    names.extend(names_in(files, folder).filter(|other| Some(*other) == map.as_deref()));
    Ok(with_settings(files, folder, names))
}

fn diffusers(files: &[String]) -> Vec<String> {
    let mut needed: Vec<_> = names_in(files, "")
        .filter(|name| *name == "model_index.json")
        .map(String::from)
        .collect();
    for folder in FOLDERS {
        let folder = format!("{folder}/");
        let best = WeightSet::all(names_in(files, &folder))
            .into_values()
            .next();
        needed.extend(with_settings(files, &folder, best.unwrap_or_default()));
    }
    needed
}

/// The only set of weights, which has to be where it is found without its name.
fn only(files: &[String]) -> Result<Vec<String>, Vec<String>> {
    let sets = WeightSet::candidates(names_in(files, ""));
    match (sets.as_slice(), entries(files)) {
        ([set], entries) if entries.len() == 1 => Ok(with_settings(files, "", set.iter().copied())),
        (_, entries) => Err(entries),
    }
}

/// A file of each set of weights in each folder, such as can be asked for.
fn entries(files: &[String]) -> Vec<String> {
    let mut folders: Vec<&str> = files.iter().map(|path| split(path).0).collect();
    folders.sort();
    folders.dedup();
    let mut entries = Vec::new();
    for folder in folders {
        for set in WeightSet::candidates(names_in(files, folder)) {
            if let Some(name) = weight_set::entry(&set) {
                entries.push(format!("{folder}{name}"));
            }
        }
    }
    entries
}
