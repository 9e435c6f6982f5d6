//! Drawn footage: pictures whose motion and detail are known.

use burn_hunyuan_curate::Frame;
use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Brightness of a surface without borders: waves of many lengths, as a function of the place.
pub struct Texture {
    waves: Vec<[f64; 4]>,
}

impl Texture {
    /// Waves from `shortest` to 0.4 in length, in units of the place.
    pub fn new(seed: u64, shortest: f64) -> Self {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let mut uniform = || random.random::<f64>();
        let wave = |_| {
            let length = shortest * (0.4 / shortest).powf(uniform());
            let (angle, phase) = (uniform() * TAU, uniform() * TAU);
            let wavenumber = TAU / length;
            let height = 18.0 * length.powf(0.6);
            [
                angle.cos() * wavenumber,
                angle.sin() * wavenumber,
                phase,
                height,
            ]
        };
        Self {
            waves: (0..60).map(wave).collect(),
        }
    }

    pub fn at(&self, x: f64, y: f64) -> f64 {
        let heights = self.waves.iter();
        let wave = |[kx, ky, phase, height]: &[f64; 4]| height * (kx * x + ky * y + phase).cos();
        120.0 + heights.map(wave).sum::<f64>()
    }
}

/// A clip of `seconds` at `rate` pictures a second, numbered as in a source of 24.
///
/// `draw` gives the brightness at a time and a place, in diagonals from the picture's centre.
pub fn film(
    [width, height]: [u32; 2],
    rate: f64,
    seconds: f64,
    draw: impl Fn(f64, f64, f64) -> f64,
) -> Vec<Frame> {
    let diagonal = f64::from(width).hypot(f64::from(height));
    let place = |pixel: u32, side: u32| (f64::from(pixel) + 0.5 - f64::from(side) / 2.0) / diagonal;
    let frame = |i: usize| {
        let time = i as f64 / rate;
        let picture = RgbImage::from_fn(width, height, |x, y| {
            let level = draw(time, place(x, width), place(y, height)).round();
            Rgb([level.clamp(0.0, 255.0) as u8; 3])
        });
        Frame {
            index: (time * 24.0).round() as u64,
            time,
            picture,
        }
    };
    (0..(rate * seconds) as usize).map(frame).collect()
}

const TAU: f64 = std::f64::consts::TAU;
