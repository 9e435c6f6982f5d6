//! Stored bytes to values of the run's dtype.

use ::safetensors::Dtype;
use burn::tensor::{Element, FloatDType, Shape, TensorData};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;

use super::{Error, StoredTensor, Weights};

/// Elements converted by one task.
const TASK: usize = 1 << 16;
/// Elements that go through f32 at a time, on the stack.
const BLOCK: usize = 1 << 10;

/// A float that weights are loaded as.
trait Value: Element + Copy + Default + Send {
    /// Its stored form.
    const STORED: Dtype;
    fn from_le(bytes: &[u8]) -> Self;
    fn finite(self) -> bool;
    fn narrow(values: &[f32], out: &mut [Self]);
    fn widen(values: &[Self], out: &mut [f32]);
}

impl Value for f32 {
    const STORED: Dtype = Dtype::F32;
    fn from_le(bytes: &[u8]) -> Self {
        Self::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }
    fn finite(self) -> bool {
        self.is_finite()
    }
    fn narrow(values: &[f32], out: &mut [Self]) {
        out.copy_from_slice(values);
    }
    fn widen(values: &[Self], out: &mut [f32]) {
        out.copy_from_slice(values);
    }
}

macro_rules! half_value {
    ($type:ty, $stored:expr) => {
        impl Value for $type {
            const STORED: Dtype = $stored;
            fn from_le(bytes: &[u8]) -> Self {
                Self::from_le_bytes([bytes[0], bytes[1]])
            }
            fn finite(self) -> bool {
                self.is_finite()
            }
            fn narrow(values: &[f32], out: &mut [Self]) {
                out.convert_from_f32_slice(values);
            }
            fn widen(values: &[Self], out: &mut [f32]) {
                values.convert_to_f32_slice(out);
            }
        }
    };
}
half_value!(f16, Dtype::F16);
half_value!(bf16, Dtype::BF16);

/// Copies little-endian values out of a file.
fn copy<T: Value>(bytes: &[u8], out: &mut [T]) {
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(size_of::<T>())) {
        *value = T::from_le(bytes);
    }
}

/// Converts values stored as `S` to `T`.
fn convert<S: Value, T: Value>(bytes: &[u8], out: &mut [T]) {
    let (mut stored, mut wide) = ([S::default(); BLOCK], [0.0; BLOCK]);
    for (out, bytes) in out
        .chunks_mut(BLOCK)
        .zip(bytes.chunks(BLOCK * size_of::<S>()))
    {
        let (stored, wide) = (&mut stored[..out.len()], &mut wide[..out.len()]);
        copy(bytes, stored);
        S::widen(stored, wide);
        T::narrow(wide, out);
    }
}

/// Fills `out` from stored bytes; whether all values are finite.
fn fill<T: Value>(dtype: Dtype, bytes: &[u8], out: &mut [T]) -> bool {
    let width = bytes.len() / out.len().max(1);
    let task = |(out, bytes): (&mut [T], &[u8])| {
        match dtype {
            stored if stored == T::STORED => copy(bytes, out),
            Dtype::F32 => convert::<f32, T>(bytes, out),
            Dtype::F16 => convert::<f16, T>(bytes, out),
            _ => convert::<bf16, T>(bytes, out),
        }
        out.iter()
            .fold(true, |finite, value| finite & value.finite())
    };
    out.par_chunks_mut(TASK)
        .zip(bytes.par_chunks(TASK * width.max(1)))
        .map(task)
        .reduce(|| true, |a, b| a & b)
}

/// Reads a tensor as `T`, with its bytes copied once.
fn read_as<T: Value>(name: &str, tensor: &StoredTensor) -> Result<TensorData, Error> {
    let mut values = vec![T::default(); tensor.elements()];
    let (mut filled, mut finite) = (0, true);
    let width = tensor.dtype().bitsize() / 8;
    tensor.read(&mut |bytes| {
        let end = filled + bytes.len() / width;
        finite &= fill(tensor.dtype(), bytes, &mut values[filled..end]);
        filled = end;
    })?;
    if !finite {
        return Err(Error::NotFinite {
            path: tensor.path().to_path_buf(),
            name: name.to_string(),
            dtype: T::dtype().name(),
        });
    }
    Ok(TensorData::new(
        values,
        Shape::from(tensor.shape().to_vec()),
    ))
}

/// Refuses number formats that [`read`] does not convert.
pub(super) fn check_dtypes(weights: &Weights) -> Result<(), Error> {
    let is_float = |dtype| matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
    match weights.iter().find(|(_, tensor)| !is_float(tensor.dtype())) {
        None => Ok(()),
        Some((name, tensor)) => Err(Error::Dtype {
            path: tensor.path().to_path_buf(),
            name: weights.name_in_file(name),
            dtype: tensor.dtype().to_string(),
        }),
    }
}

/// Reads a tensor in the run's dtype; one copy of it is in memory.
pub(super) fn read(
    name: &str,
    tensor: &StoredTensor,
    dtype: FloatDType,
) -> Result<TensorData, Error> {
    match dtype {
        FloatDType::F16 => read_as::<f16>(name, tensor),
        FloatDType::BF16 => read_as::<bf16>(name, tensor),
        FloatDType::F32 | FloatDType::Flex32 | FloatDType::F64 => read_as::<f32>(name, tensor),
    }
}
