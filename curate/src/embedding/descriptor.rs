//! A clip as a vector without a learned model: for finding near-duplicates, not for meaning.
//!
//! After MPEG-7's visual descriptors (ISO/IEC 15938-3: colour layout, edge histogram, motion
//! activity), on 64x64 pictures:
//! - colour: the mean Y'CbCr of 8x8 cells; of luma the differences from its mean,
//! - edges: histograms of gradient directions in 4x4 cells,
//! - motion: where, in 4x4 cells, and when, in 8 parts of the clip, pictures change.
//!
//! The cosine of two clips hardly changes with size, compression, frame rate, brightness, contrast
//! and small crops. It does with mirroring, borders, large crops and other cuts of the same scene.

use std::f32::consts::PI;

use image::RgbImage;

use crate::frame::{Frame, thumbnail};

/// Length of the vector.
pub const LENGTH: usize = 3 * COLORS * COLORS + DIRECTIONS * CELLS * CELLS + CELLS * CELLS + PARTS;

/// Side of the pictures looked at, in pixels.
const SIDE: usize = 64;
/// Cells across a picture for colour.
const COLORS: usize = 8;
/// Cells across a picture for edges and motion.
const CELLS: usize = 4;
/// Directions of gradients, over half a turn.
const DIRECTIONS: usize = 8;
/// Parts of a clip for motion.
const PARTS: usize = 8;
/// Changes up to this many levels are noise.
const NOISE: f32 = 4.0;

/// The descriptor of a clip: [`LENGTH`] values, their squares summing to 1; zeros for a clip without
/// frames or any structure.
pub fn descriptor(frames: &[Frame]) -> Vec<f32> {
    let mut color = vec![[0.0; 3]; COLORS * COLORS];
    let mut edges = vec![0.0; DIRECTIONS * CELLS * CELLS];
    let (mut places, mut parts) = (vec![0.0; CELLS * CELLS], vec![0.0; PARTS]);
    let mut last: Option<Small> = None;
    for (i, frame) in frames.iter().enumerate() {
        let small = Small::of(&frame.picture);
        small.add_colors(&mut color);
        small.add_edges(&mut edges);
        if let Some(last) = &last {
            let change = small.add_changes(last, &mut places);
            parts[i * PARTS / frames.len()] += change;
        }
        last = Some(small);
    }
    let mean = color.iter().map(|c| c[0]).sum::<f32>() / color.len() as f32;
    color.iter_mut().for_each(|c| c[0] -= mean);

    let count = frames.len().max(1) as f32;
    let mut descriptor = Vec::with_capacity(LENGTH);
    // Below these sizes a part says little and counts less.
    descriptor.extend(weighed(color.as_flattened(), 0.6, 20.0 * count));
    descriptor.extend(weighed(&contrasted(&edges), 0.6, 20.0 * count));
    descriptor.extend(weighed(&contrasted(&places), 0.3, 2.0 * count));
    descriptor.extend(weighed(&contrasted(&parts), 0.3, 2.0 * count));
    let length = descriptor.iter().map(|v| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        descriptor.iter_mut().for_each(|value| *value /= length);
    }
    descriptor
}

/// A part of the descriptor brought to length `weight`, or less where it is not large against `small`.
fn weighed(values: &[f32], weight: f32, small: f32) -> impl Iterator<Item = f32> {
    let length = values.iter().map(|v| v * v).sum::<f32>().sqrt();
    values
        .iter()
        .map(move |value| weight * value / (length + small))
}

/// A histogram less its mean: counts are positive, and all such vectors would be alike.
fn contrasted(counts: &[f32]) -> Vec<f32> {
    let mean = counts.iter().sum::<f32>() / counts.len() as f32;
    counts.iter().map(|count| count - mean).collect()
}

/// A picture of [`SIDE`]² pixels, Y'CbCr in levels about 0.
struct Small(Vec<[f32; 3]>);

impl Small {
    fn of(picture: &RgbImage) -> Self {
        let color = |[r, g, b]: [f32; 3]| {
            let luma = 0.299 * r + 0.587 * g + 0.114 * b;
            [luma, 0.564 * (b - luma), 0.713 * (r - luma)]
        };
        Self(thumbnail(picture, SIDE).into_iter().map(color).collect())
    }

    fn luma(&self, x: usize, y: usize) -> f32 {
        self.0[y * SIDE + x][0]
    }

    fn add_colors(&self, cells: &mut [[f32; 3]]) {
        const PIXELS: usize = SIDE / COLORS;
        for (i, pixel) in self.0.iter().enumerate() {
            let cell = &mut cells[i / SIDE / PIXELS * COLORS + i % SIDE / PIXELS];
            for (sum, value) in cell.iter_mut().zip(pixel) {
                *sum += value / (PIXELS * PIXELS) as f32;
            }
        }
    }

    fn add_edges(&self, histograms: &mut [f32]) {
        for y in 1..SIDE - 1 {
            for x in 1..SIDE - 1 {
                let dx = self.luma(x + 1, y) - self.luma(x - 1, y);
                let dy = self.luma(x, y + 1) - self.luma(x, y - 1);
                let strength = dx.hypot(dy) / (SIDE * SIDE / CELLS / CELLS) as f32;
                // The two directions nearest to this one share it.
                let turn = dy.atan2(dx).rem_euclid(PI) / PI * DIRECTIONS as f32;
                let (low, part) = (turn as usize, turn.fract());
                for (cell, share) in near_cells(x, y) {
                    let histogram = &mut histograms[cell * DIRECTIONS..][..DIRECTIONS];
                    histogram[low % DIRECTIONS] += strength * share * (1.0 - part);
                    histogram[(low + 1) % DIRECTIONS] += strength * share * part;
                }
            }
        }
    }

    /// Adds how much each cell differs from another picture; gives the mean over the picture.
    fn add_changes(&self, other: &Self, cells: &mut [f32]) -> f32 {
        const PIXELS: usize = SIDE / CELLS;
        let mut sum = 0.0;
        for (i, (a, b)) in self.0.iter().zip(&other.0).enumerate() {
            let change = ((a[0] - b[0]).abs() - NOISE).max(0.0);
            cells[i / SIDE / PIXELS * CELLS + i % SIDE / PIXELS] +=
                change / (PIXELS * PIXELS) as f32;
            sum += change;
        }
        sum / (SIDE * SIDE) as f32
    }
}

/// The cells whose middles are around a pixel, and its share in each: a small shift of the picture
/// changes them little.
fn near_cells(x: usize, y: usize) -> impl Iterator<Item = (usize, f32)> {
    let near = |at: usize| {
        let place =
            ((at as f32 + 0.5) * CELLS as f32 / SIDE as f32 - 0.5).clamp(0.0, CELLS as f32 - 1.0);
        let low = place as usize;
        [
            (low, 1.0 - place.fract()),
            ((low + 1).min(CELLS - 1), place.fract()),
        ]
    };
    let across = near(x);
    near(y).into_iter().flat_map(move |(row, down)| {
        across.map(move |(column, share)| (row * CELLS + column, down * share))
    })
}
