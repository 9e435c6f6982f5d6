//! Named f32 tensors in safetensors files: inputs to start from and results to keep.

use std::{collections::BTreeMap, io::Write, path::Path};

use ::safetensors::Dtype;
use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::{
    checkpoint::{self, Weights, safetensors},
    error::{Error, Result},
    video::OutputFile,
};

/// Tensors to be saved, on the host as f32.
pub struct TensorFile {
    file: OutputFile,
    tensors: BTreeMap<String, (Vec<usize>, Vec<u8>)>,
}

impl TensorFile {
    /// Starts a file, which appears at `path` when it is [saved](Self::save).
    ///
    /// # Errors
    /// When it cannot be written there.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self {
            file: OutputFile::create(path)?,
            tensors: BTreeMap::new(),
        })
    }

    /// Adds a tensor, or appends it along its axis `axis` to the one of that name.
    ///
    /// Every axis before `axis` has to be 1, so that appending is contiguous.
    pub fn append<const D: usize>(&mut self, name: &str, tensor: Tensor<D>, axis: usize) {
        let shape = tensor.dims();
        debug_assert!(shape[..axis].iter().all(|&extent| extent == 1));
        let values = f32_data(tensor);
        let (whole, all) = self
            .tensors
            .entry(name.to_string())
            .or_insert_with(|| (shape.to_vec(), Vec::new()));
        if !all.is_empty() {
            whole[axis] += shape[axis];
        }
        all.extend_from_slice(values.bytes());
    }

    /// Adds a tensor.
    pub fn insert<const D: usize>(&mut self, name: &str, tensor: Tensor<D>) {
        let shape = tensor.dims().to_vec();
        self.tensors
            .insert(name.to_string(), (shape, f32_data(tensor).bytes().to_vec()));
    }

    /// Completes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(mut self) -> Result<()> {
        let tensors = self.tensors.iter();
        let tensors = tensors.map(|(name, (shape, _))| (name.clone(), Dtype::F32, &shape[..]));
        let (header, _) = safetensors::header(&[], tensors);
        let mut write = |bytes: &[u8]| self.file.write_all(bytes).map_err(|e| self.file.error(e));
        write(&header)?;
        for (_, values) in self.tensors.values() {
            write(values)?;
        }
        Ok(self.file.commit()?)
    }
}

/// Reads one tensor of a file of weights as f32; nothing else of the file but its header.
///
/// # Errors
/// When the file or the tensor is missing; when the tensor is no float, has another number of axes, or
/// holds NaN or infinity.
pub fn load_tensor<const D: usize>(path: &Path, name: &str, device: &Device) -> Result<Tensor<D>> {
    let weights = Weights::open(path)?;
    let Some(tensor) = weights.get(name) else {
        let names: Vec<_> = weights.names().collect();
        let reason = format!("has no tensor `{name}`; it has: {}", names.join(", "));
        return Err(Error::tensors(path, reason));
    };
    if !tensor.encoding().is_float() {
        let reason = format!("`{name}` is {}, not F32", tensor.encoding());
        return Err(Error::tensors(path, reason));
    }
    if tensor.shape().len() != D {
        let reason = format!("`{name}` is {:?}, expected {D} axes", tensor.shape());
        return Err(Error::tensors(path, reason));
    }
    match tensor.values(name) {
        Ok(values) => Ok(Tensor::from_data(values, (device, DType::F32))),
        Err(checkpoint::Error::NotFinite { .. }) => {
            let reason = format!("`{name}` holds values that are not finite");
            Err(Error::tensors(path, reason))
        }
        Err(error) => Err(error.into()),
    }
}

/// A tensor on the host, as f32.
fn f32_data<const D: usize>(tensor: Tensor<D>) -> TensorData {
    tensor.into_data().convert::<f32>()
}

/// The values of a tensor on the host, as f32.
pub(crate) fn to_f32<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    let data = f32_data(tensor);
    data.bytes()
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
        .collect()
}
