//! What can be measured of a picture without a learned model. Not an aesthetic score: each number is
//! its formula and no more.

use std::f32::consts::TAU;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::frame::{Frame, thumbnail};

/// Measures of pictures; of a clip, their means over its frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Colourfulness `√(σ²_rg + σ²_yb) + 0.3 √(μ²_rg + μ²_yb)` of the opponents `rg = R − G` and
    /// `yb = (R + G) / 2 − B` in 8-bit levels (D. Hasler and S. Süsstrunk, Measuring colourfulness
    /// in natural images, 2003): 0 for grey, above 80 for vivid colours.
    pub colorfulness: f32,
    /// RMS contrast: the standard deviation of luma in `0..=1` (E. Peli, Contrast in complex images,
    /// 1990). At most 0.5.
    pub contrast: f32,
    /// Exposure: the mean of luma in `0..=1`.
    pub exposure: f32,
    /// Share of pixels whose luma is at an end of its range: below 2 % or above 98 %.
    pub clipped: f32,
    /// Distance of the centre of salience from the nearest of the four points where the lines of
    /// thirds cross, in widths and heights of the picture: 0 on such a point, 0.24 in the middle.
    /// Salience is the spectral residual (X. Hou and L. Zhang, Saliency detection: a spectral
    /// residual approach, 2007).
    pub from_thirds: f32,
    /// How concentrated salience is: 1 less its entropy over that of an even spread. 0 if it is
    /// spread evenly, 1 if it is in one point.
    pub concentration: f32,
}

impl Statistics {
    /// Those of one picture.
    pub fn of(picture: &RgbImage) -> Self {
        let salience = Salience::of(picture);
        let Levels {
            luma,
            rg,
            yb,
            clipped,
        } = Levels::of(picture);
        Self {
            colorfulness: rg.deviation.hypot(yb.deviation) + 0.3 * rg.mean.hypot(yb.mean),
            contrast: luma.deviation / 255.0,
            exposure: luma.mean / 255.0,
            clipped,
            from_thirds: salience.distance_from_thirds(),
            concentration: salience.concentration(),
        }
    }

    /// The means over a clip; zeros if it has no frames.
    pub fn of_clip(frames: &[Frame]) -> Self {
        let count = frames.len().max(1) as f32;
        frames.iter().fold(Self::default(), |sum, frame| {
            let one = Self::of(&frame.picture);
            Self {
                colorfulness: sum.colorfulness + one.colorfulness / count,
                contrast: sum.contrast + one.contrast / count,
                exposure: sum.exposure + one.exposure / count,
                clipped: sum.clipped + one.clipped / count,
                from_thirds: sum.from_thirds + one.from_thirds / count,
                concentration: sum.concentration + one.concentration / count,
            }
        })
    }
}

struct Moments {
    mean: f32,
    deviation: f32,
}

/// How the levels of a picture's pixels are distributed.
struct Levels {
    luma: Moments,
    rg: Moments,
    yb: Moments,
    /// Share of pixels with luma at an end.
    clipped: f32,
}

impl Levels {
    fn of(picture: &RgbImage) -> Self {
        // Of luma, rg and twice yb. A row's sums fit 32 bits, a picture's 64.
        let (mut sums, mut squares, mut clipped) = ([0_i64; 3], [0_i64; 3], 0_i64);
        let row = 3 * picture.width().max(1) as usize;
        for row in picture.as_raw().chunks_exact(row) {
            let (mut row_sums, mut row_squares, mut row_clipped) = ([0_i32; 3], [0_i32; 3], 0_i32);
            for pixel in row.as_chunks::<3>().0 {
                let [r, g, b] = pixel.map(i32::from);
                let luma = (77 * r + 150 * g + 29 * b + 128) >> 8;
                for (channel, value) in [luma, r - g, r + g - 2 * b].into_iter().enumerate() {
                    row_sums[channel] += value;
                    row_squares[channel] += value * value;
                }
                row_clipped += i32::from(luma < DARK) + i32::from(luma > BRIGHT);
            }
            for channel in 0..3 {
                sums[channel] += i64::from(row_sums[channel]);
                squares[channel] += i64::from(row_squares[channel]);
            }
            clipped += i64::from(row_clipped);
        }
        let count = (picture.width() * picture.height()).max(1) as f64;
        let moments = |channel: usize, scale: f64| {
            let mean = sums[channel] as f64 / count;
            let variance = (squares[channel] as f64 / count - mean * mean).max(0.0);
            Moments {
                mean: (mean / scale) as f32,
                deviation: (variance.sqrt() / scale) as f32,
            }
        };
        Self {
            luma: moments(0, 1.0),
            rg: moments(1, 1.0),
            yb: moments(2, 2.0),
            clipped: (clipped as f64 / count) as f32,
        }
    }
}

/// Below this luma is at the lower end: 2 % of 255.
const DARK: i32 = 5;
/// Above this luma is at the upper end: 98 % of 255.
const BRIGHT: i32 = 250;

/// Side of the map of salience, as in the paper.
const SIDE: usize = 64;

/// Where a picture attracts the eye: a map that sums to 1.
struct Salience(Vec<f32>);

impl Salience {
    /// The spectral residual: what the log amplitude of the picture's spectrum has beyond its mean
    /// over 3x3 frequencies, back in space with the picture's phase, squared and smoothed.
    fn of(picture: &RgbImage) -> Self {
        let luma = |[r, g, b]: [f32; 3]| (0.299 * r + 0.587 * g + 0.114 * b) / 255.0;
        let pixels = thumbnail(picture, SIDE).into_iter();
        let mut spectrum: Vec<Complex> = pixels.map(|pixel| [luma(pixel), 0.0]).collect();
        let even = Self(vec![1.0 / (SIDE * SIDE) as f32; SIDE * SIDE]);
        if spectrum
            .iter()
            .all(|&[level, _]| (level - spectrum[0][0]).abs() < 1e-3)
        {
            return even;
        }
        fourier(&mut spectrum, 1.0);
        let amplitude = spectrum.iter().map(|&[re, im]| re.hypot(im).max(1e-6).ln());
        let amplitude: Vec<f32> = amplitude.collect();
        let usual = smooth(&amplitude, [1.0; 3]);
        for (value, usual) in spectrum.iter_mut().zip(usual) {
            // The value is exp(amplitude) times its phase: this leaves exp(amplitude − usual).
            *value = value.map(|part| part * (-usual).exp());
        }
        fourier(&mut spectrum, -1.0);
        let power: Vec<f32> = spectrum.iter().map(|[re, im]| re * re + im * im).collect();
        // A Gaussian of σ = 8 over 5 pixels, as OpenCV takes it.
        let map = smooth(
            &power,
            [-2.0, -1.0, 0.0, 1.0, 2.0].map(|d: f32| (-d * d / 128.0).exp()),
        );
        let sum: f32 = map.iter().sum();
        if sum > 0.0 {
            Self(map.iter().map(|value| value / sum).collect())
        } else {
            even
        }
    }

    fn distance_from_thirds(&self) -> f32 {
        let at = |index: usize| (index as f32 + 0.5) / SIDE as f32;
        let [mut x, mut y] = [0.0; 2];
        for (i, value) in self.0.iter().enumerate() {
            x += value * at(i % SIDE);
            y += value * at(i / SIDE);
        }
        let third = |at: f32| (at - 1.0 / 3.0).abs().min((at - 2.0 / 3.0).abs());
        third(x).hypot(third(y))
    }

    fn concentration(&self) -> f32 {
        let entropy = self.0.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln());
        (1.0 - entropy.sum::<f32>() / ((SIDE * SIDE) as f32).ln()).max(0.0)
    }
}

/// Real and imaginary part.
type Complex = [f32; 2];

/// The two-dimensional discrete Fourier transform of a map, in place and not scaled; its inverse
/// for `direction` −1.
fn fourier(map: &mut [Complex], direction: f32) {
    let turns: [Complex; SIDE / 2] = std::array::from_fn(|k| {
        let (sin, cos) = (-direction * TAU * k as f32 / SIDE as f32).sin_cos();
        [cos, sin]
    });
    for _ in 0..2 {
        map.chunks_exact_mut(SIDE)
            .for_each(|row| fourier_row(row, &turns));
        for y in 0..SIDE {
            for x in 0..y {
                map.swap(y * SIDE + x, x * SIDE + y);
            }
        }
    }
}

/// Cooley and Tukey's transform of a row of [`SIDE`] values; `turns` are the roots of unity over
/// half a circle.
fn fourier_row(row: &mut [Complex], turns: &[Complex]) {
    let unused = usize::BITS - SIDE.trailing_zeros();
    for i in 0..SIDE {
        let reversed = i.reverse_bits() >> unused;
        if i < reversed {
            row.swap(i, reversed);
        }
    }
    let mut half = 1;
    while half < SIDE {
        for start in (0..SIDE).step_by(2 * half) {
            for k in 0..half {
                let [cos, sin] = turns[k * (SIDE / 2 / half)];
                let [a, b] = [row[start + k], row[start + k + half]];
                let b = [b[0] * cos - b[1] * sin, b[0] * sin + b[1] * cos];
                row[start + k] = [a[0] + b[0], a[1] + b[1]];
                row[start + k + half] = [a[0] - b[0], a[1] - b[1]];
            }
        }
        half *= 2;
    }
}

/// A map smoothed across and down by weights that are scaled to a sum of 1; at its sides the outermost
/// values go on.
fn smooth<const N: usize>(map: &[f32], weights: [f32; N]) -> Vec<f32> {
    let sum: f32 = weights.iter().sum();
    let along = |map: &[f32], step: usize| -> Vec<f32> {
        let value = |i: usize| {
            let place = i / step % SIDE;
            let term = |(k, weight): (usize, &f32)| {
                let other = (place + k).saturating_sub(N / 2).min(SIDE - 1);
                weight * map[i + other * step - place * step]
            };
            weights.iter().enumerate().map(term).sum::<f32>() / sum
        };
        (0..map.len()).map(value).collect()
    };
    along(&along(map, 1), SIDE)
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    fn picture(color: impl Fn(u32, u32) -> [u8; 3]) -> RgbImage {
        RgbImage::from_fn(120, 90, |x, y| Rgb(color(x, y)))
    }

    #[test]
    fn of_halves_in_two_colors() {
        // Left red, right blue: rg is ±255 and 0, yb is 127.5 and -255.
        let halves = picture(|x, _| if x < 60 { [255, 0, 0] } else { [0, 0, 255] });
        let found = Statistics::of(&halves);
        let expected = 127.5_f32.hypot(191.25) + 0.3 * 127.5_f32.hypot(-63.75);
        assert!((found.colorfulness - expected).abs() < 1e-2, "{found:?}");
    }

    #[test]
    fn of_black_and_white_halves() {
        let halves = picture(|x, _| if x < 60 { [0; 3] } else { [255; 3] });
        let found = Statistics::of(&halves);
        assert_eq!(found.colorfulness, 0.0);
        assert!((found.contrast - 0.5).abs() < 1e-6, "{found:?}");
        assert!((found.exposure - 0.5).abs() < 1e-6, "{found:?}");
        assert_eq!(found.clipped, 1.0);
    }

    #[test]
    fn of_an_even_picture() {
        let found = Statistics::of(&picture(|_, _| [51; 3]));
        let middle = (1.0_f32 / 6.0).hypot(1.0 / 6.0);
        assert!((found.exposure - 0.2).abs() < 1e-6, "{found:?}");
        assert!((found.from_thirds - middle).abs() < 1e-4, "{found:?}");
        assert!(
            found.concentration < 1e-4 && found.contrast < 1e-6,
            "{found:?}"
        );
    }

    /// A disc on a fine grain, at a place in fractions of the picture.
    fn disc(x: f32, y: f32) -> RgbImage {
        picture(|column, row| {
            let (dx, dy) = (column as f32 - 120.0 * x, row as f32 - 90.0 * y);
            let grain = (column * 7 + row * 13) % 11;
            if dx * dx + dy * dy < 36.0 {
                [240, 220, 40]
            } else {
                [90 + grain as u8; 3]
            }
        })
    }

    #[test]
    fn salience_is_where_the_odd_thing_is() {
        let on_a_third = Statistics::of(&disc(1.0 / 3.0, 2.0 / 3.0));
        let in_the_middle = Statistics::of(&disc(0.5, 0.5));
        assert!(on_a_third.from_thirds < 0.08, "{on_a_third:?}");
        assert!(in_the_middle.from_thirds > 0.18, "{in_the_middle:?}");
        let grain = Statistics::of(&disc(9.0, 9.0));
        assert!(
            on_a_third.concentration > grain.concentration + 0.1,
            "{on_a_third:?} {grain:?}"
        );
    }

    #[test]
    fn a_clip_has_the_means_of_its_frames() {
        let frame = |level: u8| Frame {
            index: 0,
            time: 0.0,
            picture: picture(|_, _| [level; 3]),
        };
        let found = Statistics::of_clip(&[frame(0), frame(102)]);
        assert!((found.exposure - 0.2).abs() < 1e-6, "{found:?}");
        assert_eq!(found.clipped, 0.5);
        assert_eq!(Statistics::of_clip(&[]), Statistics::default());
    }

    #[test]
    fn the_transform_of_a_wave_is_one_frequency_and_back() {
        let wave = |i: usize| (TAU * (3 * (i % SIDE) + 5 * (i / SIDE)) as f32 / SIDE as f32).cos();
        let mut map: Vec<Complex> = (0..SIDE * SIDE).map(|i| [wave(i), 0.0]).collect();
        fourier(&mut map, 1.0);
        let half = (SIDE * SIDE) as f32 / 2.0;
        for (i, [re, im]) in map.iter().enumerate() {
            let expected = if i == 5 * SIDE + 3 || i == 59 * SIDE + 61 {
                half
            } else {
                0.0
            };
            assert!(
                (re - expected).abs() < 0.01 && im.abs() < 0.01,
                "{i}: {re} {im}"
            );
        }
        fourier(&mut map, -1.0);
        for (i, [re, _]) in map.iter().enumerate() {
            assert!((re / (SIDE * SIDE) as f32 - wave(i)).abs() < 1e-4);
        }
    }
}
