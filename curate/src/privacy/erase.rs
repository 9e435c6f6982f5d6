//! Removes a source from a run, with proof.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use sha2::{Digest, Sha256};

use super::held::{self, Held};
use crate::{
    Result, report,
    run::{self, Plan, Record, Shard, output},
    tables,
};

/// What an erasure did, and what a search for the source found afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Erasure {
    /// The ids of the sources.
    pub sources: Vec<String>,
    /// The files that were removed.
    pub removed: Vec<Removed>,
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
    /// Its size.
    pub bytes: u64,
    /// The SHA-256 of what it held.
    pub sha256: String,
}

/// Removes every file and row in `folder` that comes from a source, and the files in `cache` whose
/// names contain the id of one of its clips; then makes the tables anew from what is left. They are
/// the tables of a run that never saw the source: what was rejected as a duplicate of its clips
/// comes into its own.
///
/// `wanted` is a source's id, its path as the run was given it, or the owner's id from the sidecar.
/// The source itself, outside the run, is not touched.
///
/// # Errors
/// If nothing is held on the source, or a file cannot be removed or written.
pub fn erase(
    folder: &Path,
    cache: Option<&Path>,
    wanted: &str,
    device: &Device,
) -> Result<Erasure> {
    let record = Record::open(folder)?;
    held::discard_unfinished(folder)?;
    let held = Held::find(folder, cache, wanted, held::key(&record)?.as_ref())?;
    // A run that was killed has no tables yet.
    let before = Plan::read(folder).ok();
    let rows = before.map_or_else(Vec::new, |plan| {
        let rows = held.rows(&plan).into_iter();
        rows.map(|(table, rows)| (table, rows.len())).collect()
    });
    let removed = held.files.iter().map(|path| remove(path));
    let removed = removed.collect::<Result<Vec<_>>>()?;

    let shards = Shard::read_all(folder)?;
    let plan = run::plan(&shards, &record.configuration, device, &|_| {
        ControlFlow::Continue(())
    })?;
    run::finish(folder, record, plan)?;
    let page = folder.join(report::FILE);
    if page.exists() {
        report::write(folder, &page)?;
    }
    let (searched, left) = search(folder, cache, &held)?;
    Ok(Erasure {
        sources: held.ids.into_iter().collect(),
        removed,
        rows,
        searched,
        left,
    })
}

fn remove(path: &Path) -> Result<Removed> {
    let bytes = held::read(path)?;
    output::remove(path)?;
    Ok(Removed {
        path: path.into(),
        bytes: bytes.len() as u64,
        sha256: run::hex(&Sha256::digest(&bytes)),
    })
}

/// Looks through everything for the source; the number of files, and those that name it.
fn search(folder: &Path, cache: Option<&Path>, held: &Held) -> Result<(usize, Vec<PathBuf>)> {
    let mut files = held::files_below(folder)?;
    if let Some(cache) = cache {
        files.extend(held::files_below(cache)?);
    }
    let pattern = held.pattern()?;
    let mut left = Vec::new();
    for path in &files {
        let table = path
            .extension()
            .is_some_and(|extension| extension == "parquet");
        let inside = match table {
            // Tables are compressed: their bytes tell nothing.
            true => tables::read(path)?.iter().any(|row| held.in_row(row)),
            false => pattern.is_match(&held::read(path)?),
        };
        if inside || held.in_name(path) {
            left.push(path.clone());
        }
    }
    Ok((files.len(), left))
}
