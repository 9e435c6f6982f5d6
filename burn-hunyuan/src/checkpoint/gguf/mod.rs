//! The GGUF format (ggml's specification, versions 2 and 3), with the weights of city96's
//! HunyuanVideo files and of llama.cpp's LLaMA.

mod llama;
mod reader;

use std::{collections::HashMap, path::Path, sync::Arc};

use ::safetensors::Dtype;

use super::{Encoding, Error, StoredTensor, Weights, encoding::BlockType, storage::WeightsFile};
use reader::{Reader, Value};

/// Opens a file; its header is read, and checked against the file's size.
pub(super) fn open(path: &Path) -> Result<Weights, Error> {
    let file = Arc::new(WeightsFile::open(path)?);
    let malformed = |reason: String| Error::Malformed {
        path: path.to_path_buf(),
        format: "GGUF",
        reason,
    };
    let mut reader = Reader::new(file.bytes());
    let header = Header::read(&mut reader).map_err(malformed)?;
    let start = reader.position().next_multiple_of(header.alignment);
    let mut weights = Weights::new(path);
    for tensor in &header.tensors {
        let name = &tensor.name;
        let encoding = tensor.encoding().ok_or_else(|| Error::Dtype {
            path: path.to_path_buf(),
            name: name.clone(),
            dtype: format!("GGUF type {}", tensor.kind),
        })?;
        let bytes = tensor.bytes(encoding).map_err(malformed)?;
        let begin = tensor.offset.checked_add(start);
        let range = begin.and_then(|begin| Some(begin..begin.checked_add(bytes)?));
        let Some(range) = range.filter(|range| range.end <= file.bytes().len()) else {
            return Err(Error::Truncated {
                path: path.to_path_buf(),
                expected: begin.unwrap_or(usize::MAX).saturating_add(bytes) as u64,
                actual: file.bytes().len() as u64,
            });
        };
        let stored = StoredTensor::new(encoding, tensor.shape.clone(), file.clone(), range);
        let stored = match header.original_shape(name) {
            None => stored,
            Some(shape) => stored
                .reshaped(shape.clone())
                .ok_or_else(|| malformed(format!("`{name}` does not fill its shape {shape:?}")))?,
        };
        weights.insert(name.clone(), stored);
    }
    llama::translate(weights, &header.values)
}

/// A tensor according to the header.
struct Tensor {
    name: String,
    /// Outermost first, unlike in the file.
    shape: Vec<usize>,
    kind: u32,
    offset: usize,
}

struct Header {
    values: HashMap<String, Value>,
    tensors: Vec<Tensor>,
    alignment: usize,
}

impl Header {
    fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        if reader.bytes(4)? != b"GGUF" {
            return Err("it does not begin with GGUF".into());
        }
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("version {version}; versions 2 and 3 are read"));
        }
        let (tensors, values) = (reader.usize()?, reader.usize()?);
        let mut header = Self {
            values: HashMap::new(),
            tensors: Vec::new(),
            alignment: 32,
        };
        for _ in 0..values {
            let key = reader.string()?;
            let kind = reader.u32()?;
            header.values.insert(key, reader.value(kind)?);
        }
        if let Some(alignment) = header.values.get("general.alignment") {
            let valid = alignment
                .number()
                .filter(|n| n.is_power_of_two() && *n <= 1 << 20);
            header.alignment = valid.ok_or("its alignment is no small power of two")? as usize;
        }
        for _ in 0..tensors {
            header.tensors.push(Tensor::read(reader)?);
        }
        Ok(header)
    }

    /// The shape that a tensor of more than four axes had.
    fn original_shape(&self, name: &str) -> Option<Vec<usize>> {
        let shape = self.values.get(&format!("comfy.gguf.orig_shape.{name}"))?;
        shape
            .numbers()
            .map(|extents| extents.iter().map(|n| *n as usize).collect())
    }
}

impl Tensor {
    fn read(reader: &mut Reader<'_>) -> Result<Self, String> {
        let name = reader.string()?;
        let axes = reader.u32()?;
        if axes > 8 {
            return Err(format!("`{name}` has {axes} axes"));
        }
        let extents: Result<Vec<_>, _> = (0..axes).map(|_| reader.usize()).collect();
        let mut shape = extents?;
        shape.reverse();
        Ok(Self {
            name,
            shape,
            kind: reader.u32()?,
            offset: reader.usize()?,
        })
    }

    fn encoding(&self) -> Option<Encoding> {
        Some(match self.kind {
            0 => Dtype::F32.into(),
            1 => Dtype::F16.into(),
            24 => Dtype::I8.into(),
            25 => Dtype::I16.into(),
            26 => Dtype::I32.into(),
            27 => Dtype::I64.into(),
            28 => Dtype::F64.into(),
            30 => Dtype::BF16.into(),
            kind => Encoding::Blocks(BlockType::from_id(kind)?),
        })
    }

    /// Its length in the file.
    fn bytes(&self, encoding: Encoding) -> Result<usize, String> {
        let row = self.shape.last().copied().unwrap_or(1);
        if row % encoding.block_len() != 0 {
            let Self { name, shape, .. } = self;
            return Err(format!(
                "`{name}` {shape:?} does not divide into blocks of {encoding}"
            ));
        }
        let elements = self
            .shape
            .iter()
            .try_fold(1usize, |n, extent| n.checked_mul(*extent));
        elements
            .and_then(|n| (n / encoding.block_len()).checked_mul(encoding.block_bytes()))
            .ok_or_else(|| format!("`{}` is larger than memory", self.name))
    }
}
