//! `burn-hunyuan curate erase` and `export-source`.

use std::path::PathBuf;

use burn_hunyuan_curate::privacy::{self, Erasure};
use clap::Args;

use crate::{
    cli::print,
    device,
    error::{Error, Result},
};

/// Which source, and where.
#[derive(Debug, Args)]
struct Held {
    /// Output folder of a run
    out: PathBuf,
    /// The source: its id, its path as the run was given it, or the id in its sidecar
    #[arg(long, value_name = "ID")]
    source: String,
    /// Another folder with what is derived from clips: shards of `cache`, and files with a clip's id in
    /// their names
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct Erase {
    #[command(flatten)]
    held: Held,
    /// Where tensors live: auto, or BACKEND[:INDEX] as `burn-hunyuan devices` lists them
    #[arg(long, default_value = "auto", value_name = "NAME")]
    device: String,
}

#[derive(Debug, Args)]
pub(super) struct ExportSource {
    #[command(flatten)]
    held: Held,
    /// Empty or new folder that receives the copies
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
}

impl Erase {
    pub fn run(self) -> Result<()> {
        let Held { out, source, cache } = &self.held;
        let device = device::open(&self.device)?;
        let erasure = privacy::erase(out, cache.as_deref(), source, &device)?;
        print(proof(&erasure).trim_end())?;
        match erasure.left.is_empty() {
            true => Ok(()),
            false => Err(Error::Unusable(
                "something still names the source, see above; is another program writing there?"
                    .into(),
            )),
        }
    }
}

/// What was removed, and what a search finds.
fn proof(erasure: &Erasure) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!("source {}", erasure.sources.join(", ")));
    for file in &erasure.removed {
        line(format!("removed {}, {}", file.path.display(), file.was));
    }
    for file in &erasure.rewritten {
        let path = file.path.display();
        for entry in &file.removed {
            line(format!("removed from {path}: {entry}"));
        }
        line(format!("rewrote {path}, {}; before: {}", file.is, file.was));
    }
    for (table, rows) in &erasure.rows {
        line(format!("removed {rows} rows of {table}"));
    }
    line(format!(
        "searched {} files and tables: {} name the source",
        erasure.searched,
        erasure.left.len()
    ));
    for path in &erasure.left {
        line(format!("  {}", path.display()));
    }
    line(
        "the source's own file is not touched; remove it from the inputs before the next run"
            .into(),
    );
    text
}

impl ExportSource {
    pub fn run(self) -> Result<()> {
        let Held { out, source, cache } = &self.held;
        let export = privacy::export(out, cache.as_deref(), source, &self.output)?;
        let rows: Vec<String> = export
            .rows
            .iter()
            .map(|(table, rows)| format!("{rows} rows of {table}"))
            .collect();
        print(format!(
            "{}: {} files; rows.json with {}",
            self.output.display(),
            export.files.len(),
            rows.join(", ")
        ))
    }
}
