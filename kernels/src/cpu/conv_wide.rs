//! The causal 3×3×3 convolution of many channels, as matrix products.
//!
//! As in `conv`, planes are padded once, and each of the kernel's taps sees the planes shifted by a
//! fixed distance: so a tap is one product of its weights `[out, in]` with the planes
//! `[in, positions]` where they lie. A stretch of positions takes all taps while its sums are in the
//! processor's cache.

use std::{iter::repeat_n, ops::Range};

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    conv::{K, source_frame},
    matrix::{View, product},
    planes::{Extents, Planes},
};

/// Channels from which products are faster than sums of shifted planes.
const CHANNELS: usize = 48;

/// Positions that take all taps at a time.
const POSITIONS: usize = 384;

/// Stretches that are in memory beside the output at a time.
const AT_ONCE: usize = 32;

/// Whether this form is the faster one.
pub(super) fn pays(inputs: usize, outputs: usize) -> bool {
    inputs >= CHANNELS && outputs >= CHANNELS
}

/// The output.
pub(super) fn forward(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    let [x, weight, bias] = [x, weight, bias].map(|x| x.to_contiguous());
    let extents = Extents::of(&x);
    let out_extents = extents.with_channels(bias.layout().num_elements());
    let planes = Planes::new(x.storage(), extents, [[1, 1], [1, 1]], true);
    let taps = by_tap(weight.storage(), [out_extents.channels, extents.channels]);
    // In the padded geometry the last row ends before the margins.
    let length = (extents.height - 1) * planes.width + extents.width;
    let bias: &[f32] = bias.storage();
    let sums_of = |index: usize, stretch: &Range<usize>| {
        let (batch, frame) = (index / extents.frames, index % extents.frames);
        let positions = stretch.len();
        let mut sums: Vec<f32> = bias.iter().flat_map(|&x| repeat_n(x, positions)).collect();
        let tap_size = bias.len() * extents.channels;
        for (tap, weights) in taps.chunks_exact(tap_size).enumerate() {
            let [t, k] = [tap / (K * K), tap % (K * K)];
            let source = planes.start(batch, 0, source_frame(frame, t, K));
            let from = source + stretch.start + k / K * planes.width + k % K;
            add_product(&mut sums, weights, &planes, from, positions);
        }
        sums
    };

    let stretches: Vec<(usize, Range<usize>)> = (0..extents.batch * extents.frames)
        .flat_map(|frame| {
            let starts = (0..length).step_by(POSITIONS);
            starts.map(move |start| (frame, start..length.min(start + POSITIONS)))
        })
        .collect();
    let mut out = vec![0.0; out_extents.len()];
    for stretches in stretches.chunks(AT_ONCE) {
        let tasks = stretches.par_iter();
        let parts: Vec<_> = tasks
            .map(|(index, stretch)| sums_of(*index, stretch))
            .collect();
        for ((index, stretch), sums) in stretches.iter().zip(parts) {
            let (batch, frame) = (index / extents.frames, index % extents.frames);
            for (channel, sums) in sums.chunks_exact(stretch.len()).enumerate() {
                let plane = (batch * bias.len() + channel) * extents.frames + frame;
                let plane = &mut out[plane * extents.plane()..][..extents.plane()];
                without_margins(sums, stretch, [extents.width, planes.width], plane);
            }
        }
    }
    out_extents.tensor(out)
}

/// Copies a stretch of a plane whose rows have margins to where it belongs without them.
fn without_margins(
    sums: &[f32],
    stretch: &Range<usize>,
    [width, padded_width]: [usize; 2],
    plane: &mut [f32],
) {
    for row in stretch.start / padded_width..=(stretch.end - 1) / padded_width {
        let first = row * padded_width;
        let (from, to) = (first.max(stretch.start), (first + width).min(stretch.end));
        if from < to {
            plane[row * width + from - first..row * width + to - first]
                .copy_from_slice(&sums[from - stretch.start..to - stretch.start]);
        }
    }
}

/// Weights `[out, in, 3, 3, 3]` as a matrix `[in, out]` for each tap.
fn by_tap(weight: &[f32], [outputs, inputs]: [usize; 2]) -> Vec<f32> {
    let taps = K * K * K;
    let mut out = vec![0.0; weight.len()];
    for (pair, kernel) in weight.chunks_exact(taps).enumerate() {
        let (output, input) = (pair / inputs, pair % inputs);
        for (tap, value) in kernel.iter().enumerate() {
            out[(tap * inputs + input) * outputs + output] = *value;
        }
    }
    out
}

/// Adds the product of `weights`, `[in, out]`, and of `positions` values of all channels of a frame
/// of `planes`, the first channel's beginning at `from`; `sums` is `[out, positions]`.
fn add_product(sums: &mut [f32], weights: &[f32], planes: &Planes, from: usize, positions: usize) {
    let (outputs, inputs) = (sums.len() / positions, planes.channels);
    let weights = View::new(weights, inputs, outputs).transpose();
    let stride = planes.frames * planes.plane;
    let x = View::apart(&planes.values[from..], inputs, positions, stride);
    product(sums, weights, x, true);
}
