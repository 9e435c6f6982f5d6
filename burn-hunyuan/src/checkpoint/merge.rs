//! A transformer written to one file, with the LoRAs that were added to it.

use std::{io::Write, ops::ControlFlow, path::Path};

use burn::tensor::{DType, Device, FloatDType, Tensor};
use serde_json::json;

use super::{
    Error as CheckpointError, Model, StoredTensor, Weights, convert,
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
    let shapes: Vec<_> = weights
        .iter()
        .map(|(name, stored)| (name, stored.shape().to_vec()))
        .collect();
    let read = |name: &str| match weights.get(name) {
        Some(stored) => bytes(&weights, name, stored, dtype, device),
        None => unreachable!("`{name}` is one of them"),
    };
    write(path, dtype, &shapes, read, progress)
}

/// Writes tensors under our names to a safetensors file in diffusers' layout. `read` returns the
/// little-endian values of one, in `dtype`.
pub(super) fn write(
    path: &Path,
    dtype: FloatDType,
    tensors: &[(&str, Vec<usize>)],
    read: impl Fn(&str) -> Result<Vec<u8>>,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<()> {
    let mut file = OutputFile::create(path)?;
    let (header, total) = header(tensors, dtype);
    let mut write = |bytes: &[u8]| file.write_all(bytes).map_err(|error| file.error(error));
    write(&(header.len() as u64).to_le_bytes())?;
    write(header.as_bytes())?;
    let mut done = 0;
    for (name, _) in tensors {
        let mut bytes = read(name)?;
        if in_diffusers(name).1 == Part::Swapped {
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
fn header(tensors: &[(&str, Vec<usize>)], dtype: FloatDType) -> (String, u64) {
    let (width, name) = match dtype {
        FloatDType::F16 => (2, "F16"),
        FloatDType::BF16 => (2, "BF16"),
        FloatDType::F32 | FloatDType::Flex32 | FloatDType::F64 => (4, "F32"),
    };
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for (ours, shape) in tensors {
        let offsets = [end, end + width * shape.iter().product::<usize>()];
        let entry = json!({"dtype": name, "shape": shape, "data_offsets": offsets});
        header.insert(in_diffusers(ours).0, entry);
        end = offsets[1];
    }
    let mut header = serde_json::Value::from(header).to_string();
    // Spaces keep the values aligned.
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    (header, end as u64)
}

/// The values of a tensor with its updates, little-endian.
fn bytes(
    weights: &Weights,
    name: &str,
    stored: &StoredTensor,
    dtype: FloatDType,
    device: &Device,
) -> Result<Vec<u8>> {
    let data = if weights.updates(name).is_empty() {
        convert::read(&weights.name_in_file(name), stored, dtype)?
    } else {
        // The device may not compute in `dtype`; the host converts.
        let sum: Tensor<2> = load::read(weights, name, stored, FloatDType::F32, device)?;
        sum.into_data().convert_dtype(DType::from(dtype))
    };
    Ok(data.bytes().to_vec())
}
