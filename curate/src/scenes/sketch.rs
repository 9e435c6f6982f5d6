//! What gradual transitions are told by: small pictures, and how far one lies on the way between two.

use image::RgbImage;

use super::Position;

/// What is kept of a picture.
#[derive(Debug)]
pub(super) struct Sketch {
    pub position: Position,
    /// Means over cells, three channels each.
    pub cells: Vec<f32>,
    /// Mean squared difference between neighbouring pixels.
    pub detail: f64,
}

impl Sketch {
    /// Of an RGB picture.
    pub fn new(position: Position, picture: &RgbImage) -> Self {
        Self {
            position,
            cells: cells(picture),
            detail: detail(picture),
        }
    }
}

/// Cells of a sketch, across and down.
const CELLS: (usize, usize) = (32, 18);

/// How far along the way a picture lies, and how far beside it, as shares of the way's length.
pub(super) fn place(here: &[f32], first: &[f32], way: &[f32], squared: f64) -> (f64, f64) {
    let (mut along, mut length) = (0.0f32, 0.0f32);
    for ((here, first), way) in here.iter().zip(first).zip(way) {
        let step = here - first;
        along += step * way;
        length += step * step;
    }
    let along = f64::from(along) / squared;
    let beside = (f64::from(length) / squared - along * along)
        .max(0.0)
        .sqrt();
    (along, beside)
}

/// The sum of the products.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let products = a.iter().zip(b).map(|(a, b)| f64::from(a * b));
    products.sum()
}

fn mean(values: &[f32]) -> f64 {
    values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len() as f64
}

/// Standard deviation.
pub(super) fn contrast(values: &[f32]) -> f64 {
    covariance(values, values).max(0.0).sqrt()
}

fn covariance(a: &[f32], b: &[f32]) -> f64 {
    dot(a, b) / a.len() as f64 - mean(a) * mean(b)
}

/// Pearson's correlation.
pub(super) fn likeness(a: &[f32], b: &[f32]) -> f64 {
    covariance(a, b) / (contrast(a) * contrast(b)).max(f64::MIN_POSITIVE)
}

/// Means over cells of about equal size.
fn cells(picture: &RgbImage) -> Vec<f32> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let (across, down) = CELLS;
    let mut sums = vec![0u32; 3 * across * down];
    let mut counts = vec![0u32; across * down];
    for (y, row) in picture.as_raw().chunks_exact(3 * width).enumerate() {
        let cells = y * down / height * across;
        for (x, pixel) in row.chunks_exact(3).enumerate() {
            let cell = cells + x * across / width;
            counts[cell] += 1;
            for (sum, &value) in sums[3 * cell..].iter_mut().zip(pixel) {
                *sum += u32::from(value);
            }
        }
    }
    let counts = counts.iter().flat_map(|&count| [count.max(1); 3]);
    let means = sums
        .iter()
        .zip(counts)
        .map(|(&sum, count)| sum as f32 / count as f32);
    means.collect()
}

/// Mean squared difference of green between neighbours, across and down.
fn detail(picture: &RgbImage) -> f64 {
    let stride = 3 * picture.width() as usize;
    let green = &picture.as_raw()[1..];
    let sum = |step: usize| -> u64 {
        let pairs = green.iter().zip(green.iter().skip(step)).step_by(3);
        pairs.map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum()
    };
    (sum(3) + sum(stride)) as f64 / (picture.width() * picture.height()) as f64
}
