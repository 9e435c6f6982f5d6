//! The sums of shifted planes that the causal 3×3×3 convolution and its gradients are made of, for many
//! channels: as matrix products.
//!
//! Planes are padded once, and each of the kernel's weights sees the planes shifted by a fixed
//! distance: so all weights of a tap and a shift, `[out, in]`, are one product with the planes
//! `[in, positions]` where they lie.

use std::ops::Range;

use rayon::prelude::*;

use super::{
    conv::{K, sources},
    conv_matrices::{by_pair, by_place},
    matrix::{View, product},
    planes::{Extents, Planes},
};

/// Channels from which products are faster than sums of shifted planes.
const CHANNELS: usize = 48;

/// Positions that take all weights at a time, while their sums are in the processor's cache.
const POSITIONS: usize = 384;

/// Stretches that are in memory beside the output at a time.
const AT_ONCE: usize = 32;

/// Whether this form is the faster one.
pub(super) fn pays(inputs: usize, outputs: usize) -> bool {
    inputs >= CHANNELS && outputs >= CHANNELS
}

/// For every frame and channel of the output, the sum over the planes' channels, over the pairs of
/// frame and tap that `sources` lists for the frame, and over 3×3 shifts.
///
/// `weight` takes the output's channel, the input's, tap and shift.
pub(super) fn correlate(
    planes: &Planes,
    weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    taps: usize,
    out: Extents,
    sources: impl Fn(usize) -> Vec<(usize, usize)>,
) -> Vec<f32> {
    let sources: Vec<Vec<(usize, usize)>> = (0..out.frames).map(sources).collect();
    let [inputs, outputs] = [planes.channels, out.channels];
    let weights = by_place([outputs, taps, inputs], weight, |kernel| kernel);
    let row = taps * K * K * inputs;
    let matrix = |place: usize| View::apart(&weights[place * inputs..], outputs, inputs, row);

    let sums_of = |index: usize, stretch: &Range<usize>| {
        let (batch, frame) = (index / out.frames, index % out.frames);
        let mut sums = vec![0.0; outputs * stretch.len()];
        for &(frame, tap) in &sources[frame] {
            let start = planes.start(batch, 0, frame) + stretch.start;
            for k in 0..K * K {
                let x = planes.shifted(start, k, stretch.len());
                product(&mut sums, matrix(tap * K * K + k), x, true);
            }
        }
        sums
    };

    // In the padded geometry the last row ends before the margins.
    let length = (out.height - 1) * planes.width + out.width;
    let stretches: Vec<(usize, Range<usize>)> = (0..out.batch * out.frames)
        .flat_map(|frame| {
            let starts = (0..length).step_by(POSITIONS);
            starts.map(move |start| (frame, start..length.min(start + POSITIONS)))
        })
        .collect();
    let mut values = vec![0.0; out.len()];
    for stretches in stretches.chunks(AT_ONCE) {
        let tasks = stretches.par_iter();
        let parts: Vec<_> = tasks
            .map(|(index, stretch)| sums_of(*index, stretch))
            .collect();
        let channels = values.par_chunks_exact_mut(out.frames * out.plane());
        channels.enumerate().for_each(|(place, channel)| {
            for ((index, stretch), sums) in stretches.iter().zip(&parts) {
                let (batch, frame) = (index / out.frames, index % out.frames);
                if batch == place / outputs {
                    let sums = &sums[place % outputs * stretch.len()..][..stretch.len()];
                    let plane = &mut channel[frame * out.plane()..][..out.plane()];
                    without_margins(sums, stretch, [out.width, planes.width], plane);
                }
            }
        });
    }
    values
}

/// For each tap and shift, the products of every channel of `gradients` with every channel of
/// `planes`, summed up over frames and positions: `[out, in, taps, 3, 3]`. `gradients` has zeros in
/// the margins, and rows as wide as those of `planes`.
pub(super) fn correlate_channels(planes: &Planes, gradients: &Planes, taps: usize) -> Vec<f32> {
    let [inputs, outputs] = [planes.channels, gradients.channels];
    let batches = gradients.batch;
    let sums_of = |index: usize| {
        let (tap, k) = (index / (K * K), index % (K * K));
        let mut sums = vec![0.0; outputs * inputs];
        for (batch, frame) in (0..batches).flat_map(|b| (0..planes.frames).map(move |f| (b, f))) {
            // The last row's margin lies beyond the shifted planes.
            let positions = gradients.plane - (K - 1);
            let gradients = gradients.shifted(gradients.start(batch, 0, frame), 0, positions);
            for (source, _) in sources(frame).into_iter().filter(|read| read.1 == tap) {
                let x = planes.shifted(planes.start(batch, 0, source), k, positions);
                product(&mut sums, gradients, x.transpose(), true);
            }
        }
        sums
    };
    let count = taps * K * K;
    let sums: Vec<Vec<f32>> = (0..count).into_par_iter().map(sums_of).collect();
    by_pair(&sums, taps, |kernel| kernel)
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

impl Planes {
    /// So many positions of all channels of a frame, from `start` in its first channel on, shifted by
    /// `k` of the 3×3 places of the kernel: `[channels, positions]`.
    fn shifted(&self, start: usize, k: usize, positions: usize) -> View<'_> {
        let from = start + k / K * self.width + k % K;
        let stride = self.frames * self.plane;
        View::apart(&self.values[from..], self.channels, positions, stride)
    }
}
