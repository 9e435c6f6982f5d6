//! Compressed weights for accelerators to hold: burn's quantised tensors, which the device decodes.

use ::safetensors::Dtype;
use burn::tensor::{
    DType, Device, FloatDType, TensorData,
    quantization::{QuantScheme, QuantStore, QuantValue, ScaleDtype},
};
use half::f16;
use rayon::prelude::*;

use super::{BlockType, Encoding, Error, StoredTensor};

/// The scheme of burn's that holds the same numbers as `encoding`, with scales in `scales`.
fn scheme(encoding: Encoding, scales: ScaleDtype) -> Option<QuantScheme> {
    let scheme = |value| {
        QuantScheme::default()
            .with_value(value)
            .with_store(QuantStore::PackedU32(0))
    };
    match encoding {
        Encoding::Blocks(BlockType::Q8_0) => Some(scheme(QuantValue::Q8F).per_block([32], scales)),
        Encoding::Blocks(BlockType::Q4_0) => Some(scheme(QuantValue::Q4F).per_block([32], scales)),
        Encoding::Plain(Dtype::F8_E4M3) => {
            Some(scheme(QuantValue::E4M3).per_tensor(ScaleDtype::F32))
        }
        _ => None,
    }
}

impl Encoding {
    /// Whether accelerators can hold weights in it and decode them: `Q8_0`, `Q4_0` and `F8_E4M3`.
    pub fn is_decoded_by_devices(self) -> bool {
        scheme(self, ScaleDtype::F32).is_some()
    }
}

/// Reads a matrix `[out, in]` as a quantised tensor of the same numbers; `None` where burn has no such
/// format.
///
/// The device holds the scales in f16 as files do, or in f32 where it has no f16.
pub(super) fn read(
    name: &str,
    stored: &StoredTensor,
    device: &Device,
) -> Result<Option<TensorData>, Error> {
    /// Numbers in a word of those that the device reads.
    const WORD: usize = 4;
    let scales = match device.supports_dtype(FloatDType::F16) {
        true => ScaleDtype::F16,
        false => ScaleDtype::F32,
    };
    let (&[_, inputs], Some(scheme)) = (stored.shape(), scheme(stored.encoding(), scales)) else {
        return Ok(None);
    };
    if !inputs.is_multiple_of(WORD.max(stored.encoding().block_len())) {
        return Ok(None);
    }
    let bytes = stored.bytes()?;
    let (packed, is_finite) = match stored.encoding() {
        Encoding::Blocks(blocks) => pack_blocks(blocks, &bytes, stored.scale(), scales),
        Encoding::Plain(_) => {
            let is_nan = |byte: &u8| byte & 0x7f == 0x7f;
            let is_finite = stored.scale().is_finite() && !bytes.par_iter().any(is_nan);
            (
                [bytes, stored.scale().to_le_bytes().to_vec()].concat(),
                is_finite,
            )
        }
    };
    if !is_finite {
        return Err(Error::NotFinite {
            path: stored.path().to_path_buf(),
            name: name.to_string(),
            dtype: DType::QFloat(scheme).name(),
        });
    }
    let shape = stored.shape().to_vec();
    Ok(Some(TensorData::from_bytes_vec(
        packed,
        shape,
        DType::QFloat(scheme),
    )))
}

/// The numbers of all blocks in order and then their scales, where a file has each block's scale
/// before its numbers; and whether all scales are finite.
fn pack_blocks(blocks: BlockType, bytes: &[u8], scale: f32, scales: ScaleDtype) -> (Vec<u8>, bool) {
    let numbers = blocks.bytes() - size_of::<f16>();
    let count = bytes.len() / blocks.bytes();
    let width = if scales == ScaleDtype::F16 { 2 } else { 4 };
    let mut packed = vec![0; count * (numbers + width)];
    let (all_numbers, all_scales) = packed.split_at_mut(count * numbers);
    let is_finite = all_numbers
        .par_chunks_exact_mut(numbers)
        .zip(all_scales.par_chunks_exact_mut(width))
        .zip(bytes.par_chunks_exact(blocks.bytes()))
        .map(|((numbers, scale_out), block)| {
            let (own, stored) = block.split_at(size_of::<f16>());
            let own = f16::from_le_bytes([own[0], own[1]]).to_f32() * scale;
            match scales {
                ScaleDtype::F16 => scale_out.copy_from_slice(&f16::from_f32(own).to_le_bytes()),
                _ => scale_out.copy_from_slice(&own.to_le_bytes()),
            }
            match blocks {
                BlockType::Q4_0 => pack_nibbles(stored, numbers),
                _ => numbers.copy_from_slice(stored),
            }
            own.is_finite()
        })
        .reduce(|| true, |a, b| a & b);
    (packed, is_finite)
}

/// 32 numbers of four bits, 8 more than they mean, the first half in the low bits of 16 bytes and the
/// second in the high ones; to neighbours in one byte, in two's complement.
fn pack_nibbles(stored: &[u8], out: &mut [u8]) {
    let meant = |i: usize| (stored[i % 16] >> (4 * (i / 16)) & 15) ^ 8;
    for (i, byte) in out.iter_mut().enumerate() {
        *byte = meant(2 * i) | meant(2 * i + 1) << 4;
    }
}
