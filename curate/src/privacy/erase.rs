//! Removes a source from a run, with proof.

use std::{
    fmt,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use burn::tensor::Device;

use super::{
    cache::{CacheFile, Part},
    held::{self, Held},
};
use crate::{
    Result, report,
    run::{self, Plan, Record, Shard, output},
    tables,
};

/// What an erasure did, and what a search for the source found afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Erasure {
    /// The ids of the sources; what was asked for, where the run had forgotten it.
    pub sources: Vec<String>,
    /// The files that were removed.
    pub removed: Vec<Removed>,
    /// The files that lost a part.
    pub rewritten: Vec<Rewritten>,
    /// Rows removed, by table.
    pub rows: Vec<(&'static str, usize)>,
    /// Files and tables that were searched for the source afterwards.
    pub searched: usize,
    /// Those that still name it: none, unless another program wrote there.
    pub left: Vec<PathBuf>,
}

/// A file that is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Where it was.
    pub path: PathBuf,
    /// What it held.
    pub was: Fingerprint,
}

/// A file of `burn-hunyuan cache` that lost what came from the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// Where it is.
    pub path: PathBuf,
    /// What was removed: clips with the files that they were made from, lines about files that could
    /// not be used.
    pub removed: Vec<String>,
    /// What it held.
    pub was: Fingerprint,
    /// What it holds.
    pub is: Fingerprint,
}

/// What tells a file's contents from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The file's size.
    pub bytes: u64,
    /// Its SHA-256.
    pub sha256: String,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} bytes, SHA-256 {}", self.bytes, self.sha256)
    }
}

/// Removes every file and row in `folder` that comes from a source, and what `cache` holds of it: clips
/// in the shards of `burn-hunyuan cache`, which are written anew, and other files whose names contain the
/// id of one of its clips. Then makes the tables anew from what is left. They are the tables of a run
/// that never saw the source: what was rejected as a duplicate of its clips comes into its own. Its file
/// is not there yet, and so it has no line in the manifest: a resumed run cuts it.
///
/// `wanted` is a source's id, its path as the run was given it, or the owner's id from the sidecar.
/// The source itself, outside the run, is not touched. Nobody else may read or write the shards
/// meanwhile: who has opened one looks for the clips where they were.
///
/// # Errors
/// If nothing is held on the source, a shard does not tell what it was made from, or a file cannot be
/// removed or written.
pub fn erase(
    folder: &Path,
    cache: Option<&Path>,
    wanted: &str,
    device: &Device,
) -> Result<Erasure> {
    let record = Record::open(folder)?;
    let _claim = output::claim(folder)?;
    held::discard_unfinished(folder, cache)?;
    let held = Held::find(folder, cache, wanted, held::key(&record)?.as_ref())?;
    // A run that was killed has no tables yet.
    let before = Plan::read(folder).ok();
    let rows = before.map_or_else(Vec::new, |plan| {
        let rows = held.rows(&plan).into_iter();
        rows.map(|(table, rows)| (table, rows.len())).collect()
    });
    let rewritten = held.cached.iter().map(|file| rewrite(file, &held));
    let rewritten = rewritten.collect::<Result<Vec<_>>>()?;
    let (shards, files) = held.shards_and_others(folder);
    let removed = files.into_iter().map(remove);
    let mut removed = removed.collect::<Result<Vec<_>>>()?;

    let mut left = Shard::read_all(folder)?;
    left.retain(|shard| !held.ids.contains(&shard.sources[0].id));
    let plan = run::plan(&left, &record.configuration, device, &|_| {
        ControlFlow::Continue(())
    })?;
    run::finish(folder, record, plan)?;
    if report::path(folder).exists() {
        report::write(folder)?;
    }
    // Last: as long as the run knows the source, what is cut short can be done again.
    for shard in shards {
        removed.push(remove(shard)?);
    }
    let (searched, left) = search(folder, cache, &held)?;
    let mut sources: Vec<String> = held.ids.into_iter().collect();
    if sources.is_empty() {
        sources.push(wanted.into());
    }
    Ok(Erasure {
        sources,
        removed,
        rewritten,
        rows,
        searched,
        left,
    })
}

fn remove(path: &Path) -> Result<Removed> {
    let was = fingerprint(path)?;
    output::remove(path)?;
    Ok(Removed {
        path: path.into(),
        was,
    })
}

fn rewrite(file: &CacheFile, held: &Held) -> Result<Rewritten> {
    let was = fingerprint(&file.path)?;
    file.write(Part::Rest, held, &file.path)?;
    Ok(Rewritten {
        path: file.path.clone(),
        removed: file.entries(held),
        was,
        is: fingerprint(&file.path)?,
    })
}

fn fingerprint(path: &Path) -> Result<Fingerprint> {
    let (sha256, bytes) = run::sha256(path, |_| ControlFlow::Continue(()))?;
    Ok(Fingerprint { bytes, sha256 })
}

/// Looks through everything for the source; the number of files, and those that name it.
fn search(folder: &Path, cache: Option<&Path>, held: &Held) -> Result<(usize, Vec<PathBuf>)> {
    let files = held::files(folder, cache)?;
    let pattern = held.pattern()?;
    let mut left = Vec::new();
    for path in &files {
        let table = path
            .extension()
            .is_some_and(|extension| extension == "parquet");
        let inside = if table {
            // Tables are compressed: their bytes tell nothing.
            tables::read(path)?.iter().any(|row| held.in_row(row))
        } else if let Some(cached) = CacheFile::open(path)? {
            pattern.is_match(cached.text.as_bytes()) || !cached.entries(held).is_empty()
        } else {
            pattern.is_match(&held::read(path)?)
        };
        if inside || held.in_name(path) {
            left.push(path.clone());
        }
    }
    Ok((files.len(), left))
}
