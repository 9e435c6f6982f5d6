//! All that a run holds on a source.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use regex::bytes::Regex;
use serde_json::Value;

use super::Pseudonyms;
use crate::{
    Error, Result,
    run::{self, Plan, Shard, Source, output},
    tables::{Row, text},
};

/// What is held on the sources that a name stands for.
pub(super) struct Held {
    /// The sources' ids; every clip's id begins with one.
    pub ids: BTreeSet<String>,
    /// Every other text that names the sources: files, owners' ids, hashes.
    pub names: BTreeSet<String>,
    /// Their files.
    pub files: BTreeSet<PathBuf>,
}

impl Held {
    /// Finds what is held on `wanted`: the id of a source, its file's path as the run was given it,
    /// or the owner's id from the sidecar; with a key, pseudonyms are found by the plain names.
    ///
    /// Caches follow one convention: the name of every file that is derived from a clip contains
    /// the clip's id.
    ///
    /// # Errors
    /// If nothing is held, a folder cannot be read, or `cache` was written by `burn-hunyuan cache`:
    /// its shards hold many clips each and do not tell which.
    pub fn find(
        folder: &Path,
        cache: Option<&Path>,
        wanted: &str,
        pseudonyms: Option<&Pseudonyms>,
    ) -> Result<Self> {
        let known = pseudonyms.map(|pseudonyms| pseudonyms.of(wanted));
        let means = |name: &str| name == wanted || Some(name) == known.as_deref();
        let meant = |source: &Source| {
            let origin = source.origin.as_deref().is_some_and(means);
            means(&source.id) || means(&source.name) || origin
        };
        let mut held = Self {
            ids: BTreeSet::new(),
            names: BTreeSet::new(),
            files: BTreeSet::new(),
        };
        // A run that was killed may have left files of a source without a shard.
        if wanted.len() == 16 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            held.ids.insert(wanted.into());
        }
        for shard in Shard::read_all(folder)? {
            if shard.sources.iter().any(meant) {
                held.remember(&shard);
            }
        }
        for place in [Some(folder), cache].into_iter().flatten() {
            let mut files = files_below(place)?;
            if let Some(shard) = files.iter().find(|file| is_of_many_clips(file)) {
                return Err(Error::Request(format!(
                    "{} holds many clips and does not tell which; delete the whole cache, leave out \
                     --cache, and run `burn-hunyuan cache` again afterwards",
                    shard.display()
                )));
            }
            files.retain(|file| held.in_name(file));
            held.files.extend(files);
        }
        if held.files.is_empty() {
            return Err(Error::Request(format!(
                "nothing is held on `{wanted}` in {}; a source goes by its id, its path as the run \
                 was given it, or the id in its sidecar (`SELECT id, name, origin FROM sources`)",
                folder.display()
            )));
        }
        Ok(held)
    }

    fn remember(&mut self, shard: &Shard) {
        for source in &shard.sources {
            self.ids.insert(source.id.clone());
            self.names.insert(source.name.clone());
            self.names.extend(source.sha256.clone());
            self.names.extend(source.origin.clone());
        }
    }

    /// Whether a row of a table is about one of the sources.
    pub fn concerns(&self, row: &Row) -> bool {
        self.ids.contains(text(row, "source")) || self.ids.contains(text(row, "id"))
    }

    /// The rows about the sources, by table.
    pub fn rows(&self, plan: &Plan) -> [(&'static str, Vec<Row>); 3] {
        let tables = [
            ("sources", &plan.sources),
            ("clips", &plan.clips),
            ("images", &plan.images),
        ];
        tables.map(|(name, rows)| {
            let rows = rows.iter().filter(|row| self.concerns(row));
            (name, rows.cloned().collect())
        })
    }

    /// Whether a file's name contains an id.
    pub fn in_name(&self, file: &Path) -> bool {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        self.ids.iter().any(|id| name.contains(id.as_str()))
    }

    /// Whether a value of a row names one of the sources.
    pub fn in_row(&self, row: &Row) -> bool {
        row.values().filter_map(Value::as_str).any(|text| {
            self.names.contains(text) || self.ids.iter().any(|id| text.contains(id.as_str()))
        })
    }

    /// Finds in bytes what names one of the sources: an id anywhere, or a name as a whole JSON text.
    ///
    /// # Errors
    /// If there are too many sources to look for at once.
    pub fn pattern(&self) -> Result<Regex> {
        let quoted = self
            .names
            .iter()
            .map(|name| Value::from(name.as_str()).to_string());
        let needles = self.ids.iter().cloned().chain(quoted);
        let needles: Vec<String> = needles.map(|needle| regex::escape(&needle)).collect();
        Regex::new(&needles.join("|"))
            .map_err(|error| Error::Request(format!("cannot look for so many sources: {error}")))
    }
}

/// Whether a file is a shard of `burn-hunyuan cache`.
fn is_of_many_clips(file: &Path) -> bool {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("shard-") && name.ends_with(".safetensors")
}

/// All files below a folder, in order. Links are not followed.
///
/// # Errors
/// If a folder cannot be read.
pub(super) fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::File {
        action: "read",
        path: folder.into(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a whole file.
///
/// # Errors
/// If the system refuses.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|source| Error::File {
        action: "read",
        path: path.into(),
        source,
    })
}

/// The key by which a run made its pseudonyms, if it did.
///
/// # Errors
/// If the run has a key that cannot be read.
pub(super) fn key(record: &crate::run::Record) -> Result<Option<Pseudonyms>> {
    let path = record.configuration.privacy.pseudonym_key.as_deref();
    path.map(Pseudonyms::open).transpose()
}

/// Removes unfinished files, which may hold anything.
///
/// # Errors
/// If the system refuses.
pub(super) fn discard_unfinished(folder: &Path) -> Result<()> {
    for below in run::FOLDERS {
        output::discard_unfinished(&folder.join(below))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_many_clips_are_refused() {
        let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(folder.path().join("sources")).unwrap();
        let id = "0123456789abcdef";
        let find = || Held::find(folder.path(), Some(cache.path()), id, None);
        fs::write(cache.path().join(format!("{id}-latents")), "numbers").unwrap();
        assert_eq!(find().unwrap().files.len(), 1);
        fs::write(cache.path().join("shard-00000.safetensors"), "numbers").unwrap();
        let error = find().err().unwrap().to_string();
        assert!(
            error.contains("shard-00000") && error.contains("delete"),
            "{error}"
        );
    }
}
