//! Hands out all that is held on a source.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    cache::Part,
    held::{self, Held},
};
use crate::{
    Error, Result,
    run::{Plan, Record, output},
};

/// What was handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// Copies of files, below the destination; of a cache's shards, only what comes from the source.
    pub files: Vec<PathBuf>,
    /// Rows, by table; `rows.json` holds them.
    pub rows: Vec<(&'static str, usize)>,
}

/// Copies all that `folder` and `cache` hold on a source to `destination`: `rows.json` with its
/// rows, and its files under their names.
///
/// `wanted` is as for [`erase`](super::erase()).
///
/// # Errors
/// If nothing is held on the source, `destination` exists and is not empty, or a file cannot be
/// copied.
pub fn export(
    folder: &Path,
    cache: Option<&Path>,
    wanted: &str,
    destination: &Path,
) -> Result<Export> {
    let record = Record::open(folder)?;
    let held = Held::find(folder, cache, wanted, held::key(&record)?.as_ref())?;
    if fs::read_dir(destination).is_ok_and(|mut files| files.next().is_some()) {
        let shown = destination.display();
        return Err(Error::Request(format!(
            "{shown} is not empty; name another folder"
        )));
    }
    output::create_folder(destination)?;
    let mut files = Vec::new();
    // Where the copy of a file goes.
    let mut place = |file: &Path| {
        let below = match (file.strip_prefix(folder), cache) {
            (Err(_), Some(cache)) => {
                Path::new("cache").join(file.strip_prefix(cache).unwrap_or(file))
            }
            (below, _) => below.unwrap_or(file).to_path_buf(),
        };
        let copy = destination.join(&below);
        files.push(below);
        output::create_folder(copy.parent().unwrap_or(destination)).map(|()| copy)
    };
    for file in &held.files {
        output::write(&place(file)?, &held::read(file)?)?;
    }
    for cached in &held.cached {
        cached.write(Part::Held, &held, &place(&cached.path)?)?;
    }
    // A run that was killed has no tables yet.
    let mut rows = Vec::new();
    let mut tables = Map::new();
    if let Ok(plan) = Plan::read(folder) {
        for (table, of_source) in held.rows(&plan) {
            rows.push((table, of_source.len()));
            let values = of_source.into_iter().map(Value::Object).collect();
            tables.insert(table.into(), Value::Array(values));
        }
    }
    let text = format!("{:#}\n", Value::Object(tables));
    output::write(&destination.join("rows.json"), text.as_bytes())?;
    Ok(Export { files, rows })
}
