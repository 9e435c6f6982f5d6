//! Exposure: where the gray levels lie.

use image::GrayImage;
use serde::{Deserialize, Serialize};

/// Levels this close to either end count as clipped: compression moves them a little.
const CLIPPED: usize = 3;

/// How the gray levels of a picture are spread, all as shares from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// Mean level; 0 is black, 1 is white.
    pub mean: f64,
    /// From the 5th to the 95th percentile of the levels.
    pub spread: f64,
    /// Pixels that are black without detail. Remove black borders first.
    pub black: f64,
    /// Pixels that are white without detail.
    pub white: f64,
}

impl Exposure {
    /// Below this mean a picture is too dark, and above 1 less this too bright (our choice).
    pub const MIN_MEAN: f64 = 0.08;
    /// Below this spread a picture is flat (our choice).
    pub const MIN_SPREAD: f64 = 0.1;
    /// Above this share of black or white a picture is clipped (our choice).
    pub const MAX_CLIPPED: f64 = 0.4;
}

/// The exposure of a picture, by its histogram; all zero without pixels.
pub fn exposure(picture: &GrayImage) -> Exposure {
    let mut histogram = [0u64; 256];
    for level in picture.as_raw() {
        histogram[usize::from(*level)] += 1;
    }
    let count = picture.as_raw().len().max(1) as f64;
    let sum: u64 = (0..)
        .zip(&histogram)
        .map(|(level, count)| level * count)
        .sum();
    let share = |levels: &[u64]| levels.iter().sum::<u64>() as f64 / count;
    let percentile = |part: f64| {
        let mut below = 0;
        let level = histogram.iter().position(|here| {
            below += here;
            below as f64 >= part * count
        });
        level.unwrap_or(0) as f64
    };
    Exposure {
        mean: sum as f64 / count / 255.0,
        spread: (percentile(0.95) - percentile(0.05)) / 255.0,
        black: share(&histogram[..=CLIPPED]),
        white: share(&histogram[255 - CLIPPED..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_forms() {
        let all_levels = GrayImage::from_fn(256, 4, |x, _| [x as u8].into());
        let measured = exposure(&all_levels);
        assert!((measured.mean - 0.5).abs() < 1e-12);
        assert!((measured.spread - 231.0 / 255.0).abs() < 1e-12);
        assert_eq!([measured.black, measured.white], [4.0 / 256.0; 2]);
        let black = exposure(&GrayImage::new(8, 8));
        assert_eq!(
            [black.mean, black.spread, black.black, black.white],
            [0.0, 0.0, 1.0, 0.0]
        );
    }
}
