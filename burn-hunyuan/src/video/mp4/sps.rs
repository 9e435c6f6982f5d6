//! The part of an H.264 sequence parameter set that decides whether and how a stream is decoded
//! (ITU-T H.264 §7.3.2.1.1 and Annex E.1.1).

use super::super::color::Color;

/// What a sequence parameter set says about its pictures.
#[derive(Debug, PartialEq)]
pub(super) struct Sps {
    pub(super) profile: u8,
    /// 1 stands for 4:2:0.
    pub(super) chroma_format: u32,
    /// The larger of luma's and chroma's.
    pub(super) bit_depth: u32,
    pub(super) interlaced: bool,
    /// `None` for a colour space this program does not convert.
    pub(super) color: Option<Color>,
}

impl Sps {
    /// Parses a NAL unit without its start code; `None` when it is cut short or out of range.
    pub(super) fn parse(nal: &[u8]) -> Option<Self> {
        let mut bits = Bits::new(nal.get(1..)?);
        let profile = bits.read(8)? as u8;
        bits.read(16)?; // constraint flags, level
        bits.unsigned()?; // id
        let (mut chroma_format, mut bit_depth) = (1, 8);
        if matches!(
            profile,
            100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135
        ) {
            chroma_format = bits.unsigned()?;
            if chroma_format == 3 {
                bits.read(1)?; // separate planes
            }
            bit_depth = 8 + bits.unsigned()?.max(bits.unsigned()?);
            bits.read(1)?; // lossless transform bypass
            if bits.read(1)? == 1 {
                skip_scaling_matrix(&mut bits, chroma_format)?;
            }
        }
        bits.unsigned()?; // frame number bits
        match bits.unsigned()? {
            0 => {
                bits.unsigned()?;
            }
            1 => {
                bits.read(1)?;
                bits.signed()?;
                bits.signed()?;
                for _ in 0..bits.unsigned()? {
                    bits.signed()?;
                }
            }
            _ => {}
        }
        bits.unsigned()?; // reference frames
        bits.read(1)?; // gaps in frame numbers
        bits.unsigned()?; // width
        bits.unsigned()?; // height
        let interlaced = bits.read(1)? == 0;
        if interlaced {
            bits.read(1)?; // adaptive
        }
        bits.read(1)?; // direct 8x8 inference
        if bits.read(1)? == 1 {
            for _ in 0..4 {
                bits.unsigned()?; // cropping
            }
        }
        let color = if bits.read(1)? == 1 {
            vui_color(&mut bits)?
        } else {
            Color::from_code(2, false)
        };
        Some(Self {
            profile,
            chroma_format,
            bit_depth,
            interlaced,
            color,
        })
    }
}

fn skip_scaling_matrix(bits: &mut Bits, chroma_format: u32) -> Option<()> {
    for list in 0..if chroma_format == 3 { 12 } else { 8 } {
        if bits.read(1)? == 0 {
            continue;
        }
        let (mut last, mut next) = (8, 8);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + bits.signed()? + 256) % 256;
            }
            if next != 0 {
                last = next;
            }
        }
    }
    Some(())
}

/// The colour of the "video usability information"; the rest of it is left unread.
fn vui_color(bits: &mut Bits) -> Option<Option<Color>> {
    const EXTENDED_SAR: u32 = 255;
    if bits.read(1)? == 1 && bits.read(8)? == EXTENDED_SAR {
        bits.read(32)?;
    }
    if bits.read(1)? == 1 {
        bits.read(1)?; // overscan
    }
    let (mut full_range, mut matrix) = (false, 2);
    if bits.read(1)? == 1 {
        bits.read(3)?; // video format
        full_range = bits.read(1)? == 1;
        if bits.read(1)? == 1 {
            bits.read(16)?; // primaries, transfer
            matrix = bits.read(8)? as u8;
        }
    }
    Some(Color::from_code(matrix, full_range))
}

/// Reads bits and Exp-Golomb codes (§9.1).
struct Bits {
    bytes: Vec<u8>,
    position: usize,
}

impl Bits {
    /// Without the bytes that keep start codes out of the payload (§7.4.1).
    fn new(payload: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(payload.len());
        let mut zeros = 0;
        for &byte in payload {
            if zeros == 2 && byte == 3 {
                zeros = 0;
                continue;
            }
            zeros = if byte == 0 { (zeros + 1).min(2) } else { 0 };
            bytes.push(byte);
        }
        Self { bytes, position: 0 }
    }

    /// Up to 32 bits, the first the most significant.
    fn read(&mut self, count: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.position / 8)?;
            value = value << 1 | u32::from(byte >> (7 - self.position % 8) & 1);
            self.position += 1;
        }
        Some(value)
    }

    /// `ue(v)`.
    fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.read(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.read(zeros)?)
    }

    /// `se(v)`.
    fn signed(&mut self) -> Option<i32> {
        let code = self.unsigned()? as i64;
        Some(if code % 2 == 1 {
            (code + 1) / 2
        } else {
            -code / 2
        } as i32)
    }
}
