//! A transformer written to one file, with the LoRAs that were added to it.

use std::{io::Write, ops::ControlFlow, path::Path};

use ::safetensors::Dtype;
use burn::tensor::{Device, FloatDType};

use super::{
    Error as CheckpointError, Model, convert,
    layout::{Part, dit},
    load, safetensors,
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
    let weights = &model.transformer()?.weights;
    convert::check_dtypes(weights)?;
    let entries: Vec<_> = weights
        .iter()
        .map(|(name, stored)| {
            let read = move || {
                let values = load::read_on_host(weights, name, stored, dtype, device)?;
                Ok(values.bytes().to_vec())
            };
            Entry::new(name, plain(dtype), stored.shape().to_vec(), read)
        })
        .collect();
    write(path, &[], &entries, progress)
}

/// How values that are computed with as `dtype` are stored.
pub(super) fn plain(dtype: FloatDType) -> Dtype {
    match dtype {
        FloatDType::F16 => Dtype::F16,
        FloatDType::BF16 => Dtype::BF16,
        FloatDType::F32 | FloatDType::Flex32 | FloatDType::F64 => Dtype::F32,
    }
}

/// Reads tensors to be written: their bytes, little-endian.
type Read<'a> = dyn Fn() -> Result<Vec<u8>> + 'a;

/// What is to be written at a time: a tensor, or some that are made together.
pub(super) struct Entry<'a> {
    /// Our names, number formats and extents, in the order of their bytes.
    tensors: Vec<(String, Dtype, Vec<usize>)>,
    read: Box<Read<'a>>,
}

impl<'a> Entry<'a> {
    /// A tensor under our name.
    pub fn new(
        name: &str,
        dtype: Dtype,
        shape: Vec<usize>,
        read: impl Fn() -> Result<Vec<u8>> + 'a,
    ) -> Self {
        Self {
            tensors: vec![(name.to_string(), dtype, shape)],
            read: Box::new(read),
        }
    }

    /// The same, where `read` returns the bytes of another tensor as well.
    pub fn with(mut self, name: String, dtype: Dtype, shape: Vec<usize>) -> Self {
        self.tensors.push((name, dtype, shape));
        self
    }
}

/// Writes tensors to a safetensors file in diffusers' layout, with `metadata` in its header. One entry
/// at a time is in memory.
pub(super) fn write(
    path: &Path,
    metadata: &[(&str, &str)],
    entries: &[Entry],
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let mut file = OutputFile::create(path)?;
    let tensors = entries.iter().flat_map(|entry| &entry.tensors);
    let tensors = tensors.map(|(name, dtype, shape)| (in_diffusers(name).0, *dtype, &shape[..]));
    let metadata = [&[("format", "pt")], metadata].concat();
    let (header, total) = safetensors::header(&metadata, tensors);
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|error| file.error(error));
    write(&header)?;
    let mut done = 0;
    for Entry { tensors, read } in entries {
        let mut bytes = read()?;
        if in_diffusers(&tensors[0].0).1 == Part::Swapped {
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
