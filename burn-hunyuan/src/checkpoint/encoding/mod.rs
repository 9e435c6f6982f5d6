//! How files store numbers.

mod blocks;
mod encode;

use std::{fmt, sync::LazyLock};

use ::safetensors::Dtype;
use half::{bf16, f16, slice::HalfFloatSliceExt};

pub use blocks::BlockType;
pub(super) use encode::e4m3;

/// How the values of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// One after the other, each in this format.
    Plain(Dtype),
    /// In blocks of neighbours that share a scale, as in GGUF files.
    Blocks(BlockType),
}

impl From<Dtype> for Encoding {
    fn from(dtype: Dtype) -> Self {
        Self::Plain(dtype)
    }
}

impl fmt::Display for Encoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(dtype) => dtype.fmt(f),
            Self::Blocks(blocks) => blocks.fmt(f),
        }
    }
}

impl Encoding {
    /// The smallest number of values that can be stored alone.
    pub fn block_len(self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Blocks(blocks) => blocks.len(),
        }
    }

    /// The bytes that those take.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Plain(dtype) => dtype.bitsize().div_ceil(8),
            Self::Blocks(blocks) => blocks.bytes(),
        }
    }

    /// Whether weights can be loaded from it.
    pub fn is_float(self) -> bool {
        match self {
            Self::Plain(dtype) => matches!(
                dtype,
                Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8_E4M3 | Dtype::F8_E5M2
            ),
            Self::Blocks(_) => true,
        }
    }

    /// Whether devices compute in it, so that weights need no decoding.
    pub fn is_computed(self) -> bool {
        let computed = [Dtype::F32, Dtype::F16, Dtype::BF16];
        matches!(self, Self::Plain(dtype) if computed.contains(&dtype))
    }

    /// Decodes whole blocks; `out` holds as many values as `bytes` stores.
    pub(super) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        match self {
            Self::Plain(Dtype::F16) => widen(bytes, out, f16::from_le_bytes),
            Self::Plain(Dtype::BF16) => widen(bytes, out, bf16::from_le_bytes),
            Self::Plain(Dtype::F8_E4M3) => {
                let table = &*E4M3;
                (out.iter_mut().zip(bytes))
                    .for_each(|(value, byte)| *value = table[*byte as usize]);
            }
            // The upper byte of an f16.
            Self::Plain(Dtype::F8_E5M2) => (out.iter_mut().zip(bytes))
                .for_each(|(value, byte)| *value = f16::from_le_bytes([0, *byte]).to_f32()),
            Self::Plain(Dtype::F32) => (out.iter_mut().zip(bytes.as_chunks().0))
                .for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes)),
            // None that [`is_float`](Self::is_float) accepts; NaN is refused wherever it is read.
            Self::Plain(_) => out.fill(f32::NAN),
            Self::Blocks(blocks) => blocks.decode(bytes, out),
        }
    }
}

/// The largest `F8_E4M3`.
pub(super) const E4M3_MAX: f32 = 448.0;

/// The values of `F8_E4M3` (OCP 8-bit floating point 1.0): no infinities, 448 at most.
static E4M3: LazyLock<[f32; 256]> = LazyLock::new(|| {
    std::array::from_fn(|bits| {
        let sign = if bits < 128 { 1.0 } else { -1.0 };
        let (exponent, mantissa) = (bits >> 3 & 15, (bits & 7) as f32);
        sign * match (exponent, bits & 7) {
            (15, 7) => f32::NAN,
            (0, _) => mantissa / 512.0,
            _ => (1.0 + mantissa / 8.0) * 2f32.powi(exponent as i32 - 7),
        }
    })
});

/// Widens half-precision values, some at a time, so that the processor's instructions apply.
fn widen<T: Copy + Default>(bytes: &[u8], out: &mut [f32], from_le: fn([u8; 2]) -> T)
where
    [T]: HalfFloatSliceExt,
{
    let mut stored = [T::default(); 1024];
    for (out, bytes) in out.chunks_mut(1024).zip(bytes.chunks(2048)) {
        let stored = &mut stored[..out.len()];
        for (value, bytes) in stored.iter_mut().zip(bytes.as_chunks().0) {
            *value = from_le(*bytes);
        }
        stored.convert_to_f32_slice(out);
    }
}
