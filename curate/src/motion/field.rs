//! A flow field in a few numbers.

use image::GrayImage;

use super::camera::{Affine, Sample};
use crate::Frame;

/// Flow is averaged over cells of this many pixels a side before the camera's motion is sought.
const CELL: usize = 4;

/// Gradient in gray levels a pixel at which flow is half trusted: there is none to see in flat
/// regions.
const TEXTURE: f64 = 2.0;

/// Motion from a picture to the next one. Speeds are in diagonals a second.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    /// Time between the two, positive.
    pub seconds: f64,
    /// Pictures of the source from the one to the other, at least 1.
    pub pictures: u64,
    /// Mean absolute difference of the two, in gray levels.
    pub difference: f64,
    /// Of all pixels.
    pub speed: f64,
    /// Of the fastest twentieth.
    pub fastest: f64,
    /// Against the camera, weighted by texture.
    pub subject: f64,
    /// The motion of the whole picture, a second.
    pub camera: Affine,
    /// Mean speed of the picture under `camera`.
    pub camera_speed: f64,
}

/// Measures a flow field `[2, height, width]` between two frames, of which reduced pictures are
/// given. `None` if no time lies between them.
pub(super) fn measure_step(flow: &[f32], frames: &[Frame], pictures: &[GrayImage]) -> Option<Step> {
    let seconds = frames[1].time - frames[0].time;
    if seconds.is_nan() || seconds <= 0.0 {
        return None;
    }
    let (width, height) = pictures[0].dimensions();
    let diagonal = f64::from(width).hypot(f64::from(height));
    let per_second = 1.0 / (diagonal * seconds);
    let (x, y) = flow.split_at(flow.len() / 2);
    let mut lengths: Vec<f32> = x.iter().zip(y).map(|(x, y)| x.hypot(*y)).collect();

    let samples = samples(x, y, &pictures[0]);
    let camera = Affine::fit(&samples).scaled(1.0 / seconds);
    let mut subject = 0.0;
    let mut camera_speed = 0.0;
    let mut weights = 0.0;
    for sample in &samples {
        let [u, v] = camera.at(sample.x, sample.y);
        let (residual_u, residual_v) = (sample.u / seconds - u, sample.v / seconds - v);
        subject += sample.weight * residual_u.hypot(residual_v);
        weights += sample.weight;
        camera_speed += u.hypot(v);
    }
    Some(Step {
        seconds,
        pictures: frames[1].index.saturating_sub(frames[0].index).max(1),
        difference: difference(&pictures[0], &pictures[1]),
        speed: mean(&lengths) * per_second,
        fastest: fastest(&mut lengths) * per_second,
        subject: if weights > 0.0 {
            subject / weights
        } else {
            0.0
        },
        camera,
        camera_speed: camera_speed / samples.len().max(1) as f64,
    })
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len().max(1) as f64
}

/// Mean of the largest twentieth, rounded down to whole values as VBench does. Reorders.
fn fastest(lengths: &mut [f32]) -> f64 {
    let count = (lengths.len() / 20).max(1);
    let rest = lengths.len() - count;
    lengths.select_nth_unstable_by(rest, f32::total_cmp);
    mean(&lengths[rest..])
}

fn difference(a: &GrayImage, b: &GrayImage) -> f64 {
    let pixels = a.as_raw().iter().zip(b.as_raw());
    let sum: u64 = pixels.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.as_raw().len().max(1) as f64
}

/// The flow of cells, placed and measured in diagonals from the picture's centre.
fn samples(x: &[f32], y: &[f32], picture: &GrayImage) -> Vec<Sample> {
    let (width, height) = picture.dimensions();
    let (width, height) = (width as usize, height as usize);
    let diagonal = (width as f64).hypot(height as f64);
    let luma = picture.as_raw();
    let mut samples = Vec::with_capacity(luma.len() / (CELL * CELL));
    for top in (0..height).step_by(CELL) {
        for left in (0..width).step_by(CELL) {
            let bottom = (top + CELL).min(height);
            let right = (left + CELL).min(width);
            let [mut u, mut v, mut gradient] = [0.0, 0.0, 0.0];
            for row in top..bottom {
                for column in left..right {
                    let at = |row: usize, column: usize| f64::from(luma[row * width + column]);
                    let across = at(row, (column + 1).min(width - 1)) - at(row, column);
                    let down = at((row + 1).min(height - 1), column) - at(row, column);
                    gradient += across * across + down * down;
                    u += f64::from(x[row * width + column]);
                    v += f64::from(y[row * width + column]);
                }
            }
            let pixels = ((bottom - top) * (right - left)) as f64;
            let gradient = gradient / pixels;
            samples.push(Sample {
                x: ((left + right) as f64 - width as f64) / 2.0 / diagonal,
                y: ((top + bottom) as f64 - height as f64) / 2.0 / diagonal,
                u: u / pixels / diagonal,
                v: v / pixels / diagonal,
                weight: gradient / (gradient + TEXTURE * TEXTURE),
            });
        }
    }
    samples
}
