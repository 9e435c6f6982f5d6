//! A transformer written to one file, with the LoRAs that were added to it.

use std::{io::Write, ops::ControlFlow, path::Path};

use ::safetensors::Dtype;
use burn::tensor::{Device, FloatDType};
use serde_json::json;

use super::{
    Error as CheckpointError, Model, convert,
    layout::{Part, dit},
    load,
};
use crate::{error::Result, video::OutputFile};

/// Writes a model's transformer to a safetensors file in diffusers' layout, as `dtype`.
///
/// [Updates](Model::add_lora) are computed on `device`; one tensor at a time is in memory.
/// `progress` hears the bytes done and the bytes in all after each tensor, and may break off.
///
/// # Errors
/// Weights that cannot be read, a file that cannot be written, or a break-off. Nothing is left of
/// an incomplete file.
pub fn save_transformer(
    model: &Model,
    path: &Path,
    dtype: FloatDType,
    device: &Device,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let weights = model.transformer()?.weights;
    convert::check_dtypes(&weights)?;
    let tensors = weights.iter();
    let entries: Vec<_> = tensors
        .map(|(name, stored)| Entry::new(name, dtype, stored.shape().to_vec()))
        .collect();
    let read = |entry: &Entry| match weights.get(&entry.name) {
        Some(stored) => {
            let values = load::read_on_host(&weights, &entry.name, stored, dtype, device)?;
            Ok(values.bytes().to_vec())
        }
        None => unreachable!("`{}` is one of them", entry.name),
    };
    write(path, &[], &entries, read, progress)
}

/// A tensor to be written.
pub(super) struct Entry {
    /// Our name.
    pub name: String,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl Entry {
    /// One of values that are computed with.
    pub fn new(name: impl Into<String>, dtype: FloatDType, shape: Vec<usize>) -> Self {
        let dtype = match dtype {
            FloatDType::F16 => Dtype::F16,
            FloatDType::BF16 => Dtype::BF16,
            FloatDType::F32 | FloatDType::Flex32 | FloatDType::F64 => Dtype::F32,
        };
        Self::stored(name, dtype, shape)
    }

    /// One of values in any format.
    pub fn stored(name: impl Into<String>, dtype: Dtype, shape: Vec<usize>) -> Self {
        let name = name.into();
        Self { name, dtype, shape }
    }

    fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Writes tensors to a safetensors file in diffusers' layout, with `metadata` in its header. `read`
/// returns the bytes of one, little-endian; it is called for each in turn.
pub(super) fn write(
    path: &Path,
    metadata: &[(&str, String)],
    tensors: &[Entry],
    read: impl Fn(&Entry) -> Result<Vec<u8>>,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let mut file = OutputFile::create(path)?;
    let (header, total) = header(metadata, tensors);
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|error| file.error(error));
    write(&(header.len() as u64).to_le_bytes())?;
    write(header.as_bytes())?;
    let mut done = 0;
    for entry in tensors {
        let mut bytes = read(entry)?;
        if in_diffusers(&entry.name).1 == Part::Swapped {
            let half = bytes.len() / 2;
            bytes.rotate_left(half);
        }
        write(&bytes)?;
        done += bytes.len() as u64;
        if progress(done, total).is_break() {
            return Err(CheckpointError::Cancelled.into());
        }
    }
    Ok(file.commit()?)
}

/// The name of one of our tensors in diffusers' layout, and how its rows are ordered there.
fn in_diffusers(name: &str) -> (String, Part) {
    let split = name.rsplit_once('.');
    let found = split.and_then(|(layer, leaf)| {
        let (layer, part) = dit::layer_in(dit::DIFFUSERS, layer)?;
        Some((format!("{layer}.{leaf}"), part))
    });
    found.unwrap_or_else(|| (name.to_string(), Part::Whole))
}

/// The file's header, and the length of the values behind it.
fn header(metadata: &[(&str, String)], tensors: &[Entry]) -> (String, u64) {
    let mut about = json!({"format": "pt"});
    for (key, value) in metadata {
        about[key] = value.as_str().into();
    }
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), about);
    let mut end = 0;
    for entry in tensors {
        let offsets = [end, end + entry.byte_len()];
        let (dtype, shape) = (entry.dtype, &entry.shape);
        let described = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(in_diffusers(&entry.name).0, described);
        end = offsets[1];
    }
    let mut header = serde_json::Value::from(header).to_string();
    // Spaces keep the values aligned.
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    (header, end as u64)
}
