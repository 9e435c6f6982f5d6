//! The report: one HTML page that opens without a network.

mod charts;
mod page;

use std::path::Path;

pub use charts::funnel;

use crate::{
    Result,
    run::{Plan, Record, output},
};

/// Name of the report in an output folder.
pub const FILE: &str = "report.html";

/// Writes the report of the run in `folder` to `path`.
///
/// # Errors
/// If the folder holds no finished run, or the page cannot be written.
pub fn write(folder: &Path, path: &Path) -> Result<()> {
    let record = Record::open(folder)?;
    let plan = Plan::read(folder)?;
    let page = page::page(folder, &record, &plan)?;
    output::write(path, page.as_bytes())
}
