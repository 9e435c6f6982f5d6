//! All that a run holds on a source.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use regex::bytes::Regex;
use serde_json::Value;

use super::{
    Pseudonyms,
    cache::{self, CacheFile},
};
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
    /// Files of caches that hold something of theirs beside what is others'.
    pub cached: Vec<CacheFile>,
}

impl Held {
    /// Finds what is held on `wanted`: the id of a source, its file's path as the run was given it,
    /// or the owner's id from the sidecar; with a key, pseudonyms are found by the plain names.
    ///
    /// Other caches than those of `burn-hunyuan cache` follow one convention: the name of every file
    /// that is derived from a clip contains the clip's id.
    ///
    /// # Errors
    /// If nothing is held, a folder cannot be read, or a shard does not tell what it was made from.
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
            cached: Vec::new(),
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
        if held.ids.is_empty() {
            // What a run has forgotten a cache may still hold.
            held.names.insert(wanted.into());
        }
        for file in files(folder, cache)? {
            match CacheFile::open(&file)? {
                Some(cached) if cached.entries(&held).is_empty() => {}
                Some(cached) => held.cached.push(cached),
                None if held.in_name(&file) => {
                    held.files.insert(file);
                }
                None => {}
            }
        }
        if held.files.is_empty() && held.cached.is_empty() {
            return Err(Error::Request(format!(
                "nothing is held on `{wanted}` in {}; a source goes by its id, its path as the run \
                 was given it, or the id in its sidecar (`SELECT id, name, origin FROM sources`)",
                folder.display()
            )));
        }
        Ok(held)
    }

    /// The files, those by which the run knows the sources apart from the others.
    pub fn shards_and_others(&self, folder: &Path) -> (Vec<&Path>, Vec<&Path>) {
        let shards: BTreeSet<PathBuf> = self.ids.iter().map(|id| Shard::path(folder, id)).collect();
        let files = self.files.iter().map(PathBuf::as_path);
        files.partition(|file| shards.contains(*file))
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
        let mut texts = row.values().filter_map(Value::as_str);
        texts.any(|text| self.in_text(text))
    }

    /// Whether a text contains an id or is one of the names.
    pub fn in_text(&self, text: &str) -> bool {
        self.names.contains(text) || self.ids.iter().any(|id| text.contains(id.as_str()))
    }

    /// Whether a line `FILE: why` is about one of the sources.
    pub fn in_line(&self, line: &str) -> bool {
        let begins = |name: &String| {
            let rest = line.strip_prefix(name.as_str());
            rest.is_some_and(|rest| rest.starts_with(": "))
        };
        self.ids.iter().any(|id| line.contains(id.as_str())) || self.names.iter().any(begins)
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

/// All files of a run and of a cache, each once, also where one of the folders lies in the other.
///
/// # Errors
/// If a folder cannot be read.
pub(super) fn files(folder: &Path, cache: Option<&Path>) -> Result<Vec<PathBuf>> {
    let mut files = BTreeMap::new();
    for place in [Some(folder), cache].into_iter().flatten() {
        for file in files_below(place)? {
            let whole = fs::canonicalize(&file).map_err(|source| Error::File {
                action: "read",
                path: file.clone(),
                source,
            })?;
            // By the run's name for it, by which its shards are known.
            files.entry(whole).or_insert(file);
        }
    }
    Ok(files.into_values().collect())
}

/// All files below a folder. Links are not followed.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
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

/// Removes unfinished files, which may hold anything: those of a run and those of a cache.
///
/// # Errors
/// If the system refuses.
pub(super) fn discard_unfinished(folder: &Path, cache: Option<&Path>) -> Result<()> {
    for below in run::FOLDERS {
        output::discard_unfinished(&folder.join(below))?;
    }
    let files = files(folder, cache)?;
    let mut unfinished = files.iter().filter(|path| cache::is_unfinished(path));
    unfinished.try_for_each(|path| output::remove(path))
}
