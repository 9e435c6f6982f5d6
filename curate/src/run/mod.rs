//! The pipeline: sources to clips, clips to tiers.
//!
//! ```text
//! inputs ─ ingest ─► sources ─ measure, one by one ─► shards ─ plan, all at once ─► tables, clips
//! ```
//!
//! The work on a source is a function from its row to the rows of its clips ([`Measure`]); it
//! shares nothing with other sources, so sources are worked on in parallel and in any order. What
//! needs the whole set, duplicates, concepts and tiers, is a plan over the rows ([`plan`]). Between
//! the two lies a file for each source, its [`Shard`]: what a killed run has finished.

mod clip;
mod fault;
mod ingest;
mod keep;
mod measure;
pub(crate) mod output;
mod pending;
mod plan;
mod progress;
mod record;
mod shard;
mod source;

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs::{self, File},
    path::{Path, PathBuf},
};

use burn::tensor::Device;

pub use clip::{Clip, Media, OverlaySummary};
pub(crate) use ingest::sha256;
pub use ingest::{Found, Ingest, Source, list};
pub use measure::{Config, Measure};
pub use plan::{Plan, plan};
pub use progress::{Observer, Progress, Stage};
pub use record::{Counts, Record};
pub use shard::{Measured, Shard};

use crate::{Error, Result, config, privacy::Date};
use ingest::unread_id;
use progress::{Meter, in_parallel};

/// The output folder and those within, which hold all that a run writes.
pub(crate) const FOLDERS: [&str; 5] = ["", "sources", "clips", "images", "thumbnails"];

/// What is asked of a run.
#[derive(Debug, Clone)]
pub struct Request {
    /// Files, folders and lists of files.
    pub inputs: Vec<PathBuf>,
    /// The folder that receives everything.
    pub output: PathBuf,
    /// What decides.
    pub config: config::Config,
    /// Sources worked on at once.
    pub jobs: usize,
    /// Whether `output` may hold a run to go on with.
    pub resume: bool,
    /// Whether kept clips and images are written as files.
    pub cut: bool,
    /// Where tensors live.
    pub device: Device,
}

/// Runs the whole pipeline.
///
/// What is wrong with a file stands in its row and stops nothing.
///
/// # Errors
/// If the request cannot be carried out, the output cannot be written, or the observer stops the
/// run ([`Error::Interrupted`]); what is finished by then is kept, and `resume` goes on from it.
pub fn curate(request: &Request, observer: Observer) -> Result<Record> {
    let files = list(&request.inputs, &request.output)?;
    if files.is_empty() {
        return Err(Error::Request(
            "the input holds no video and no image; name files, or folders with mp4, mkv, mov, \
             webm, png, jpg, webp, …"
                .into(),
        ));
    }
    let record = settle(request)?;
    let config = &record.configuration;
    let tools = Measure::new(config, &request.device)?;
    let _claim = begin(&record, &request.output)?;
    let sources = ingest(&files, config, request, observer)?;
    measure(&sources, &tools, request, observer)?;

    let shards = Shard::read_all(&request.output)?;
    let mut plan = plan(&shards, config, &request.device, observer)?;
    if request.cut {
        keep::write_files(&mut plan, &sources, config, request, observer)?;
    }
    finish(&request.output, record, plan)
}

/// The record of the run that begins, whose configuration has all that its beginning settles. Nothing
/// is written yet: a request that cannot be carried out leaves no trace.
fn settle(request: &Request) -> Result<Record> {
    let output = &request.output;
    let mut config = request.config.clone();
    config.check()?;
    Ingest::new(&config.privacy)?;
    if !request.cut && config.privacy.pseudonym_key.is_some() {
        return Err(Error::Request(
            "without cut clips the manifest has to name the sources, which privacy.pseudonym_key \
             forbids: leave out --no-cut or the key"
                .into(),
        ));
    }
    let begun = Record::read(output)?;
    // A run that was killed at its very beginning leaves this and nothing else.
    let unfinished = output::unfinished(&output.join(record::FILE));
    let occupied = || {
        fs::read_dir(output)
            .is_ok_and(|files| files.flatten().any(|file| file.path() != unfinished))
    };
    let shown = output.display();
    match begun {
        Some(_) if !request.resume => {
            return Err(Error::Request(format!(
                "{shown} holds a run already; go on with it by --resume, or name another folder"
            )));
        }
        None if occupied() => {
            return Err(Error::Request(format!(
                "{shown} is not empty and holds no run; name another folder"
            )));
        }
        Some(begun) => {
            config.privacy.date = config.privacy.date.or(begun.configuration.privacy.date);
            if !config.measures_as(&begun.configuration) {
                return Err(Error::Request(format!(
                    "the run in {shown} was begun with another configuration, which its run.json \
                     holds: but for [[tier]], [duplicates], [clusters] and [concepts] it has to stay; \
                     resume with that one, or name another folder"
                )));
            }
        }
        None => config.privacy.date = config.privacy.date.or_else(|| Some(Date::today())),
    }
    Record::begun(&config, request.cut)
}

/// Prepares the output folder, and keeps others out of it.
fn begin(record: &Record, output: &Path) -> Result<Option<File>> {
    output::create_folder(output)?;
    let claim = output::claim(output)?;
    // First of all, so that whatever a killed run leaves can be told for a run's.
    record.write(output)?;
    for folder in FOLDERS {
        let folder = output.join(folder);
        output::create_folder(&folder)?;
        output::discard_unfinished(&folder)?;
    }
    Ok(claim)
}

/// The sources of all files, those with the same bytes together, the first of them first.
fn ingest(
    files: &[PathBuf],
    config: &config::Config,
    request: &Request,
    observer: Observer,
) -> Result<Vec<Vec<Found>>> {
    let ingest = Ingest::new(&config.privacy)?;
    let size = |path: &PathBuf| fs::metadata(path).map_or(0, |metadata| metadata.len());
    let meter = Meter::new(observer, Stage::Ingest, files.iter().map(size).sum());
    let found = in_parallel(request.jobs, files, |path| {
        ingest.source(path, |bytes| meter.add(bytes))
    })?;
    Ok(together(found))
}

/// The files that have one id.
fn together(found: Vec<Found>) -> Vec<Vec<Found>> {
    let mut sources = BTreeMap::<String, Vec<Found>>::new();
    for mut found in found {
        let copies = sources.entry(found.source.id.clone()).or_default();
        if let Some(first) = copies.first()
            && first.source.sha256 != found.source.sha256
        {
            // Not by chance, but somebody may have made it so.
            let problem = "its SHA-256 begins as that of another file, by which both are named";
            found.source.error = Some(problem.into());
        }
        copies.push(found);
    }
    sources.into_values().collect()
}

/// Writes the shard of every source that has none.
fn measure(
    sources: &[Vec<Found>],
    measure: &Measure,
    request: &Request,
    observer: Observer,
) -> Result<()> {
    let size = |copies: &Vec<Found>| copies[0].source.bytes.unwrap_or(0);
    let meter = Meter::new(observer, Stage::Measure, sources.iter().map(size).sum());
    in_parallel(request.jobs, sources, |copies| {
        let rows: Vec<Source> = copies.iter().map(|found| found.source.clone()).collect();
        let done = Shard::read(&request.output, &rows[0].id)?;
        // The clips depend on the bytes alone, but that a sidecar can forbid them.
        let usable = |shard: &Shard| {
            let first = &shard.sources[0];
            first.sha256 == rows[0].sha256 && first.error.is_some() == rows[0].error.is_some()
        };
        let shard = match done.filter(usable) {
            Some(_) if meter.add(size(copies)).is_break() => return Err(Error::Interrupted),
            Some(shard) if shard.sources == rows => return Ok(()),
            Some(shard) => Shard {
                sources: rows,
                ..shard
            },
            None => source::measure(&copies[0], rows, measure, &request.output, &meter)?,
        };
        shard.write(&request.output)
    })?;
    forget_unread(sources, &request.output)
}

/// Removes the shards of files that an earlier run could not read and this one has read.
fn forget_unread(sources: &[Vec<Found>], output: &Path) -> Result<()> {
    let found = sources.iter().flatten().map(|found| &found.source);
    for read in found.filter(|source| source.sha256.is_some()) {
        let stale = Shard::path(output, &unread_id(&read.name));
        if stale.exists() {
            output::remove(&stale)?;
        }
    }
    Ok(())
}

/// Writes the tables, the manifest and the record.
pub(crate) fn finish(output: &Path, record: Record, mut plan: Plan) -> Result<Record> {
    keep::note_files(&mut plan, output);
    plan.write(output)?;
    keep::write_manifest(output, &plan, record.cut)?;
    let record = record.finished(&plan);
    record.write(output)?;
    Ok(record)
}

/// Hexadecimal digits of bytes.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An id is short enough that somebody can make two files that share one.
    #[test]
    fn files_are_one_by_all_their_bytes() {
        let file = |name: &str, sha256: &str| {
            let source = serde_json::json!({
                "id": &sha256[..4],
                "name": name,
                "kind": "video",
                "sha256": sha256,
                "expired": false,
            });
            Found {
                source: serde_json::from_value(source).unwrap(),
                path: name.into(),
            }
        };
        let found = [
            ("a", "12345"),
            ("b", "12346"),
            ("c", "12345"),
            ("d", "99999"),
        ];
        let sources = together(found.map(|(name, sha256)| file(name, sha256)).into());
        let told: Vec<(&str, bool)> = sources
            .iter()
            .flatten()
            .map(|found| (found.source.name.as_str(), found.source.error.is_some()))
            .collect();
        assert_eq!(
            told,
            [("a", false), ("b", true), ("c", false), ("d", false)]
        );
        assert_eq!(sources.len(), 2);
    }
}
