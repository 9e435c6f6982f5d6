//! `run.json`: what was run, with what, and what came out.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use super::{Plan, output};
use crate::{
    Error, Result, config,
    tables::{Row, text},
    tiers::{self, Medium, Sieve},
};

/// Its name in the output folder.
pub(super) const FILE: &str = "run.json";

/// The record of a run. It holds no times, so that a resumed run has the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this crate.
    pub version: String,
    /// Version of ffmpeg, in its own words.
    pub ffmpeg: String,
    /// The configuration with all defaults filled in.
    pub configuration: config::Config,
    /// Whether kept clips and images are written as files.
    #[serde(default = "cut")]
    pub cut: bool,
    /// What came out; absent while the run is under way.
    pub counts: Option<Counts>,
}

/// What a record of an earlier version means, which does not tell: where files are asked for, the
/// manifest names no source.
fn cut() -> bool {
    true
}

/// What came out of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Counts {
    /// Files of the input.
    pub sources: usize,
    /// Files whose bytes are another file's.
    pub identical_sources: usize,
    /// Files that could not be read to their end.
    pub sources_with_errors: usize,
    /// Kept clips and images that could not be written: their rows have a `file_error`.
    #[serde(default)]
    pub files_with_errors: usize,
    /// Rows of `clips.parquet`.
    pub clips: usize,
    /// Rows of `images.parquet`.
    pub images: usize,
    /// Clips and images by tier. A tier counts those that go no further.
    pub tiers: BTreeMap<String, usize>,
    /// What each stage left of the clips.
    pub video_funnel: Vec<Sieve>,
    /// What each stage left of the images.
    pub image_funnel: Vec<Sieve>,
}

impl Counts {
    /// Whether there is no clip and no image.
    pub fn is_empty(&self) -> bool {
        self.clips + self.images == 0
    }
}

impl Record {
    /// The record of a run that begins.
    ///
    /// # Errors
    /// If ffmpeg is not installed: better one error than one for each file.
    pub(super) fn begun(configuration: &config::Config, cut: bool) -> Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").into(),
            ffmpeg: ffmpeg_version()?,
            configuration: configuration.clone(),
            cut,
            counts: None,
        })
    }

    /// The record of the same run when it is done.
    pub(super) fn finished(self, plan: &Plan) -> Self {
        let rules = &self.configuration.tiers;
        let rows = || plan.clips.iter().chain(&plan.images);
        let mut tiers = BTreeMap::<String, usize>::new();
        for tier in rows()
            .map(|row| text(row, "tier"))
            .filter(|tier| !tier.is_empty())
        {
            *tiers.entry(tier.into()).or_default() += 1;
        }
        let with = |column: &str| {
            let given = |row: &&Row| row.get(column).is_some_and(|value| !value.is_null());
            plan.sources.iter().filter(given).count()
        };
        let counts = Counts {
            sources: plan.sources.len(),
            identical_sources: with("identical_to"),
            sources_with_errors: with("error"),
            files_with_errors: rows()
                .filter(|row| !text(row, "file_error").is_empty())
                .count(),
            clips: plan.clips.len(),
            images: plan.images.len(),
            tiers,
            video_funnel: tiers::funnel(rules, Medium::Video, &plan.clips),
            image_funnel: tiers::funnel(rules, Medium::Image, &plan.images),
        };
        Self {
            counts: Some(counts),
            ..self
        }
    }

    /// Reads the record in an output folder; none where there is no run.
    ///
    /// # Errors
    /// If there is one and it cannot be read.
    pub fn read(output: &Path) -> Result<Option<Self>> {
        let path = output.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read_to_string(&path).map_err(|source| Error::File {
            action: "read",
            path: path.clone(),
            source,
        })?;
        let record = serde_json::from_str(&text);
        record.map(Some).map_err(|error| Error::Unusable {
            path,
            problem: format!("not the record of a run of this version: {error}"),
        })
    }

    /// Reads the record of a run that has to be there.
    ///
    /// # Errors
    /// If there is none, or it cannot be read.
    pub fn open(output: &Path) -> Result<Self> {
        Self::read(output)?.ok_or_else(|| {
            Error::Request(format!(
                "{} holds no run.json; is it the output folder of `burn-hunyuan curate`?",
                output.display()
            ))
        })
    }

    pub(super) fn write(&self, output: &Path) -> Result<()> {
        let path = output.join(FILE);
        let mut text = serde_json::to_string_pretty(self).map_err(|error| Error::Unusable {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        text.push('\n');
        output::write(&path, text.as_bytes())
    }
}

/// The first line that ffmpeg prints about itself.
fn ffmpeg_version() -> Result<String> {
    let said = Command::new("ffmpeg").arg("-version").output();
    let said = said.map_err(|error| {
        Error::Request(format!(
            "cannot start ffmpeg ({error}); install it, with ffprobe"
        ))
    })?;
    let text = String::from_utf8_lossy(&said.stdout);
    Ok(text.lines().next().unwrap_or_default().into())
}
