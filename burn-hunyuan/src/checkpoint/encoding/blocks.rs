//! The block formats of GGUF files, as ggml defines them (`ggml-common.h`, `ggml-quants.c`).
//!
//! A value is a small integer times the scale of its block, less an offset in some formats. In the
//! formats called K a block of 256 values has sub-blocks, whose scales are small integers too.

use std::fmt;

use half::f16;

/// Values of a block with sub-blocks.
const SUPER: usize = 256;

/// The 16 values of the IQ4 formats.
const IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// A block format.
#[expect(non_camel_case_types, reason = "these are their names")]
#[expect(missing_docs, reason = "their names say all: bits, and the variant")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockType {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2_K,
    Q3_K,
    Q4_K,
    Q5_K,
    Q6_K,
    IQ4_NL,
    IQ4_XS,
}

impl fmt::Display for BlockType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl BlockType {
    /// The format of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        // Numbers end before 40.
        (0..40)
            .filter_map(Self::from_id)
            .find(|kind| kind.to_string() == name)
    }

    /// The format with this number in a file.
    pub fn from_id(id: u32) -> Option<Self> {
        Some(match id {
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2_K,
            11 => Self::Q3_K,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            20 => Self::IQ4_NL,
            23 => Self::IQ4_XS,
            _ => return None,
        })
    }

    /// Values of a block.
    #[expect(clippy::len_without_is_empty, reason = "no block is empty")]
    pub fn len(self) -> usize {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 | Self::IQ4_NL => 32,
            _ => SUPER,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q4_0 | Self::IQ4_NL => 2 + 16,
            Self::Q4_1 => 2 + 2 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 2 + 2 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q2_K => 16 + 64 + 2 + 2,
            Self::Q3_K => 32 + 64 + 12 + 2,
            Self::Q4_K => 2 + 2 + 12 + 128,
            Self::Q5_K => 2 + 2 + 12 + 32 + 128,
            Self::Q6_K => 128 + 64 + 16 + 2,
            Self::IQ4_XS => 2 + 2 + 4 + 128,
        }
    }

    /// Decodes whole blocks.
    pub(super) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        let decode = match self {
            Self::Q4_0 => q4_0,
            Self::Q4_1 => q4_1,
            Self::Q5_0 => q5_0,
            Self::Q5_1 => q5_1,
            Self::Q8_0 => q8_0,
            Self::Q2_K => q2_k,
            Self::Q3_K => q3_k,
            Self::Q4_K => q4_k,
            Self::Q5_K => q5_k,
            Self::Q6_K => q6_k,
            Self::IQ4_NL => iq4_nl,
            Self::IQ4_XS => iq4_xs,
        };
        let blocks = bytes.chunks_exact(self.bytes());
        for (block, out) in blocks.zip(out.chunks_exact_mut(self.len())) {
            decode(block, out);
        }
    }
}

/// The f16 at `at`.
fn half(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// The 4-bit number `i` of 32: the low halves of 16 bytes, then the high ones.
fn nibble(bytes: &[u8], i: usize) -> u8 {
    bytes[i % 16] >> (4 * (i / 16)) & 15
}

/// The bit `i` of a run of bytes.
fn bit(bytes: &[u8], i: usize) -> u8 {
    bytes[i / 8] >> (i % 8) & 1
}

fn q4_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (i, value) in out.iter_mut().enumerate() {
        *value = scale * (f32::from(nibble(&block[2..], i)) - 8.0);
    }
}

fn q4_1(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    for (i, value) in out.iter_mut().enumerate() {
        *value = scale * f32::from(nibble(&block[4..], i)) + least;
    }
}

fn q5_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (i, value) in out.iter_mut().enumerate() {
        let q = nibble(&block[6..], i) | bit(&block[2..], i) << 4;
        *value = scale * (f32::from(q) - 16.0);
    }
}

fn q5_1(block: &[u8], out: &mut [f32]) {
    let (scale, least) = (half(block, 0), half(block, 2));
    for (i, value) in out.iter_mut().enumerate() {
        let q = nibble(&block[8..], i) | bit(&block[4..], i) << 4;
        *value = scale * f32::from(q) + least;
    }
}

fn q8_0(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (value, byte) in out.iter_mut().zip(&block[2..]) {
        *value = scale * f32::from(*byte as i8);
    }
}

fn iq4_nl(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    for (i, value) in out.iter_mut().enumerate() {
        *value = scale * f32::from(IQ4[nibble(&block[2..], i) as usize]);
    }
}

/// 16 sub-blocks of 16, each with 4 bits of scale and 4 of offset.
fn q2_k(block: &[u8], out: &mut [f32]) {
    let (scales, quants) = block.split_at(16);
    let (scale, offset) = (half(block, 80), half(block, 82));
    for (i, value) in out.iter_mut().enumerate() {
        let shared = scales[i / 16];
        let q = quants[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3;
        let (scale, offset) = (
            scale * f32::from(shared & 15),
            offset * f32::from(shared >> 4),
        );
        *value = scale * f32::from(q) - offset;
    }
}

/// 16 sub-blocks of 16, each with a signed scale of 6 bits: 4 in eight bytes, 2 in four more.
fn q3_k(block: &[u8], out: &mut [f32]) {
    let (high_bits, rest) = block.split_at(32);
    let (quants, scales) = rest.split_at(64);
    let scale = half(block, 108);
    for (i, value) in out.iter_mut().enumerate() {
        let sub = i / 16;
        let low = scales[sub % 8] >> (4 * (sub / 8)) & 15;
        let high = scales[8 + sub % 4] >> (2 * (sub / 4)) & 3;
        let scale = scale * (f32::from(low | high << 4) - 32.0);
        let q = quants[i / 128 * 32 + i % 32] >> (2 * (i / 32 % 4)) & 3;
        // The offset applies where the bit is not set.
        let offset = 4 * (1 - (high_bits[i % 32] >> (i / 32) & 1));
        *value = scale * (f32::from(q) - f32::from(offset));
    }
}

/// The scale and offset of sub-block `sub` of 8, 6 bits each, packed in 12 bytes.
fn scale_and_offset(packed: &[u8], sub: usize) -> (f32, f32) {
    let (scale, offset) = if sub < 4 {
        (packed[sub] & 63, packed[sub + 4] & 63)
    } else {
        let low = packed[sub + 4];
        (
            low & 15 | packed[sub - 4] >> 6 << 4,
            low >> 4 | packed[sub] >> 6 << 4,
        )
    };
    (f32::from(scale), f32::from(offset))
}

fn q4_k(block: &[u8], out: &mut [f32]) {
    let (scale, offset) = (half(block, 0), half(block, 2));
    for (sub, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, o) = scale_and_offset(&block[4..16], sub);
        let quants = &block[16 + sub / 2 * 32..][..32];
        for (value, q) in out.iter_mut().zip(quants) {
            *value = scale * s * f32::from(q >> (4 * (sub % 2)) & 15) - offset * o;
        }
    }
}

fn q5_k(block: &[u8], out: &mut [f32]) {
    let (scale, offset) = (half(block, 0), half(block, 2));
    let high_bits = &block[16..48];
    for (sub, out) in out.chunks_exact_mut(32).enumerate() {
        let (s, o) = scale_and_offset(&block[4..16], sub);
        let quants = &block[48 + sub / 2 * 32..][..32];
        for (value, (q, high)) in out.iter_mut().zip(quants.iter().zip(high_bits)) {
            let q = q >> (4 * (sub % 2)) & 15 | (high >> sub & 1) << 4;
            *value = scale * s * f32::from(q) - offset * o;
        }
    }
}

/// 16 sub-blocks of 16, each with a signed scale of 8 bits.
fn q6_k(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, scales) = rest.split_at(64);
    let scale = half(block, 208);
    for (i, value) in out.iter_mut().enumerate() {
        // Each half of the block has 64 bytes of low bits, used twice, and 32 of high bits.
        let (part, place) = (i / 128, i % 128);
        let low = low[part * 64 + place % 64] >> (4 * (place / 64)) & 15;
        let high = high[part * 32 + place % 32] >> (2 * (place / 32)) & 3;
        let q = f32::from(low | high << 4) - 32.0;
        *value = scale * f32::from(scales[i / 16] as i8) * q;
    }
}

/// 8 sub-blocks of 32, each with a signed scale of 6 bits: 4 in four bytes, 2 in two more.
fn iq4_xs(block: &[u8], out: &mut [f32]) {
    let scale = half(block, 0);
    let high = u16::from_le_bytes([block[2], block[3]]);
    for (sub, out) in out.chunks_exact_mut(32).enumerate() {
        let low = block[4 + sub / 2] >> (4 * (sub % 2)) & 15;
        let high = (high >> (2 * sub) & 3) as u8;
        let scale = scale * (f32::from(low | high << 4) - 32.0);
        let quants = &block[8 + 16 * sub..][..16];
        for (i, value) in out.iter_mut().enumerate() {
            *value = scale * f32::from(IQ4[nibble(quants, i) as usize]);
        }
    }
}
