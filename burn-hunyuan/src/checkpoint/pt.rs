//! PyTorch's `.pt` and `.bin` files. The pickle is parsed, never run: an object that it asks to be
//! built by calling a function is skipped, whatever the function.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use ::safetensors::Dtype;
use pytorch_reader::{DType, PytorchError, PytorchReader, Tensor};

use super::{Error, StoredTensor, Weights, pt_fp8, storage::Storage};

/// Dictionaries that trainers wrap around the weights, the preferred first.
const WRAPPERS: [&str; 5] = [
    "module.",
    "ema.",
    "state_dict.",
    "model_state_dict.",
    "model.",
];

/// Opens a file written by `torch.save`; weights inside a known wrapper lose its name.
pub(super) fn open(path: &Path) -> Result<Weights, Error> {
    let reader = match PytorchReader::new(path) {
        Ok(reader) => reader,
        Err(PytorchError::Io(source)) if source.kind() == io::ErrorKind::NotFound => {
            return Err(Error::Io {
                path: path.to_path_buf(),
                source,
            });
        }
        // A number format that the reader does not know.
        Err(error) if error.to_string().contains("float8") => return pt_fp8::open(path),
        Err(error) => {
            return Err(Error::Malformed {
                path: path.to_path_buf(),
                format: "PyTorch",
                reason: error.to_string(),
            });
        }
    };

    let latest = Arc::default();
    let mut weights = Weights::new(path);
    for (name, tensor) in reader.into_tensors() {
        let (dtype, shape, len) = (
            stored_dtype(tensor.dtype()),
            tensor.shape().to_vec(),
            tensor.byte_len(),
        );
        let latest = Arc::clone(&latest);
        let storage = Pickled {
            path: path.to_path_buf(),
            tensor,
            latest,
        };
        weights.insert(
            name,
            StoredTensor::new(dtype, shape, Arc::new(storage), 0..len),
        );
    }
    Ok(unwrapped(weights))
}

/// The weights inside a known wrapper, without its name; where there is none, all.
pub(super) fn unwrapped(weights: Weights) -> Weights {
    let mut inner = WRAPPERS.iter().map(|wrapper| weights.under(wrapper));
    inner.find(|inner| !inner.is_empty()).unwrap_or(weights)
}

/// A tensor of a `.pt` file.
struct Pickled {
    path: PathBuf,
    tensor: Tensor,
    latest: Arc<Mutex<Option<Latest>>>,
}

/// The tensor of a file that was read last. The reader yields whole tensors only, and the parts of
/// a fused one are loaded one after the other.
struct Latest {
    name: String,
    bytes: Vec<u8>,
}

impl Storage for Pickled {
    fn path(&self) -> &Path {
        &self.path
    }

    fn read_at(&self, start: usize, bytes: &mut [u8]) -> io::Result<()> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_latest = latest
            .as_ref()
            .is_some_and(|latest| latest.name == self.tensor.name);
        if !is_latest {
            *latest = None; // before the next one is read, not beside it
            *latest = Some(Latest {
                name: self.tensor.name.clone(),
                bytes: self.tensor.read()?,
            });
        }
        if let Some(latest) = &*latest {
            bytes.copy_from_slice(&latest.bytes[start..][..bytes.len()]);
        }
        Ok(())
    }
}

/// The same number format by its safetensors name.
fn stored_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
