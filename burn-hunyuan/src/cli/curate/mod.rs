//! `burn-hunyuan curate`.

mod privacy;
mod progress;

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    thread,
};

use burn_hunyuan_curate::{
    config::Config,
    report,
    run::{self, Record},
    tiers,
};
use clap::{Args, Subcommand};

use super::print;
use crate::{
    device,
    error::{Error, Result},
};

/// Either a run over inputs, or a question to a run that is done.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Curate {
    #[command(flatten)]
    run: Option<Run>,
    #[command(subcommand)]
    question: Option<Question>,
}

#[derive(Debug, Args)]
struct Run {
    /// Videos, images, folders of them, or lists of them (.txt, one path a line)
    #[arg(required = true)]
    input: Vec<PathBuf>,
    /// Folder for tables, clips and the record of the run
    #[arg(long, short, required = true, value_name = "OUT")]
    output: PathBuf,
    /// Options and rules of the tiers, as TOML; `curate defaults` prints the default file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sources to work on at once [default: one for each core]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
    /// Where tensors live: auto, or BACKEND[:INDEX] as `burn-hunyuan devices` lists them
    #[arg(long, default_value = "auto", value_name = "NAME")]
    device: String,
    /// Continue the run in OUT
    #[arg(long)]
    resume: bool,
    /// Leave kept clips in their sources, which the manifest names with the clips' ranges: not with
    /// pseudonyms
    #[arg(long)]
    no_cut: bool,
    /// Show no progress and no summary; warnings and errors remain
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Write OUT/report.html, a page with the funnel, histograms and thumbnails
    Report {
        /// Output folder of a run
        out: PathBuf,
    },
    /// Query the tables clips, images and sources in SQL
    Sql {
        /// Output folder of a run
        out: PathBuf,
        /// A query such as "SELECT tier, count(*) FROM clips GROUP BY tier"
        question: String,
    },
    /// Show how the rules judged a clip, with values and thresholds
    Explain {
        /// Output folder of a run
        out: PathBuf,
        /// The clip's id, or its beginning
        clip: String,
    },
    /// Remove everything that comes from a source, and print proof
    Erase(privacy::Erase),
    /// Copy everything that is held on a source
    ExportSource(privacy::ExportSource),
    /// Print the default configuration
    Defaults,
}

impl Curate {
    pub fn run(self) -> Result<()> {
        match (self.run, self.question) {
            (Some(run), _) => run.run(),
            (None, Some(question)) => question.answer(),
            // clap asks for the one or the other.
            (None, None) => Ok(()),
        }
    }
}

impl Run {
    fn run(self) -> Result<()> {
        let config = self.config.as_deref().map(Config::open).transpose()?;
        let cores = || thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
        let request = run::Request {
            inputs: self.input,
            output: self.output,
            config: config.unwrap_or_default(),
            jobs: self.jobs.unwrap_or_else(cores).get(),
            resume: self.resume,
            cut: !self.no_cut,
            device: device::open(&self.device)?,
        };
        let progress = progress::Bars::new(self.quiet);
        let record = run::curate(&request, &|news| progress.show(news));
        progress.clear();
        let record = record?;
        if !self.quiet {
            print(summary(&record, &request.output).trim_end())?;
        }
        match record.counts {
            Some(counts) if counts.sources_with_errors == counts.sources && counts.is_empty() => {
                Err(Error::Unusable(format!(
                    "no file could be used; {}",
                    where_errors_are(&request.output)
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Where to read what is wrong with files.
fn where_errors_are(output: &Path) -> String {
    let table = output.join("sources.parquet");
    let (table, output) = (table.display(), output.display());
    format!("the column `error` of {table} and `burn-hunyuan curate report {output}` say why")
}

/// What came out, and where to look.
fn summary(record: &Record, output: &Path) -> String {
    let mut text = String::new();
    let Some(counts) = &record.counts else {
        return text;
    };
    let mut line = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    line(format!(
        "{} files ({} copies of another, {} with errors): {} clips, {} images",
        counts.sources,
        counts.identical_sources,
        counts.sources_with_errors,
        counts.clips,
        counts.images
    ));
    if counts.sources_with_errors > 0 {
        line(where_errors_are(output));
    }
    for tier in &record.configuration.tiers {
        let count = counts.tiers.get(&tier.name).copied().unwrap_or(0);
        line(format!("{count:>8} {}", tier.name));
    }
    if counts.files_with_errors > 0 {
        line(format!(
            "{:>8} of them could not be written; the column `file_error` says why",
            counts.files_with_errors
        ));
    }
    let output = output.display();
    line(format!(
        "`burn-hunyuan curate report {output}` shows the funnel and the clips"
    ));
    text
}

impl Question {
    fn answer(self) -> Result<()> {
        match self {
            Self::Report { out } => print(report::write(&out)?.display()),
            Self::Sql { out, question } => print(sql(&out, &question)?.trim_end()),
            Self::Explain { out, clip } => print(tiers::explain(&out, &clip)?.trim_end()),
            Self::Erase(erase) => erase.run(),
            Self::ExportSource(export) => export.run(),
            Self::Defaults => print(burn_hunyuan_curate::config::DEFAULT.trim_end()),
        }
    }
}

#[cfg(feature = "sql")]
fn sql(out: &Path, question: &str) -> Result<String> {
    Ok(burn_hunyuan_curate::tables::query(out, question)?)
}

#[cfg(not(feature = "sql"))]
fn sql(out: &Path, _question: &str) -> Result<String> {
    Err(Error::Request(format!(
        "this build answers no SQL; rebuild with `--features sql`, or open {} with DuckDB, pandas \
         or polars",
        out.join("clips.parquet").display()
    )))
}
