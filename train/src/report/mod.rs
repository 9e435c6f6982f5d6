//! A run as one HTML page that opens without a network.

mod charts;
mod page;

use std::path::{Path, PathBuf};

use crate::{
    error::{Error, Result},
    files,
    run::{Curves, LOG},
};

/// Writes `report.html` into the folder of a run, finished or not, and returns its path.
///
/// # Errors
/// A folder that holds no run; a page that cannot be written.
pub fn write(folder: &Path) -> Result<PathBuf> {
    let log = folder.join(LOG);
    if !log.is_file() {
        let reason = "this folder holds no run: there is no log.jsonl in it";
        return Err(Error::file(folder, reason));
    }
    let page = page::page(folder, &Curves::read(&log)?)?;
    let path = folder.join("report.html");
    files::replace(&path, page)?;
    Ok(path)
}
