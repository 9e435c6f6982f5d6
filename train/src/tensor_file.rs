//! safetensors files, one tensor at a time: their contents are never all on the host.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Shape, TensorData};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Result},
    parameters::Parameters,
};

/// Where a tensor's bytes are.
#[derive(Clone, Debug)]
pub(crate) struct StoredTensor {
    path: PathBuf,
    offset: u64,
    bytes: usize,
    dtype: DType,
    shape: Vec<usize>,
}

impl StoredTensor {
    /// The extents.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Reads it, in the file's dtype.
    pub fn read(&self) -> Result<TensorData> {
        let mut bytes = vec![0; self.bytes];
        let mut read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_exact(&mut bytes)
        };
        read().map_err(Error::io("read", &self.path))?;
        let shape = Shape::from(self.shape.clone());
        Ok(TensorData::from_bytes_vec(bytes, shape, self.dtype))
    }
}

/// The tensors that a file's header lists: F32, F16 or BF16.
///
/// # Errors
/// A file that cannot be read, or whose header does not fit it.
pub(crate) fn open(path: &Path) -> Result<BTreeMap<String, StoredTensor>> {
    let damaged =
        |reason: &dyn ToString| Error::file(path, format!("damaged: {}", reason.to_string()));
    let (header, size) = read_header(path).map_err(Error::io("read", path))?;
    let start = 8 + header.len() as u64;
    let header: Map<String, Value> = serde_json::from_slice(&header).map_err(|e| damaged(&e))?;
    let tensors = header
        .into_iter()
        .filter(|(name, _)| name != "__metadata__");
    let parse = |(name, entry): (String, Value)| {
        let tensor = stored(path, &entry, start, size);
        let tensor = tensor.ok_or_else(|| damaged(&format!("`{name}` is {entry}")))?;
        Ok((name, tensor))
    };
    tensors.map(parse).collect()
}

/// The header, and the length of the file.
fn read_header(path: &Path) -> std::io::Result<(Vec<u8>, u64)> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    let mut length = [0; 8];
    file.read_exact(&mut length)?;
    let mut header = Vec::new();
    file.take(u64::from_le_bytes(length))
        .read_to_end(&mut header)?;
    Ok((header, size))
}

/// An entry of a header, if it fits a file of `size` bytes whose values begin at `start`.
fn stored(path: &Path, entry: &Value, start: u64, size: u64) -> Option<StoredTensor> {
    let (dtype, width) = match entry["dtype"].as_str()? {
        "F32" => (DType::F32, 4),
        "F16" => (DType::F16, 2),
        "BF16" => (DType::BF16, 2),
        _ => return None,
    };
    let list = |key: &str| -> Option<Vec<usize>> {
        let numbers = entry[key].as_array()?.iter();
        numbers.map(|n| usize::try_from(n.as_u64()?).ok()).collect()
    };
    let (shape, offsets) = (list("shape")?, list("data_offsets")?);
    let &[from, to] = offsets.as_slice() else {
        return None;
    };
    let bytes = to.checked_sub(from)?;
    let elements = shape.iter().try_fold(1_usize, |a, &b| a.checked_mul(b))?;
    let fits = start.checked_add(to as u64)? <= size && Some(bytes) == elements.checked_mul(width);
    fits.then(|| StoredTensor {
        path: path.to_path_buf(),
        offset: start + from as u64,
        bytes,
        dtype,
        shape,
    })
}

/// The texts of a file's metadata.
///
/// # Errors
/// As [`open`].
pub(crate) fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    let (header, _) = read_header(path).map_err(Error::io("read", path))?;
    let header: Value =
        serde_json::from_slice(&header).map_err(|e| Error::file(path, format!("damaged: {e}")))?;
    match header.get("__metadata__") {
        None => Ok(BTreeMap::new()),
        Some(texts) => BTreeMap::deserialize(texts)
            .map_err(|e| Error::file(path, format!("damaged: `__metadata__`: {e}"))),
    }
}

/// Writes parameters as f32. When this returns the file is on the disk.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write_parameters(path: &Path, parameters: &Parameters) -> Result<()> {
    let shapes = parameters.iter();
    let shapes = shapes.map(|(name, parameter)| (name, DType::F32, parameter.file_shape()));
    write(path, &BTreeMap::new(), shapes, |name| {
        parameters[name].to_file()
    })
}

/// Writes tensors and texts, the same ones always as the same bytes. `read` returns one tensor's
/// values. When this returns the file is on the disk.
///
/// # Errors
/// A file that cannot be written, numbers that are no floats.
pub(crate) fn write<'a>(
    path: &Path,
    texts: &BTreeMap<String, String>,
    tensors: impl Iterator<Item = (&'a String, DType, Vec<usize>)>,
    read: impl Fn(&str) -> TensorData,
) -> Result<()> {
    let (mut header, mut end) = (BTreeMap::new(), 0);
    if !texts.is_empty() {
        header.insert("__metadata__", json!(texts));
    }
    let mut names = Vec::new();
    for (name, dtype, shape) in tensors {
        let (dtype, width) = match dtype {
            DType::F32 => ("F32", 4),
            DType::F16 => ("F16", 2),
            DType::BF16 => ("BF16", 2),
            other => {
                let reason = format!("`{name}` is {other:?}, not a float");
                return Err(Error::file(path, reason));
            }
        };
        let bytes = width * shape.iter().product::<usize>();
        let entry = json!({"dtype": dtype, "shape": shape, "data_offsets": [end, end + bytes]});
        header.insert(name.as_str(), entry);
        names.push(name);
        end += bytes;
    }
    let mut header = json!(header).to_string();
    // Spaces keep the values aligned.
    header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
    let write = || {
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        for name in names {
            file.write_all(read(name).bytes())?;
        }
        file.into_inner()?.sync_all()
    };
    write().map_err(Error::io("write", path))
}
