//! A transformer's weights in fewer bits.

use std::{fmt, ops::ControlFlow, path::Path, str::FromStr, sync::Arc};

use ::safetensors::Dtype;
use burn::tensor::{Device, FloatDType};
use rayon::prelude::*;

use super::{
    BlockType, Encoding, Error, Model, StoredTensor, Weights, convert,
    encoding::{E4M3_MAX, e4m3},
    load,
    merge::{self, Entry},
    safetensors::BLOCKS,
    storage::Memory,
};
use crate::error::Result as PipelineResult;

/// A format of fewer bits for the large matrices of the transformer's blocks: queries, keys, values,
/// projections and MLPs, three quarters of all weights. The rest stays as it is: norms, biases,
/// modulation, embeddings, and the layers before and after the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantization {
    /// Eight-bit integers, a scale for each 32 of them: 8.5 bits a weight (GGUF's `Q8_0`).
    Int8,
    /// Four-bit integers, a scale for each 32 of them: 4.5 bits a weight (GGUF's `Q4_0`).
    Int4,
    /// Eight-bit floats (`F8_E4M3`), one scale for a matrix, as ComfyUI's "scaled" files have it.
    Fp8,
}

impl Quantization {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Int8, Self::Int4, Self::Fp8];

    /// How the numbers are stored.
    pub fn encoding(self) -> Encoding {
        match self {
            Self::Int8 => Encoding::Blocks(BlockType::Q8_0),
            Self::Int4 => Encoding::Blocks(BlockType::Q4_0),
            Self::Fp8 => Encoding::Plain(Dtype::F8_E4M3),
        }
    }

    /// Whether the tensor called `name` is to be stored so.
    pub(crate) fn applies(self, name: &str, shape: &[usize]) -> bool {
        let [_, inputs] = shape else { return false };
        let in_block = ["dual_blocks.", "single_blocks."]
            .iter()
            .any(|blocks| name.starts_with(blocks));
        in_block
            && name.ends_with(".weight")
            && !name.ends_with("modulation.weight")
            && inputs.is_multiple_of(self.encoding().block_len())
    }

    /// The bytes of a matrix, and what its numbers are to be multiplied with.
    fn encode(self, values: &[f32]) -> (Vec<u8>, f32) {
        /// Values encoded by one task; whole blocks.
        const TASK: usize = 1 << 14;
        let tasks = values.par_chunks(TASK);
        match self.encoding() {
            Encoding::Blocks(blocks) => {
                let encoded = tasks.map(|values| {
                    let mut bytes =
                        Vec::with_capacity(values.len() / blocks.len() * blocks.bytes());
                    blocks.encode(values, &mut bytes);
                    bytes
                });
                (encoded.collect::<Vec<_>>().concat(), 1.0)
            }
            Encoding::Plain(_) => {
                let largest =
                    |values: &[f32]| values.iter().fold(0.0_f32, |max, v| max.max(v.abs()));
                let largest = tasks.clone().map(largest).reduce(|| 0.0, f32::max);
                let scale = if largest > 0.0 {
                    largest / E4M3_MAX
                } else {
                    1.0
                };
                let encoded = values.par_iter().map(|value| e4m3(value / scale));
                (encoded.collect(), scale)
            }
        }
    }

    /// The same matrix in this format, in memory.
    fn compress(
        self,
        weights: &Weights,
        name: &str,
        stored: &StoredTensor,
        device: &Device,
    ) -> Result<StoredTensor, Error> {
        let values = load::read_on_host(weights, name, stored, FloatDType::F32, device)?;
        let (bytes, scale) = match values.as_slice::<f32>() {
            Ok(values) => self.encode(values),
            Err(_) => unreachable!("f32 was asked for"),
        };
        let (shape, range) = (stored.shape().to_vec(), 0..bytes.len());
        let memory = Arc::new(Memory::new(stored.path(), bytes));
        Ok(StoredTensor::new(self.encoding(), shape, memory, range).scaled(scale))
    }
}

impl FromStr for Quantization {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = Self::ALL.into_iter().find(|kind| kind.to_string() == text);
        named.ok_or_else(|| format!("`{text}` is none of int8, int4, fp8"))
    }
}

impl fmt::Display for Quantization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::Int4 => "int4",
            Self::Fp8 => "fp8",
        })
    }
}

/// A transformer's weights with the large ones compressed, in memory; the rest remains in its files.
///
/// [Updates](Model::add_lora) are added first, computed on `device`. One tensor at a time is there in
/// full precision. `progress` hears the bytes done and the bytes in all (of the files).
///
/// # Errors
/// Weights that cannot be read, or a break-off.
pub fn quantize(
    weights: &Weights,
    to: Quantization,
    device: &Device,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Weights, Error> {
    convert::check_dtypes(weights)?;
    let large = || {
        let all = weights.iter();
        all.filter(|(name, stored)| to.applies(name, stored.shape()))
    };
    let total = large().map(|(_, stored)| stored.byte_len() as u64).sum();
    let (mut quantized, mut done) = (weights.clone(), 0);
    for (name, stored) in large() {
        let compressed = to.compress(weights, name, stored, device)?;
        quantized.replace(name, compressed);
        done += stored.byte_len() as u64;
        if progress(done, total).is_break() {
            return Err(Error::Cancelled);
        }
    }
    Ok(quantized)
}

/// Writes a model's transformer to a safetensors file in diffusers' layout, the large weights
/// [compressed](quantize) and the rest in the number format of most of them.
///
/// # Errors
/// Weights that cannot be read, a file that cannot be written, or a break-off. Nothing is left of an
/// incomplete file.
pub fn save_quantized(
    model: &Model,
    path: &Path,
    to: Quantization,
    device: &Device,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> PipelineResult<()> {
    let weights = &model.transformer()?.weights;
    convert::check_dtypes(weights)?;
    let dtype = weights.main_dtype();
    let mut entries = Vec::new();
    for (name, stored) in weights.iter() {
        let mut shape = stored.shape().to_vec();
        if !to.applies(name, &shape) {
            let read = move || {
                let values = load::read_on_host(weights, name, stored, dtype, device)?;
                Ok(values.bytes().to_vec())
            };
            entries.push(Entry::new(name, merge::plain(dtype), shape, read));
            continue;
        }
        let compress = move || to.compress(weights, name, stored, device);
        entries.push(match to.encoding() {
            Encoding::Plain(dtype) => {
                let read = move || {
                    let compressed = compress()?;
                    let scale = compressed.scale().to_le_bytes();
                    Ok([&compressed.bytes()?[..], &scale].concat())
                };
                let scale = name.replace(".weight", ".scale_weight");
                Entry::new(name, dtype, shape, read).with(scale, Dtype::F32, Vec::new())
            }
            Encoding::Blocks(blocks) => {
                // A row of blocks is a row of bytes.
                shape[1] = shape[1] / blocks.len() * blocks.bytes();
                Entry::new(name, Dtype::U8, shape, move || Ok(compress()?.bytes()?))
            }
        });
    }
    let blocks = match to.encoding() {
        Encoding::Blocks(blocks) => Some(blocks.to_string()),
        Encoding::Plain(_) => None,
    };
    let metadata: Vec<_> = blocks.iter().map(|name| (BLOCKS, name.as_str())).collect();
    merge::write(path, &metadata, &entries, progress)
}
