//! The safetensors format.

use std::{collections::HashMap, path::Path, sync::Arc};

use ::safetensors::{Dtype, SafeTensors, tensor::SafeTensorError};
use serde_json::json;

use super::{BlockType, Encoding, Error, StoredTensor, Weights, storage::WeightsFile};

/// The entry of a file's header that says in which block format its U8 tensors are, whose last axis
/// is then one of bytes.
pub(super) const BLOCKS: &str = "u8_blocks";

/// Opens a file; its header is read, and checked against the file's size.
pub(super) fn open(path: &Path) -> Result<Weights, Error> {
    let file = Arc::new(WeightsFile::open(path)?);
    let (header, metadata) = SafeTensors::read_metadata(file.bytes())
        .map_err(|error| refused(path, file.bytes(), error))?;
    let data = size_of::<u64>() + header;
    let blocks = metadata.metadata().as_ref().and_then(|m| m.get(BLOCKS));
    let blocks = blocks.map(|name| block_type(path, name)).transpose()?;
    let mut weights = Weights::new(path);
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let range = data + start..data + end;
        let mut shape = info.shape.clone();
        let encoding = match (blocks, shape.last_mut()) {
            (Some(blocks), Some(last)) if info.dtype == Dtype::U8 => {
                if !last.is_multiple_of(blocks.bytes()) {
                    let reason = format!("a row of `{name}` is {last} bytes, no whole {blocks}");
                    return Err(malformed(path, reason));
                }
                *last = *last / blocks.bytes() * blocks.len();
                Encoding::Blocks(blocks)
            }
            _ => Encoding::Plain(info.dtype),
        };
        weights.insert(
            name,
            StoredTensor::new(encoding, shape, file.clone(), range),
        );
    }
    Ok(weights)
}

fn block_type(path: &Path, name: &str) -> Result<BlockType, Error> {
    let unknown = || {
        malformed(
            path,
            format!("`{BLOCKS}` is `{name}`, which is no block format"),
        )
    };
    BlockType::from_name(name).ok_or_else(unknown)
}

fn malformed(path: &Path, reason: String) -> Error {
    Error::Malformed {
        path: path.to_path_buf(),
        format: "safetensors",
        reason,
    }
}

/// The free-form entries of a file's header; none of another format's.
pub(super) fn metadata(path: &Path) -> Result<HashMap<String, String>, Error> {
    let file = WeightsFile::open(path)?;
    let metadata = SafeTensors::read_metadata(file.bytes())
        .ok()
        .and_then(|(_, header)| header.metadata().clone());
    Ok(metadata.unwrap_or_default())
}

/// The beginning of a file up to the values, and the bytes that these take. They follow in the order of
/// `tensors`: names, number formats and extents. `metadata` is free-form.
pub(crate) fn header<'a>(
    metadata: &[(&str, &str)],
    tensors: impl IntoIterator<Item = (String, Dtype, &'a [usize])>,
) -> (Vec<u8>, u64) {
    let mut header = serde_json::Map::new();
    if !metadata.is_empty() {
        let metadata: HashMap<_, _> = metadata.iter().copied().collect();
        header.insert("__metadata__".into(), json!(metadata));
    }
    let mut end = 0;
    for (name, dtype, shape) in tensors {
        let offsets = [
            end,
            end + shape.iter().product::<usize>() * dtype.bitsize() / 8,
        ];
        let described = json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert(name, described);
        end = offsets[1];
    }
    let mut header = serde_json::Value::from(header).to_string();
    // Spaces keep the values aligned.
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let length = (header.len() as u64).to_le_bytes();
    ([&length, header.as_bytes()].concat(), end as u64)
}

/// Why a safetensors file does not open; a file cut short is told apart.
fn refused(path: &Path, bytes: &[u8], error: SafeTensorError) -> Error {
    let header = bytes.first_chunk().map(|b| u64::from_le_bytes(*b));
    let expected = match (&error, header) {
        (SafeTensorError::InvalidHeaderLength, Some(len)) if bytes.get(8) == Some(&b'{') => {
            len.checked_add(8)
        }
        (SafeTensorError::MetadataIncompleteBuffer, Some(len)) => announced_size(bytes, len),
        _ => None,
    };
    match expected {
        Some(expected) if expected > bytes.len() as u64 => Error::Truncated {
            path: path.to_path_buf(),
            expected,
            actual: bytes.len() as u64,
        },
        _ => malformed(path, error.to_string()),
    }
}

/// Size of a safetensors file according to the end of its last tensor.
fn announced_size(bytes: &[u8], header: u64) -> Option<u64> {
    let start = usize::try_from(header).ok()?.checked_add(8)?;
    let json: serde_json::Value = serde_json::from_slice(bytes.get(8..start)?).ok()?;
    let ends = json
        .as_object()?
        .values()
        .filter_map(|info| info["data_offsets"][1].as_u64());
    ends.max()?.checked_add(start as u64)
}
