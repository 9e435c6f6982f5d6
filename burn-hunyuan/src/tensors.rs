//! Named f32 tensors in safetensors files: inputs to start from and results to keep.

use std::{collections::BTreeMap, io::Write, path::Path};

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::{
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

    /// Completes the file: the length of the header, the header, the values.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(mut self) -> Result<()> {
        let (mut header, mut end) = (serde_json::Map::new(), 0);
        for (name, (shape, values)) in &self.tensors {
            let offsets = [end, end + values.len()];
            let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": offsets});
            header.insert(name.clone(), entry);
            end += values.len();
        }
        let mut header = serde_json::Value::from(header).to_string();
        // Spaces keep the values aligned.
        header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
        let mut write = |bytes: &[u8]| self.file.write_all(bytes).map_err(|e| self.file.error(e));
        write(&(header.len() as u64).to_le_bytes())?;
        write(header.as_bytes())?;
        for (_, values) in self.tensors.values() {
            write(values)?;
        }
        Ok(self.file.commit()?)
    }
}

/// Reads one tensor of a safetensors file as f32.
///
/// # Errors
/// When the file or the tensor is missing; when the tensor is not F32, F16 or BF16, has another
/// number of axes, or holds NaN or infinity.
pub fn load_tensor<const D: usize>(path: &Path, name: &str, device: &Device) -> Result<Tensor<D>> {
    let bytes = std::fs::read(path).map_err(|source| Error::Io {
        path: path.into(),
        source,
    })?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|e| Error::tensors(path, format!("not a usable safetensors file: {e}")))?;
    let view = file.tensor(name).map_err(|_| {
        let names = file.names().join(", ");
        Error::tensors(path, format!("has no tensor `{name}`; it has: {names}"))
    })?;
    let dtype = match view.dtype() {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        other => {
            return Err(Error::tensors(
                path,
                format!("`{name}` is {other}, not F32"),
            ));
        }
    };
    let shape: [usize; D] = view.shape().try_into().map_err(|_| {
        let shape = view.shape();
        Error::tensors(path, format!("`{name}` is {shape:?}, expected {D} axes"))
    })?;
    let data = TensorData::from_bytes_vec(view.data().to_vec(), shape, dtype).convert::<f32>();
    if data.iter::<f32>().any(|value| !value.is_finite()) {
        let reason = format!("`{name}` holds values that are not finite");
        return Err(Error::tensors(path, reason));
    }
    Ok(Tensor::from_data(data, (device, DType::F32)))
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
