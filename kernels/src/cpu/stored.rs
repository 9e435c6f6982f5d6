//! The number formats that values are stored in; computed is in f32.

use burn::tensor::bf16;

/// A value in memory.
pub(super) trait Stored: Copy + Send + Sync {
    /// Exact.
    fn load(self) -> f32;

    /// Rounded to the nearest, ties to even.
    fn store(value: f32) -> Self;
}

impl Stored for f32 {
    #[inline(always)]
    fn load(self) -> f32 {
        self
    }

    #[inline(always)]
    fn store(value: f32) -> Self {
        value
    }
}

impl Stored for bf16 {
    #[inline(always)]
    fn load(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    /// Without a branch, so that loops over it become vector code.
    #[inline(always)]
    fn store(value: f32) -> Self {
        let bits = value.to_bits();
        let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1));
        // Rounding could carry a NaN's bits into infinity.
        let bits = if value.is_nan() {
            bits | 1 << 22
        } else {
            rounded
        };
        Self::from_bits((bits >> 16) as u16)
    }
}

/// Evaluates `body` with `T` as the type that values of `dtype` are stored in.
macro_rules! with_stored {
    ($dtype:expr, $stored:ident => $body:expr) => {
        match $dtype {
            burn::tensor::DType::BF16 => {
                type $stored = burn::tensor::bf16;
                $body
            }
            // Every operation here is asked for f32 or bf16 only.
            _ => {
                type $stored = f32;
                $body
            }
        }
    };
}
pub(super) use with_stored;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_rounded_as_burn_rounds_it() {
        let mut bits = 0x3f80_0000_u32;
        for _ in 0..100_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(bits);
            let (ours, theirs) = (<bf16 as Stored>::store(value), bf16::from_f32(value));
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{value}");
            assert_eq!(ours.load().to_bits(), theirs.to_f32().to_bits());
        }
        for value in [f32::INFINITY, f32::MAX, -f32::MAX, 0.0, -0.0, 1e-40] {
            let ours = <bf16 as Stored>::store(value);
            assert_eq!(ours.to_bits(), bf16::from_f32(value).to_bits(), "{value}");
        }
    }
}
