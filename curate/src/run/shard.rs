//! What was found out about one source, in a file of its own.
//!
//! A source is done when its shard is there. A run that was killed takes up where the shards end,
//! and every table is made from shards that were read back, so that it cannot matter when they were
//! written.

use std::{
    fs,
    path::{Path, PathBuf},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Clip, Source, output};
use crate::{Error, Result};

/// The folder of shards within the output.
const FOLDER: &str = "sources";

/// A source, under all its names, and its clips.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// One row for each file with these bytes; the first was worked on.
    pub sources: Vec<Source>,
    /// What the file was found to hold; absent where it could not be read.
    pub media: Option<super::Media>,
    /// Why the work on it ended early.
    pub error: Option<String>,
    /// Its clips, or its one image.
    pub clips: Vec<Measured>,
}

/// A clip with its embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The row.
    pub clip: Clip,
    /// The embedding, for duplicates and concepts.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub embedding: Vec<f32>,
}

impl Shard {
    /// The file of a source's shard.
    pub fn path(output: &Path, source: &str) -> PathBuf {
        output.join(FOLDER).join(format!("{source}.json"))
    }

    /// Reads the shard of a source; none where the source is not done.
    ///
    /// # Errors
    /// If there is one and it cannot be read.
    pub fn read(output: &Path, source: &str) -> Result<Option<Self>> {
        let path = Self::path(output, source);
        path.exists().then(|| Self::open(&path)).transpose()
    }

    /// Reads all shards, in the order of their sources' ids.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn read_all(output: &Path) -> Result<Vec<Self>> {
        let files = output::files(&output.join(FOLDER))?;
        let shards = files
            .iter()
            .filter(|path| path.extension().is_some_and(|e| e == "json"));
        shards.map(|path| Self::open(path)).collect()
    }

    fn open(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(|source| Error::File {
            action: "read",
            path: path.into(),
            source,
        })?;
        let shard: Result<Self, _> = serde_json::from_slice(&bytes);
        let problem = match shard {
            Ok(shard) if !shard.sources.is_empty() => return Ok(shard),
            Ok(_) => "it names no source".to_string(),
            Err(error) => error.to_string(),
        };
        Err(Error::Unusable {
            path: path.into(),
            problem: format!("not a shard of this version ({problem}); remove it and resume"),
        })
    }

    /// Writes the shard: the source is done. A clip with a number that is none is left out, and is
    /// the shard's error.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, output: &Path) -> Result<()> {
        let Some(source) = self.sources.first() else {
            return Ok(());
        };
        let path = Self::path(output, &source.id);
        let mut sound = self.clone();
        sound.clips.retain(|measured| {
            let fault = measured.fault();
            sound.error = fault.clone().or(sound.error.take());
            fault.is_none()
        });
        let bytes = serde_json::to_vec(&sound).map_err(|error| Error::Unusable {
            path: path.clone(),
            problem: error.to_string(),
        })?;
        output::write(&path, &bytes)
    }
}

impl Measured {
    /// What is wrong with its numbers. JSON would say null of those that are not finite, as of what
    /// is not known; TOML knows them.
    fn fault(&self) -> Option<String> {
        let column = match toml::Table::try_from(&self.clip) {
            Ok(fields) => not_finite(&fields),
            Err(error) => Some(error.to_string()),
        };
        let embedded = self.embedding.iter().all(|value| value.is_finite());
        let column = column.or_else(|| (!embedded).then(|| "the embedding".into()))?;
        let id = &self.clip.id;
        Some(format!(
            "{id} is left out: {column} is not a number; this is a fault of the program"
        ))
    }
}

/// The column of the first number that is not finite.
fn not_finite(fields: &toml::Table) -> Option<String> {
    fields.iter().find_map(|(name, value)| match value {
        toml::Value::Float(number) if !number.is_finite() => Some(name.clone()),
        toml::Value::Table(inner) => Some(format!("{name}_{}", not_finite(inner)?)),
        _ => None,
    })
}

/// Little-endian bytes in base 64: every bit comes back, in half the space of decimal digits.
fn to_base64<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    serializer.serialize_str(&BASE64_STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = BASE64_STANDARD.decode(text).map_err(de::Error::custom)?;
    let (values, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        return Err(de::Error::custom("not a whole number of values"));
    }
    Ok(values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect())
}
