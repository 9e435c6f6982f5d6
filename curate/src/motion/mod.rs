//! Motion: dense optical flow and what follows from it.
//!
//! Speeds are in **diagonals a second**: the share of the picture's diagonal that is travelled in a
//! second, the same at every resolution and frame rate. The paper (arXiv 2412.03603, section 3.1)
//! removes static and slow clips by the speed of optical flow and publishes no threshold; the
//! limits here are our choice.
//!
//! Flow runs on burn tensors on any device. At the default size and 8 pictures a second it takes
//! 0.13 s of one core for a second of footage on burn's CPU backend (flex, AVX-512, 2026-11-21; the
//! look-up takes a third of it, on one core): `python benches/flow.py` compares it with OpenCV.

mod camera;
mod dynamic;
mod farneback;
mod field;
mod filter;
mod weights;

use burn::tensor::{DType, Device, Tensor, TensorData};
use image::GrayImage;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use camera::Camera;
pub use dynamic::{is_dynamic, sampling_interval};
pub use farneback::{Farneback, FarnebackConfig};

use crate::{
    Error, Frame, Result,
    clarity::gray,
    range::{Checked, within},
};
use field::{Step, measure_step};

/// Pairs of pictures whose flow is computed at once: more take memory, and gain no speed on a CPU.
const PAIRS_AT_ONCE: usize = 8;

/// How motion is measured. The numbers without a source are our choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Pictures are reduced to this longer side, in pixels, before flow is computed. Time grows
    /// somewhat faster than its square.
    pub longer_side: u32,
    /// A pair of pictures is still if the fastest twentieth of its pixels move slower than this, in
    /// diagonals a second. The noise of a camera moves them at up to half of the default.
    pub still_speed: f64,
    /// A picture repeats the one before if they differ by less than this on average, in gray levels
    /// of 255. Compression leaves some difference.
    pub repeat_difference: f64,
    /// Optical flow.
    pub flow: FarnebackConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            longer_side: 256,
            still_speed: 0.015,
            repeat_difference: 0.5,
            flow: FarnebackConfig::default(),
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Checked {
        within("longer_side", self.longer_side, 16..=8192)?;
        within("still_speed", self.still_speed, 0.0..)?;
        within("repeat_difference", self.repeat_difference, 0.0..)?;
        self.flow.check().map_err(|fault| format!("flow.{fault}"))
    }
}

/// The motion of a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Motion {
    /// Mean speed of all pixels, in diagonals a second.
    pub speed: f64,
    /// Mean speed of the fastest twentieth of the pixels, in diagonals a second.
    pub fastest: f64,
    /// Share of the time in which nothing moves.
    pub still: f64,
    /// Share of the pictures that repeat the one before: footage slowed or sped up by repeating,
    /// or a still picture.
    pub repeated: f64,
    /// Dynamic by the rule of VBench, see [`is_dynamic`].
    pub dynamic: bool,
    /// Mean speed of what moves against the camera's motion, in diagonals a second, weighted by
    /// texture.
    pub subject: f64,
    /// The motion of the picture as a whole.
    pub camera: Camera,
}

impl Motion {
    /// A clip of a single picture.
    const NONE: Self = Self {
        speed: 0.0,
        fastest: 0.0,
        still: 1.0,
        repeated: 0.0,
        dynamic: false,
        subject: 0.0,
        camera: Camera::STILL,
    };
}

/// Measures the motion of a clip from its pictures, at 8 or so a second.
///
/// Slower sampling sees less of fast motion, faster sampling costs more; the numbers stay the same.
/// [`Motion::dynamic`] is VBench's where every [`sampling_interval`]-th picture of the source is
/// given. Pictures without time between them are passed over.
///
/// # Errors
///
/// Pictures of different sizes, or a configuration that cannot be carried out.
pub fn measure(frames: &[Frame], config: &Config, device: &Device) -> Result<Motion> {
    let Some(first) = frames.first() else {
        return Ok(Motion::NONE);
    };
    let size = first.picture.dimensions();
    if let Some(other) = frames.iter().find(|f| f.picture.dimensions() != size) {
        let (other, at) = (other.picture.dimensions(), other.time);
        let problem = format!("motion: the picture at {at} s is {other:?}, the first {size:?}");
        return Err(Error::Request(problem));
    }
    let reduced = reduced_size(size, config.longer_side);
    let pictures: Vec<GrayImage> = frames
        .par_iter()
        .map(|frame| reduce(&gray(&frame.picture), reduced))
        .collect();
    let steps = steps(frames, &pictures, config, device)?;
    Ok(summary(&steps, config, reduced))
}

/// The flow of each picture to the next, in numbers.
fn steps(
    frames: &[Frame],
    pictures: &[GrayImage],
    config: &Config,
    device: &Device,
) -> Result<Vec<Step>> {
    let (width, height) = pictures[0].dimensions();
    let [width, height] = [width as usize, height as usize];
    let farneback = Farneback::new(&config.flow, [height, width], device)?;
    let mut steps = Vec::with_capacity(frames.len());
    for start in (0..frames.len() - 1).step_by(PAIRS_AT_ONCE) {
        let end = (start + PAIRS_AT_ONCE + 1).min(frames.len());
        let (frames, pictures) = (&frames[start..end], &pictures[start..end]);
        let values: Vec<f32> = pictures
            .iter()
            .flat_map(|picture| picture.as_raw().iter().map(|v| f32::from(*v)))
            .collect();
        let data = TensorData::new(values, [end - start, height, width]);
        let flow = farneback.flow(Tensor::from_data(data, (device, DType::F32)));
        let flow = read(flow)?;
        let flows = flow.par_chunks_exact(2 * height * width);
        let pairs = flows.zip(frames.par_windows(2).zip(pictures.par_windows(2)));
        let measured: Vec<Step> = pairs
            .filter_map(|(flow, (frames, pictures))| measure_step(flow, frames, pictures))
            .collect();
        steps.extend(measured);
    }
    Ok(steps)
}

fn read(flow: Tensor<4>) -> Result<Vec<f32>> {
    let failed = |problem: String| Error::Request(format!("the device gave no flow: {problem}"));
    let data = flow.try_into_data().map_err(|e| failed(e.to_string()))?;
    data.try_into_vec().map_err(|e| failed(e.to_string()))
}

/// The clip from its steps.
fn summary(steps: &[Step], config: &Config, (width, height): (u32, u32)) -> Motion {
    let seconds: f64 = steps.iter().map(|step| step.seconds).sum();
    if seconds == 0.0 {
        return Motion::NONE;
    }
    // Means over time: a step counts by its length.
    let mean = |of: &dyn Fn(&Step) -> f64| {
        steps
            .iter()
            .map(|step| of(step) * step.seconds)
            .sum::<f64>()
            / seconds
    };
    let repeated = |step: &&Step| step.difference < config.repeat_difference;
    Motion {
        speed: mean(&|step| step.speed),
        fastest: mean(&|step| step.fastest),
        still: mean(&|step| f64::from(step.fastest < config.still_speed)),
        repeated: steps.iter().filter(repeated).count() as f64 / steps.len() as f64,
        dynamic: dynamic::clip_is_dynamic(steps, width, height),
        subject: mean(&|step| step.subject),
        camera: Camera::of(steps),
    }
}

/// The size with the given longer side, never above the picture's own.
fn reduced_size((width, height): (u32, u32), longer_side: u32) -> (u32, u32) {
    let longer = width.max(height).max(1);
    if longer <= longer_side {
        return (width, height);
    }
    let side = |side: u32| {
        let reduced = f64::from(side) * f64::from(longer_side) / f64::from(longer);
        (reduced.round() as u32).max(1)
    };
    (side(width), side(height))
}

/// Averages over areas: every pixel of the result is the mean of what it covers.
fn reduce(picture: &GrayImage, (width, height): (u32, u32)) -> GrayImage {
    if picture.dimensions() == (width, height) {
        return picture.clone();
    }
    let columns = spans(width, picture.width());
    let mut sums = vec![0.0f32; picture.width() as usize];
    let mut pixels = Vec::with_capacity(width as usize * height as usize);
    for rows in spans(height, picture.height()) {
        sums.fill(0.0);
        for (row, share) in rows {
            let row = picture.as_raw()[row * sums.len()..].iter();
            sums.iter_mut()
                .zip(row)
                .for_each(|(sum, v)| *sum += share * f32::from(*v));
        }
        pixels.extend(columns.iter().map(|span| {
            let mean: f32 = span
                .iter()
                .map(|(column, share)| share * sums[*column])
                .sum();
            mean.round() as u8
        }));
    }
    GrayImage::from_raw(width, height, pixels).unwrap_or_default()
}

/// For each sample of a coarser axis, the finer samples that it covers and their shares.
fn spans(coarse: u32, fine: u32) -> Vec<Vec<(usize, f32)>> {
    let step = f64::from(fine) / f64::from(coarse);
    let span = |i: u32| {
        let (from, to) = (f64::from(i) * step, (f64::from(i) + 1.0) * step);
        let last = (to.ceil() as usize).min(fine as usize);
        (from as usize..last)
            .map(|j| (j, to.min(j as f64 + 1.0) - from.max(j as f64)))
            .map(|(j, covered)| (j, (covered / step) as f32))
            .collect()
    };
    (0..coarse).map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reduction_averages_areas() {
        let picture =
            GrayImage::from_raw(5, 2, vec![0, 10, 20, 30, 40, 0, 10, 20, 30, 40]).unwrap();
        // 2.5 columns each: (0 + 10 + 20/2) / 2.5 and (20/2 + 30 + 40) / 2.5.
        assert_eq!(reduce(&picture, (2, 1)).into_raw(), [8, 32]);
        assert_eq!(reduce(&picture, (5, 2)), picture);
    }

    #[test]
    fn sizes() {
        assert_eq!(reduced_size((640, 360), 256), (256, 144));
        assert_eq!(reduced_size((360, 640), 256), (144, 256));
        assert_eq!(reduced_size((200, 100), 256), (200, 100));
        assert_eq!(reduced_size((10_000, 2), 256), (256, 1));
    }

    #[test]
    fn no_pictures_no_motion() {
        let motion = measure(&[], &Config::default(), &Device::default());
        assert_eq!(motion.unwrap(), Motion::NONE);
    }
}
