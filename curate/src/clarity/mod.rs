//! Clarity: the clearest picture near a clip's head, and blur, noise, blockiness, exposure.
//!
//! HunyuanVideo (arXiv 2412.03603, section 3.1) takes the clearest picture near a shot's head, by
//! OpenCV's Laplacian, as the clip's first ([`clearest`]), and separately removes blurred clips with
//! a trained model that is not published. In its place stand four published measures that need no
//! training ([`Clarity`]), computed on brightness at full size: reduction hides what they look for.

mod blockiness;
mod blur;
mod exposure;
mod gray;
mod laplacian;
mod noise;

use image::GrayImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::range::{Checked, within};

pub use blockiness::blockiness;
pub use blur::blur;
pub use exposure::{Exposure, exposure};
pub use gray::gray;
pub use laplacian::laplacian_variance;
pub use noise::noise;

/// Where a clip starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A clip starts at its shot's clearest picture within this many seconds of the head; 0 keeps
    /// the head. Our choice.
    pub head: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { head: 0.5 }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Checked {
        within("head", self.head, 0.0..)
    }
}

/// The clarity of a clip: the median of each measure over its pictures.
///
/// The paper publishes no thresholds. The limits here are our choice: synthetic pictures in the
/// tests and photographs lie on their good side until they are blurred, upscaled, noisy or
/// compressed so that it shows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Clarity {
    /// [`laplacian_variance`], in squared gray levels. Grows with detail, contrast and noise alike;
    /// compare it within a clip.
    pub laplacian: f64,
    /// [`blur`], from 0 to 1.
    pub blur: f64,
    /// [`noise`], in gray levels.
    pub noise: f64,
    /// [`blockiness`], in gray levels.
    pub blockiness: f64,
    /// [`exposure`].
    pub exposure: Exposure,
}

impl Clarity {
    /// Above this, pictures are blurred or enlarged.
    pub const MAX_BLUR: f64 = 0.6;
    /// Above this, noise shows: gray levels.
    pub const MAX_NOISE: f64 = 8.0;
    /// Above this, the blocks of compression show: gray levels.
    pub const MAX_BLOCKINESS: f64 = 1.2;

    /// Measures one picture.
    pub fn of(picture: &GrayImage) -> Self {
        Self {
            laplacian: laplacian_variance(picture),
            blur: blur(picture),
            noise: noise(picture),
            blockiness: blockiness(picture),
            exposure: exposure(picture),
        }
    }
}

/// Measures a clip by pictures taken from it, at full size; `None` without any.
///
/// One picture a second or so is enough. A picture blurred by motion does not decide.
pub fn measure(pictures: &[GrayImage]) -> Option<Clarity> {
    let measured: Vec<Clarity> = pictures.par_iter().map(Clarity::of).collect();
    let median = |of: fn(&Clarity) -> f64| {
        let mut values: Vec<f64> = measured.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values[(values.len() - 1) / 2]
    };
    (!measured.is_empty()).then(|| Clarity {
        laplacian: median(|c| c.laplacian),
        blur: median(|c| c.blur),
        noise: median(|c| c.noise),
        blockiness: median(|c| c.blockiness),
        exposure: Exposure {
            mean: median(|c| c.exposure.mean),
            spread: median(|c| c.exposure.spread),
            black: median(|c| c.exposure.black),
            white: median(|c| c.exposure.white),
        },
    })
}

/// The clearest of pictures of one scene: the first with the largest [`laplacian_variance`], 0
/// without pictures.
///
/// Given those near a shot's head, it tells where the clip should start.
pub fn clearest(pictures: &[GrayImage]) -> usize {
    let clarity: Vec<f64> = pictures.par_iter().map(laplacian_variance).collect();
    let ranked = clarity.iter().enumerate().rev();
    let best = ranked.max_by(|(_, a), (_, b)| a.total_cmp(b));
    best.map_or(0, |(index, _)| index)
}
