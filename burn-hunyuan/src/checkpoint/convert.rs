//! Stored bytes to values of the run's dtype.

use ::safetensors::Dtype;
use burn::tensor::{Element, FloatDType, Shape, TensorData};
use bytemuck::Pod;
use half::{bf16, f16, slice::HalfFloatSliceExt};
use rayon::prelude::*;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
use std::ops::Range;

use super::{Encoding, Error, StoredTensor, Weights};

/// Elements read and converted by one task; whole blocks of every encoding.
const TASK: usize = 1 << 18;
/// Elements that go through f32 at a time, on the stack; whole blocks of every encoding.
const BLOCK: usize = 1 << 10;

/// A float that weights are loaded as.
trait Value: Element + Copy + Pod + Send {
    /// Its stored form.
    const STORED: Dtype;
    fn finite(self) -> bool;
    fn narrow(values: &[f32], out: &mut [Self]);
}

impl Value for f32 {
    const STORED: Dtype = Dtype::F32;
    fn finite(self) -> bool {
        self.is_finite()
    }
    fn narrow(values: &[f32], out: &mut [Self]) {
        out.copy_from_slice(values);
    }
}

macro_rules! half_value {
    ($type:ty, $stored:expr) => {
        impl Value for $type {
            const STORED: Dtype = $stored;
            fn finite(self) -> bool {
                self.is_finite()
            }
            fn narrow(values: &[f32], out: &mut [Self]) {
                out.convert_from_f32_slice(values);
            }
        }
    };
}
half_value!(f16, Dtype::F16);
half_value!(bf16, Dtype::BF16);

/// Decodes values to `T` by way of f32.
fn convert<T: Value>(encoding: Encoding, scale: f32, bytes: &[u8], out: &mut [T]) {
    let mut wide = [0.0; BLOCK];
    for (out, bytes) in out
        .chunks_mut(BLOCK)
        .zip(bytes.chunks(encoded(encoding, BLOCK)))
    {
        let wide = &mut wide[..out.len()];
        encoding.decode(bytes, wide);
        if scale != 1.0 {
            wide.iter_mut().for_each(|value| *value *= scale);
        }
        T::narrow(wide, out);
    }
}

/// The bytes that `len` values take, where these are whole blocks.
fn encoded(encoding: Encoding, len: usize) -> usize {
    len / encoding.block_len() * encoding.block_bytes()
}

/// Zeros that the system has not handed out yet.
fn zeros<T: Value>(len: usize) -> Vec<T> {
    let values: Vec<T> = bytemuck::zeroed_vec(len);
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    on_huge_pages(bytemuck::cast_slice::<T, u8>(&values).as_ptr_range());
    values
}

/// Asks for huge pages behind large `memory`: page after page, the system takes as long to clear it
/// as the disk to read what goes there.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn on_huge_pages(memory: Range<*const u8>) {
    const PAGE: usize = 4096;
    const LARGE: usize = 4 << 20;
    let start = (memory.start as usize).next_multiple_of(PAGE);
    let len = (memory.end as usize / PAGE * PAGE).saturating_sub(start);
    if len >= LARGE {
        // SAFETY: advice on whole pages of memory that is allocated; no byte changes. Where there
        // are no huge pages the call fails, and all stays as it was.
        unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_HUGEPAGE) };
    }
}

/// Reads a tensor as `T`. Tasks read what they convert, so that some wait for the disk while others
/// compute; what needs no conversion is read to where it stays.
fn read_as<T: Value>(name: &str, tensor: &StoredTensor) -> Result<TensorData, Error> {
    let mut values = zeros::<T>(tensor.elements());
    let (encoding, scale) = (tensor.encoding(), tensor.scale());
    let is_stored_so = encoding == Encoding::Plain(T::STORED) && scale == 1.0;
    let read = |stored: &mut Vec<u8>, (task, out): (usize, &mut [T])| -> Result<bool, Error> {
        let start = encoded(encoding, task * TASK);
        if is_stored_so && cfg!(target_endian = "little") {
            tensor.read_at(start, bytemuck::cast_slice_mut(out))?;
        } else {
            stored.resize(encoded(encoding, out.len()), 0);
            tensor.read_at(start, stored)?;
            convert(encoding, scale, stored, out);
        }
        let finite = |finite, value: &T| finite & value.finite();
        Ok(out.iter().fold(true, finite))
    };
    // Tasks begin in order, so that the system can read ahead of them.
    let tasks = values.chunks_mut(TASK).enumerate().par_bridge();
    let is_finite = tasks
        .map_init(Vec::new, read)
        .try_reduce(|| true, |a, b| Ok(a & b))?;
    if !is_finite {
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
    match weights
        .iter()
        .find(|(_, tensor)| !tensor.encoding().is_float())
    {
        None => Ok(()),
        Some((name, tensor)) => Err(Error::Dtype {
            path: tensor.path().to_path_buf(),
            name: weights.name_in_file(name),
            dtype: tensor.encoding().to_string(),
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
