//! Hue, saturation and value as OpenCV computes them in 8 bits, and their differences.

use image::RgbImage;

/// Mean absolute differences between two pictures.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mean {
    /// In steps of two degrees; 179 and 0 are 179 apart, as in PySceneDetect.
    pub hue: f64,
    pub saturation: f64,
    pub value: f64,
}

/// Compares each picture with the one before.
#[derive(Debug)]
pub(super) struct HsvDifference {
    converter: Converter,
    hue: Vec<u8>,
    saturation: Vec<u8>,
    value: Vec<u8>,
}

impl Default for HsvDifference {
    fn default() -> Self {
        Self {
            converter: Converter::new(),
            hue: Vec::new(),
            saturation: Vec::new(),
            value: Vec::new(),
        }
    }
}

impl HsvDifference {
    /// Differences from the picture before; `None` for the first.
    pub fn next(&mut self, picture: &RgbImage) -> Option<Mean> {
        let pixels = picture.as_raw().len() / 3;
        let first = self.hue.len() != pixels;
        if first {
            for plane in [&mut self.hue, &mut self.saturation, &mut self.value] {
                *plane = vec![0; pixels];
            }
        }
        let mut sums = [0u64; 3];
        let rgb = picture.as_raw().chunks(3 * BLOCK);
        let hue = self.hue.chunks_mut(BLOCK);
        let saturation = self.saturation.chunks_mut(BLOCK);
        let value = self.value.chunks_mut(BLOCK);
        for (rgb, ((hue, saturation), value)) in rgb.zip(hue.zip(saturation).zip(value)) {
            self.converter.convert(rgb);
            let Converter { hsv, .. } = &self.converter;
            for ((sum, last), now) in sums.iter_mut().zip([hue, saturation, value]).zip(hsv) {
                *sum += replace(last, now);
            }
        }
        let [hue, saturation, value] = sums.map(|sum| sum as f64 / pixels as f64);
        (!first).then_some(Mean {
            hue,
            saturation,
            value,
        })
    }

    /// The values of the last picture, row by row.
    pub fn values(&self) -> &[u8] {
        &self.value
    }
}

/// Puts `now` in the place of `last`; the sum of their absolute differences.
fn replace(last: &mut [u8], now: &[u8]) -> u64 {
    let differences = last.iter().zip(now).map(|(a, b)| u32::from(a.abs_diff(*b)));
    let sum: u32 = differences.sum();
    last.copy_from_slice(&now[..last.len()]);
    sum.into()
}

/// Pixels that are converted at once. Each step runs over a whole block, so that all but the look-up
/// in the tables goes through the processor's vector unit.
const BLOCK: usize = 256;

/// The integer formula of OpenCV's `COLOR_RGB2HSV`: hue 0..180, saturation and value 0..=255.
#[derive(Debug)]
struct Converter {
    /// Division by the value, in 1/4096.
    by_value: [i32; 256],
    /// Division by the chroma, in 1/4096.
    by_chroma: [i32; 256],
    /// Hue, saturation and value of the last block.
    hsv: [[u8; BLOCK]; 3],
    red: [u8; BLOCK],
    green: [u8; BLOCK],
    blue: [u8; BLOCK],
    /// The greatest less the least of red, green and blue.
    chroma: [u8; BLOCK],
    /// Hue in sixths of a turn, times the chroma.
    sextants: [i16; BLOCK],
}

impl Converter {
    fn new() -> Self {
        let divide = |numerator: f64| {
            std::array::from_fn(|i| match i {
                0 => 0,
                _ => (numerator / i as f64).round_ties_even() as i32,
            })
        };
        Self {
            by_value: divide(f64::from(255 << 12)),
            by_chroma: divide(f64::from(180 << 12) / 6.0),
            hsv: [[0; BLOCK]; 3],
            red: [0; BLOCK],
            green: [0; BLOCK],
            blue: [0; BLOCK],
            chroma: [0; BLOCK],
            sextants: [0; BLOCK],
        }
    }

    /// Converts up to [`BLOCK`] pixels; what follows them in the block means nothing.
    fn convert(&mut self, rgb: &[u8]) {
        for (i, pixel) in rgb.chunks_exact(3).enumerate().take(BLOCK) {
            (self.red[i], self.green[i], self.blue[i]) = (pixel[0], pixel[1], pixel[2]);
        }
        let [hue, saturation, value] = &mut self.hsv;
        for (i, value) in value.iter_mut().enumerate() {
            let (r, g, b) = (self.red[i], self.green[i], self.blue[i]);
            *value = r.max(g).max(b);
            self.chroma[i] = *value - r.min(g).min(b);
        }
        for i in 0..BLOCK {
            let [r, g, b] = [self.red[i], self.green[i], self.blue[i]].map(i16::from);
            let (value, chroma) = (i16::from(value[i]), i16::from(self.chroma[i]));
            let not_red = if value == g {
                b - r + 2 * chroma
            } else {
                r - g + 4 * chroma
            };
            self.sextants[i] = if value == r { g - b } else { not_red };
        }
        for i in 0..BLOCK {
            let (value, chroma) = (usize::from(value[i]), self.chroma[i]);
            let share = i32::from(chroma) * self.by_value[value];
            saturation[i] = ((share + (1 << 11)) >> 12) as u8;
            let angle = i32::from(self.sextants[i]) * self.by_chroma[usize::from(chroma)];
            let angle = (angle + (1 << 11)) >> 12;
            hue[i] = (angle + if angle < 0 { 180 } else { 0 }) as u8;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Expectations from `cv2.cvtColor(…, cv2.COLOR_RGB2HSV)`.
    #[test]
    fn conversion() {
        let mut converter = Converter::new();
        for (rgb, hsv) in [
            ([0, 0, 0], [0, 0, 0]),
            ([255, 255, 255], [0, 0, 255]),
            ([255, 0, 0], [0, 255, 255]),
            ([0, 255, 0], [60, 255, 255]),
            ([0, 0, 255], [120, 255, 255]),
            ([255, 0, 1], [0, 255, 255]),
            ([200, 30, 90], [169, 217, 200]),
            ([13, 77, 42], [74, 212, 77]),
        ] {
            converter.convert(&rgb);
            assert_eq!(converter.hsv.map(|plane| plane[0]), hsv, "{rgb:?}");
        }
    }
}
