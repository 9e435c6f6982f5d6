//! The report: one HTML page that opens without a network.

mod charts;
mod page;

use std::path::{Path, PathBuf};

pub use charts::funnel;

use crate::{
    Result,
    run::{Plan, Record, output},
};

/// Where the report of a run is: within its output folder, so that
/// [`erase`](crate::privacy::erase()) finds the thumbnails in it.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("report.html")
}

/// Writes the report of the run in `folder`; where it is.
///
/// # Errors
/// If the folder holds no finished run, or the page cannot be written.
pub fn write(folder: &Path) -> Result<PathBuf> {
    let record = Record::open(folder)?;
    let plan = Plan::read(folder)?;
    let page = page::page(folder, &record, &plan)?;
    let path = path(folder);
    output::write(&path, page.as_bytes())?;
    Ok(path)
}
