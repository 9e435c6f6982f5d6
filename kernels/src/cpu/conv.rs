//! The causal 3×3×3 convolution, and its gradient for the input, as sums of shifted planes.
//!
//! Planes are padded once; in a padded plane the neighbour in any direction is at a fixed distance,
//! so each of the 27 weights between two channels multiplies one plane as a whole, shifted. The
//! sums over channels and shifts stay in registers. In time nothing is padded: before the first
//! frame there is the first frame, and taps that see the same frame are added up before they
//! multiply it.

use std::ops::Range;

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    conv_wide, conv_winograd,
    planes::{Extents, Planes},
    simd::{LANES, for_each_cpu, multiply_add},
};

/// Channels that are summed up side by side.
const CHANNELS: usize = 8;
/// Size of the kernel along each axis.
pub(super) const K: usize = 3;

/// What multiplies a frame: one of the kernel's places in time, or the sum of several. Short clips
/// take the first of these alone.
pub(super) const TAPS: [Range<usize>; 5] = [0..3, 2..3, 0..2, 1..2, 0..1];

/// How many of [`TAPS`] a clip takes.
pub(super) fn taps(frames: usize) -> usize {
    TAPS.len().min(2 * frames - 1)
}

/// The frames that output frame `t` reads, each with its place in [`TAPS`].
pub(super) fn sources(t: usize) -> Vec<(usize, usize)> {
    match t {
        0 => vec![(0, 0)],
        1 => vec![(0, 2), (1, 1)],
        t => vec![(t - 2, 4), (t - 1, 3), (t, 1)],
    }
}

/// The weights of the taps that a clip takes, `[out, in, taps, 3, 3]`, and how many taps these are.
fn kernel(weight: &FlexTensor, frames: usize) -> (Vec<f32>, usize) {
    let weight = weight.to_contiguous();
    let values: &[f32] = weight.storage();
    let taps = taps(frames);
    let mut kernels = vec![0.0; values.len() / K * taps];
    let all = kernels.par_chunks_exact_mut(taps * K * K);
    let all = all.zip(values.par_chunks_exact(K * K * K));
    all.with_min_len(256).for_each(|(kernels, values)| {
        for (kernel, tap) in kernels.chunks_exact_mut(K * K).zip(&TAPS) {
            for place in tap.clone() {
                add(kernel, &values[place * K * K..][..K * K]);
            }
        }
    });
    (kernels, taps)
}

/// Adds the weights of one place in time to others.
pub(super) fn add(sums: &mut [f32], weights: &[f32]) {
    for (sum, weight) in sums.iter_mut().zip(weights) {
        *sum += weight;
    }
}

/// Nine weights for each of a block of channels.
type Kernels = [[f32; CHANNELS]; K * K];

/// The output.
pub(super) fn forward(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    let (x, bias) = (x.to_contiguous(), bias.to_contiguous());
    let extents = Extents::of(&x);
    let (weight, taps) = kernel(&weight, extents.frames);
    let bias: &[f32] = bias.storage();
    let out_extents = extents.with_channels(bias.len());
    let planes = Planes::new(x.storage(), extents, extents.margins(1), true);
    // What is read from here on is the copy.
    drop(x);
    let weight = |o: usize, i: usize, tap: usize, k: usize| {
        weight[((o * extents.channels + i) * taps + tap) * K * K + k]
    };
    let mut out = correlate(&planes, weight, taps, out_extents, sources);
    let per_channel = out_extents.frames * out_extents.plane();
    let channels = out.par_chunks_mut(per_channel).enumerate();
    channels.for_each(|(index, values)| {
        let bias = bias[index % bias.len()];
        values.iter_mut().for_each(|value| *value += bias);
    });
    out_extents.tensor(out)
}

/// The gradient for the input: the gradient of the output, correlated with the kernel turned
/// around, on the padded frame; what falls on its margins belongs to the values repeated there.
pub(super) fn x_backward(weight: FlexTensor, gradient: FlexTensor) -> FlexTensor {
    let gradient = gradient.to_contiguous();
    let out_extents = Extents::of(&gradient);
    let channels = weight.layout().shape()[1];
    let (weight, taps) = kernel(&weight, out_extents.frames);
    let extents = out_extents.with_channels(channels);
    let planes = Planes::new(
        gradient.storage(),
        out_extents,
        out_extents.margins(2),
        false,
    );
    let weight = |i: usize, o: usize, tap: usize, k: usize| {
        weight[((o * channels + i) * taps + tap) * K * K + (K * K - 1 - k)]
    };
    // The output frames that read a frame, each with the tap that it does so by.
    let readers = |frame: usize| {
        let of_output = |t| {
            let reads = sources(t).into_iter().filter(|read| read.0 == frame);
            reads.map(move |(_, tap)| (t, tap)).collect::<Vec<_>>()
        };
        (0..extents.frames).flat_map(of_output).collect()
    };
    let padded = Extents {
        height: extents.height + 2,
        width: extents.width + 2,
        ..extents
    };
    let folded = correlate(&planes, weight, taps, padded, readers);
    let mut out = vec![0.0; extents.len()];
    let pairs = out
        .par_chunks_exact_mut(extents.plane())
        .zip(folded.par_chunks_exact(padded.plane()));
    pairs.for_each(|(out, padded_plane)| {
        for (row, values) in padded_plane.chunks_exact(padded.width).enumerate() {
            let row = row.saturating_sub(1).min(extents.height - 1);
            let out = &mut out[row * extents.width..][..extents.width];
            for (out, value) in out.iter_mut().zip(&values[1..]) {
                *out += value;
            }
            out[0] += values[0];
            out[extents.width - 1] += values[padded.width - 1];
        }
    });
    extents.tensor(out)
}

/// Arranges weights for [`add_shifted`]: for each block of output channels, then each input channel
/// and tap, the nine weights of all channels of the block. Channels that a block lacks are zero.
fn pack(
    [outputs, inputs, taps]: [usize; 3],
    weight: impl Fn(usize, usize, usize, usize) -> f32,
) -> Vec<Kernels> {
    let blocks = outputs.div_ceil(CHANNELS);
    let entries = (0..blocks)
        .flat_map(|block| (0..inputs).flat_map(move |i| (0..taps).map(move |t| (block, i, t))));
    let kernels = entries.map(|(block, i, t)| {
        let mut kernels = [[0.0; CHANNELS]; K * K];
        for (k, kernel) in kernels.iter_mut().enumerate() {
            let first = block * CHANNELS;
            for (channel, value) in kernel.iter_mut().enumerate().take(outputs - first) {
                *value = weight(first + channel, i, t, k);
            }
        }
        kernels
    });
    kernels.collect()
}

/// For every frame and channel of the output, the sum over the planes' channels, over the pairs of
/// frame and tap that `sources` lists for the frame, and over 3×3 shifts.
///
/// `weight` takes the output's channel, the input's, tap and shift.
fn correlate(
    planes: &Planes,
    weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    taps: usize,
    out: Extents,
    sources: impl Fn(usize) -> Vec<(usize, usize)>,
) -> Vec<f32> {
    if conv_winograd::pays(planes.channels, out.channels, out) {
        return conv_winograd::correlate(planes, weight, taps, out, sources);
    }
    if conv_wide::pays(planes.channels, out.channels) {
        return conv_wide::correlate(planes, weight, taps, out, sources);
    }
    let packed = pack([out.channels, planes.channels, taps], weight);
    let sources: Vec<Vec<(usize, usize)>> = (0..out.frames).map(sources).collect();
    let blocks = out.channels.div_ceil(CHANNELS);
    let mut values = vec![0.0; out.len()];

    // A task computes one frame of a block of channels; it owns these planes of the output.
    let mut tasks: Vec<Vec<&mut [f32]>> = Vec::new();
    tasks.resize_with(out.batch * blocks * out.frames, Vec::new);
    for (index, plane) in values.chunks_exact_mut(out.plane()).enumerate() {
        let (channel, frame) = (index / out.frames % out.channels, index % out.frames);
        let batch = index / out.frames / out.channels;
        tasks[(batch * blocks + channel / CHANNELS) * out.frames + frame].push(plane);
    }
    // In the padded geometry the output's last row ends before the margins.
    let length = (out.height - 1) * planes.width + out.width;
    let scratch_row = length.next_multiple_of(LANES);
    let scratch = || vec![0.0; CHANNELS * scratch_row];
    let tasks = tasks.into_par_iter().enumerate();
    tasks.for_each_init(scratch, |scratch, (task, outputs)| {
        let (frame, block) = (task % out.frames, task / out.frames % blocks);
        let batch = task / out.frames / blocks;
        let terms: Vec<(usize, &Kernels)> = (0..planes.channels)
            .flat_map(|channel| {
                let kernels = &packed[(block * planes.channels + channel) * taps..];
                let sources = sources[frame].iter();
                sources
                    .map(move |&(frame, tap)| (planes.start(batch, channel, frame), &kernels[tap]))
            })
            .collect();
        add_shifted(&planes.values, planes.width, &terms, scratch, scratch_row);
        for (plane, sums) in outputs.into_iter().zip(scratch.chunks_exact(scratch_row)) {
            let rows = plane
                .chunks_exact_mut(out.width)
                .zip(sums.chunks(planes.width));
            for (plane, sums) in rows {
                plane.copy_from_slice(&sums[..out.width]);
            }
        }
    });
    values
}

for_each_cpu! {
    /// For each channel of a block, the sum over `terms` of nine shifted planes times their
    /// weights; `row` values of `out` belong to a channel.
    fn add_shifted(
        planes: &[f32],
        width: usize,
        terms: &[(usize, &Kernels)],
        out: &mut [f32],
        row: usize,
    ) = add_shifted_body
}

#[inline(always)]
fn add_shifted_body<const FUSED: bool>(
    planes: &[f32],
    width: usize,
    terms: &[(usize, &Kernels)],
    out: &mut [f32],
    row: usize,
) {
    for position in (0..row).step_by(LANES) {
        let mut sums = [[0.0_f32; LANES]; CHANNELS];
        for (start, kernels) in terms {
            for (k, weights) in kernels.iter().enumerate() {
                let from = start + position + k / K * width + k % K;
                // The planes end with a margin, so there is always a whole vector.
                let Some(x) = planes[from..].first_chunk::<LANES>() else {
                    return;
                };
                for (sums, &weight) in sums.iter_mut().zip(weights) {
                    for lane in 0..LANES {
                        sums[lane] = multiply_add::<FUSED>(x[lane], weight, sums[lane]);
                    }
                }
            }
        }
        for (channel, sums) in sums.iter().enumerate() {
            out[channel * row + position..][..LANES].copy_from_slice(sums);
        }
    }
}
