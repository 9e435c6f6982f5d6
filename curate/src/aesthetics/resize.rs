//! Bicubic scaling that gives the bytes of Pillow's `Image.resize(.., BICUBIC)`, through which the
//! pictures went that CLIP was trained on.
//!
//! It is that of Pillow up to 12: version 13 scales some sizes vertically first, and rounding then
//! differs by a level or two.

use image::RgbImage;
use rayon::prelude::*;

/// Fractional bits of a coefficient. Pillow computes in whole numbers.
const PRECISION: u32 = 22;

/// Scales a picture.
pub fn bicubic(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    let [w, h] = [picture.width() as usize, picture.height() as usize];
    let [new_w, new_h] = [width as usize, height as usize];
    let wide = along(picture.as_raw(), [h, w, 3], new_w);
    let mut scaled = RgbImage::new(width, height);
    scaled.copy_from_slice(&along(&wide, [1, h, new_w * 3], new_h));
    scaled
}

/// The taps of one output position.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// Scales the middle axis of `[outer, length, inner]`, rounding to bytes.
fn along(values: &[u8], [_, length, inner]: [usize; 3], new_length: usize) -> Vec<u8> {
    if length == new_length {
        return values.to_vec();
    }
    let taps: Vec<Taps> = (0..new_length)
        .map(|to| taps(to, length, new_length))
        .collect();
    let mut out = vec![0; values.len() / length * new_length];
    out.par_chunks_mut(new_length * inner)
        .zip(values.par_chunks(length * inner))
        .for_each(|(out, values)| {
            let mut sums = vec![0; inner];
            for (out, taps) in out.chunks_mut(inner).zip(&taps) {
                sums.fill(1 << (PRECISION - 1));
                let rows = values[taps.first * inner..].chunks(inner);
                for (row, weight) in rows.zip(&taps.weights) {
                    for (sum, &value) in sums.iter_mut().zip(row) {
                        *sum += i32::from(value) * weight;
                    }
                }
                for (out, sum) in out.iter_mut().zip(&sums) {
                    *out = (sum >> PRECISION).clamp(0, 255) as u8;
                }
            }
        });
    out
}

/// The kernel is as wide as an output pixel, at least as an input pixel, times four.
fn taps(to: usize, length: usize, new_length: usize) -> Taps {
    let scale = length as f64 / new_length as f64;
    let spread = scale.max(1.0);
    let centre = (to as f64 + 0.5) * scale;
    let first = (centre - 2.0 * spread + 0.5).max(0.0) as usize;
    let end = ((centre + 2.0 * spread + 0.5) as usize).min(length);
    let weights = (first..end).map(|from| kernel((from as f64 - centre + 0.5) / spread));
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    let whole = |weight: f64| (weight / sum * f64::from(1 << PRECISION)).round() as i32;
    Taps {
        first,
        weights: weights.into_iter().map(whole).collect(),
    }
}

/// Keys' cubic with a = −1/2.
fn kernel(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}
