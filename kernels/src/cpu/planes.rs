//! Clips as planes, one for each frame of each channel.

use burn::{backend::flex::FlexTensor, tensor::TensorData};
use rayon::prelude::*;

use super::simd::LANES;

/// Extents of a clip's tensor.
#[derive(Clone, Copy)]
pub(super) struct Extents {
    pub batch: usize,
    pub channels: usize,
    pub frames: usize,
    pub height: usize,
    pub width: usize,
}

impl Extents {
    pub fn of(x: &FlexTensor) -> Self {
        let shape = x.layout().shape();
        Self {
            batch: shape[0],
            channels: shape[1],
            frames: shape[2],
            height: shape[3],
            width: shape[4],
        }
    }

    pub fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    /// So many rows and columns before each plane, and after it as many, and one more where the plane's
    /// extent is odd.
    pub fn margins(&self, count: usize) -> [[usize; 2]; 2] {
        let after = [self.height, self.width].map(|extent| count + extent % 2);
        [[count; 2], after]
    }

    /// Values of a frame of a channel.
    pub fn plane(&self) -> usize {
        self.height * self.width
    }

    pub fn len(&self) -> usize {
        self.batch * self.channels * self.frames * self.plane()
    }

    pub fn tensor(&self, values: Vec<f32>) -> FlexTensor {
        let shape = [
            self.batch,
            self.channels,
            self.frames,
            self.height,
            self.width,
        ];
        FlexTensor::from_data(TensorData::new(values, shape))
    }
}

/// All planes of a tensor with margins around each.
pub(super) struct Planes {
    pub values: Vec<f32>,
    /// Values of a row, margins included.
    pub width: usize,
    /// Values of a plane, margins included.
    pub plane: usize,
    pub batch: usize,
    pub channels: usize,
    pub frames: usize,
}

impl Planes {
    /// Copies the planes of `x` with `before` and `after` more rows and columns on either side,
    /// which repeat the outermost values or are zero.
    pub fn new(
        x: &[f32],
        extents: Extents,
        [before, after]: [[usize; 2]; 2],
        repeat: bool,
    ) -> Self {
        let Extents { height, width, .. } = extents;
        let [top, left] = before;
        let padded_width = left + width + after[1];
        let padded_height = top + height + after[0];
        let plane = padded_width * padded_height;
        // Vectors that begin in the last row may reach beyond it.
        let mut values = vec![0.0; extents.len() / extents.plane().max(1) * plane + 2 * LANES];
        let planes = values.par_chunks_exact_mut(plane);
        planes
            .zip(x.par_chunks_exact(extents.plane()))
            .for_each(|(out, x)| {
                for (row, out) in out.chunks_exact_mut(padded_width).enumerate() {
                    let inside = (top..top + height).contains(&row);
                    if !inside && !repeat {
                        continue;
                    }
                    let source = row.saturating_sub(top).min(height - 1) * width;
                    let x = &x[source..source + width];
                    out[left..left + width].copy_from_slice(x);
                    if repeat {
                        out[..left].fill(x[0]);
                        out[left + width..].fill(x[width - 1]);
                    }
                }
            });
        Self {
            values,
            width: padded_width,
            plane,
            batch: extents.batch,
            channels: extents.channels,
            frames: extents.frames,
        }
    }

    /// Where a plane begins.
    pub fn start(&self, batch: usize, channel: usize, frame: usize) -> usize {
        ((batch * self.channels + channel) * self.frames + frame) * self.plane
    }
}
