//! The safetensors format.

use std::{collections::HashMap, path::Path, sync::Arc};

use ::safetensors::{SafeTensors, tensor::SafeTensorError};

use super::{Error, StoredTensor, Weights, storage::MappedFile};

/// Opens a file; its header is read, and checked against the file's size.
pub(super) fn open(path: &Path) -> Result<Weights, Error> {
    let file = Arc::new(MappedFile::open(path)?);
    let (header, metadata) = SafeTensors::read_metadata(file.bytes())
        .map_err(|error| refused(path, file.bytes(), error))?;
    let data = size_of::<u64>() + header;
    let mut weights = Weights::new(path);
    for (name, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        let range = data + start..data + end;
        let tensor = StoredTensor::new(info.dtype, info.shape.clone(), file.clone(), range);
        weights.insert(name, tensor);
    }
    Ok(weights)
}

/// The free-form entries of a file's header; none of another format's.
pub(super) fn metadata(path: &Path) -> Result<HashMap<String, String>, Error> {
    let file = MappedFile::open(path)?;
    let metadata = SafeTensors::read_metadata(file.bytes())
        .ok()
        .and_then(|(_, header)| header.metadata().clone());
    Ok(metadata.unwrap_or_default())
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
        _ => Error::Malformed {
            path: path.to_path_buf(),
            format: "safetensors",
            reason: error.to_string(),
        },
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
