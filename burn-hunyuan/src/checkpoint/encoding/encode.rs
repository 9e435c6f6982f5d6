//! Numbers into the compressed formats, as the programs that made these formats round them.

use half::f16;

use super::{BlockType, E4M3_MAX};

/// Values of a block of the types that are written.
const BLOCK: usize = 32;

impl BlockType {
    /// Appends whole blocks of `values` to `out`: ggml's `quantize_row_q8_0` and
    /// `quantize_row_q4_0`.
    ///
    /// # Panics
    /// For the types that are only read.
    pub(in crate::checkpoint) fn encode(self, values: &[f32], out: &mut Vec<u8>) {
        let encode = match self {
            Self::Q8_0 => q8_0,
            Self::Q4_0 => q4_0,
            _ => unreachable!("nothing is written as {self}"),
        };
        for block in values.as_chunks::<BLOCK>().0 {
            encode(block, out);
        }
    }
}

/// The reciprocal of a block's scale; a block of zeros has none.
fn reciprocal(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// The largest magnitude becomes 127.
fn q8_0(block: &[f32; BLOCK], out: &mut Vec<u8>) {
    let largest = block
        .iter()
        .fold(0.0_f32, |max, value| max.max(value.abs()));
    let scale = largest / 127.0;
    let factor = reciprocal(scale);
    out.extend(f16::from_f32(scale).to_le_bytes());
    // Rounded away from zero at halves.
    out.extend(block.map(|value| (value * factor).round() as i8 as u8));
}

/// The value of largest magnitude becomes −8, so that all of the sixteen numbers are in use.
fn q4_0(block: &[f32; BLOCK], out: &mut Vec<u8>) {
    let largest = block
        .iter()
        .fold(0.0_f32, |max, value| match value.abs() > max.abs() {
            true => *value,
            false => max,
        });
    let scale = largest / -8.0;
    let factor = reciprocal(scale);
    out.extend(f16::from_f32(scale).to_le_bytes());
    let numbers = block.map(|value| ((value * factor + 8.5) as u8).min(15));
    out.extend((0..BLOCK / 2).map(|i| numbers[i] | numbers[i + BLOCK / 2] << 4));
}

/// The nearest `F8_E4M3`, ties to even; what is larger than the largest becomes that.
pub(in crate::checkpoint) fn e4m3(value: f32) -> u8 {
    /// Below this, steps are of one size: 2⁻⁹.
    const LEAST_NORMAL: f32 = 1.0 / 64.0;
    let magnitude = value.abs().min(E4M3_MAX);
    let bits = if magnitude < LEAST_NORMAL {
        // Eight of them carry into the first normal number, as they should.
        (magnitude * 512.0).round_ties_even() as u32
    } else {
        // Three bits of 23 remain; the exponent's bias changes from 127 to 7.
        let bits = magnitude.to_bits();
        let rounded = bits + 0x7_ffff + (bits >> 20 & 1);
        (rounded >> 20) - (120 << 3)
    };
    bits as u8 | if value.is_sign_negative() { 0x80 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Encoding;
    use ::safetensors::Dtype;

    /// Every number of the format is its own nearest, and between two neighbours the middle decides.
    #[test]
    fn e4m3_takes_the_nearest() {
        let decode = |byte: u8| {
            let mut value = [0.0];
            Encoding::from(Dtype::F8_E4M3).decode(&[byte], &mut value);
            value[0]
        };
        for byte in 0..0x7e_u8 {
            let (low, high) = (decode(byte), decode(byte + 1));
            assert_eq!(e4m3(low), byte);
            assert_eq!(e4m3(-low), byte | 0x80);
            let middle = (low + high) / 2.0;
            assert_eq!(e4m3(middle.next_down()), byte);
            assert_eq!(e4m3(middle.next_up()), byte + 1);
            assert_eq!(e4m3(middle), byte + byte % 2, "ties go to even");
        }
        assert_eq!(e4m3(1e9), 0x7e);
    }

    /// No value is off by more than half a step of its block, and the scale's own rounding.
    #[test]
    fn blocks_are_within_half_a_step() {
        let values: Vec<f32> = (0..4096)
            .map(|i| (i as f32 * 0.731).sin() * (i as f32 * 0.002).exp2())
            .collect();
        for (kind, steps) in [(BlockType::Q8_0, 127.0), (BlockType::Q4_0, 8.0)] {
            let mut bytes = Vec::new();
            kind.encode(&values, &mut bytes);
            assert_eq!(bytes.len(), values.len() / 32 * kind.bytes());
            let mut decoded = vec![0.0; values.len()];
            kind.decode(&bytes, &mut decoded);
            for (block, decoded) in values.chunks(32).zip(decoded.chunks(32)) {
                let largest = block
                    .iter()
                    .fold(0.0_f32, |max, value| max.max(value.abs()));
                // The opposite end of the four-bit numbers is a step short.
                let bound = if kind == BlockType::Q4_0 { 1.0 } else { 0.5 };
                let bound = largest * (bound / steps + 1.0 / 1024.0) + 1e-7;
                for (a, b) in block.iter().zip(decoded) {
                    assert!((a - b).abs() <= bound, "{kind}: {a} became {b}");
                }
            }
        }
    }
}
