//! The causal 3×3×3 convolution and its gradients as sums of shifted planes.
//!
//! Planes are padded once; in a padded plane the neighbour in any direction is at a fixed distance,
//! so each of the 27 weights between two channels multiplies one plane as a whole, shifted. The
//! sums over channels and shifts stay in registers. In time nothing is padded: before the first
//! frame there is the first frame.

use burn::{backend::flex::FlexTensor, tensor::TensorData};
use rayon::prelude::*;

use super::simd::{for_each_cpu, multiply_add};

/// Channels that are summed up side by side.
const CHANNELS: usize = 8;
/// Positions that are summed up side by side.
const LANES: usize = 32;
/// Output channels whose weight gradients are summed up side by side.
const ROWS: usize = 4;
/// Positions of a vector in the sums of weight gradients.
const VECTOR: usize = 16;
/// Size of the kernel along each axis.
const K: usize = 3;

/// Extents of a clip's tensor.
#[derive(Clone, Copy)]
struct Extents {
    batch: usize,
    channels: usize,
    frames: usize,
    height: usize,
    width: usize,
}

impl Extents {
    fn of(x: &FlexTensor) -> Self {
        let shape = x.layout().shape();
        Self {
            batch: shape[0],
            channels: shape[1],
            frames: shape[2],
            height: shape[3],
            width: shape[4],
        }
    }

    fn with_channels(self, channels: usize) -> Self {
        Self { channels, ..self }
    }

    /// Values of a frame of a channel.
    fn plane(&self) -> usize {
        self.height * self.width
    }

    fn len(&self) -> usize {
        self.batch * self.channels * self.frames * self.plane()
    }

    fn tensor(&self, values: Vec<f32>) -> FlexTensor {
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
struct Planes {
    values: Vec<f32>,
    /// Values of a row, margins included.
    width: usize,
    /// Values of a plane, margins included.
    plane: usize,
    channels: usize,
    frames: usize,
}

impl Planes {
    /// Copies the planes of `x` with `before` and `after` more rows and columns on either side,
    /// which repeat the outermost values or are zero.
    fn new(x: &[f32], extents: Extents, [before, after]: [[usize; 2]; 2], repeat: bool) -> Self {
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
            channels: extents.channels,
            frames: extents.frames,
        }
    }

    /// Where a plane begins.
    fn start(&self, batch: usize, channel: usize, frame: usize) -> usize {
        ((batch * self.channels + channel) * self.frames + frame) * self.plane
    }
}

/// The frame that tap `k` of the kernel reads for output frame `t`.
fn source_frame(t: usize, k: usize, taps: usize) -> usize {
    (t + k).saturating_sub(taps - 1)
}

/// Weights `[out, in, taps, 3, 3]`. A single frame is all that the three taps in time see, so their
/// weights are added up to one.
fn kernel(weight: &FlexTensor, frames: usize) -> (Vec<f32>, usize) {
    let weight = weight.to_contiguous();
    let values: &[f32] = weight.storage();
    if frames > 1 {
        return (values.to_vec(), K);
    }
    let summed = values.chunks_exact(K * K * K).flat_map(|kernel| {
        (0..K * K).map(|i| kernel[i] + kernel[i + K * K] + kernel[i + 2 * K * K])
    });
    (summed.collect(), 1)
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
    let planes = Planes::new(x.storage(), extents, [[1, 1], [1, 1]], true);
    let weight = |o: usize, i: usize, t: usize, k: usize| {
        weight[((o * extents.channels + i) * taps + t) * K * K + k]
    };
    let packed = pack([bias.len(), extents.channels, taps], weight);
    let sources = |t: usize| {
        (0..taps)
            .map(move |k| (source_frame(t, k, taps), k))
            .collect()
    };
    let mut out = correlate(&planes, &packed, taps, out_extents, extents.height, sources);
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
    let planes = Planes::new(gradient.storage(), out_extents, [[2, 2], [2, 2]], false);
    let weight = |i: usize, o: usize, t: usize, k: usize| {
        weight[((o * channels + i) * taps + t) * K * K + (K * K - 1 - k)]
    };
    let packed = pack([channels, out_extents.channels, taps], weight);
    let frames = extents.frames;
    let sources = |source: usize| {
        let pairs = (0..frames).flat_map(|t| (0..taps).map(move |k| (t, k)));
        pairs
            .filter(|&(t, k)| source_frame(t, k, taps) == source)
            .collect()
    };
    let padded = Extents {
        height: extents.height + 2,
        width: extents.width + 2,
        ..extents
    };
    let folded = correlate(&planes, &packed, taps, padded, padded.height, sources);
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

/// Arranges weights for [`correlate`]: for each block of output channels, then each input channel
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
fn correlate(
    planes: &Planes,
    packed: &[Kernels],
    taps: usize,
    out: Extents,
    rows: usize,
    sources: impl Fn(usize) -> Vec<(usize, usize)>,
) -> Vec<f32> {
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
    let length = (rows - 1) * planes.width + out.width;
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

/// The gradients for weight and bias.
pub(super) fn weight_backward(x: FlexTensor, gradient: FlexTensor) -> (FlexTensor, FlexTensor) {
    let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
    let (extents, out_extents) = (Extents::of(&x), Extents::of(&gradient));
    let taps = if extents.frames > 1 { K } else { 1 };
    let planes = Planes::new(x.storage(), extents, [[1, 1], [1, 1]], true);
    // Zero where a row of the padded input has its margins.
    let gradients = Planes::new(gradient.storage(), out_extents, [[0, 0], [0, 2]], false);
    let (inputs, outputs) = (extents.channels, out_extents.channels);
    let per_output = inputs * taps * K * K;
    let mut sums = vec![0.0; outputs * per_output];
    let blocks = sums.par_chunks_mut(ROWS * per_output).enumerate();
    blocks.for_each(|(block, sums)| {
        let rows = sums.len() / per_output;
        for batch in 0..extents.batch {
            for frame in 0..extents.frames {
                let first = gradients.start(batch, block * ROWS, frame);
                let step = gradients.plane * gradients.frames;
                // A block may have fewer rows; the first stands in and is not used.
                let starts =
                    std::array::from_fn(|row| first + if row < rows { row * step } else { 0 });
                for input in 0..inputs {
                    for tap in 0..taps {
                        let source = source_frame(frame, tap, taps);
                        let start = planes.start(batch, input, source);
                        for shift in 0..K {
                            let mut products = [[0.0; K]; ROWS];
                            let from = start + shift * planes.width;
                            let length = gradients.plane;
                            multiply_shifted(
                                &gradients.values,
                                starts,
                                &planes.values[from..],
                                length,
                                &mut products,
                            );
                            let at = ((input * taps + tap) * K + shift) * K;
                            for (sums, products) in sums.chunks_exact_mut(per_output).zip(&products)
                            {
                                for (sum, product) in sums[at..at + K].iter_mut().zip(products) {
                                    *sum += product;
                                }
                            }
                        }
                    }
                }
            }
        }
    });
    if taps == 1 {
        // Every tap saw the same frame.
        let kernels = sums.chunks_exact(K * K);
        sums = kernels.flat_map(|kernel| kernel.repeat(K)).collect();
    }
    let weight = TensorData::new(sums, [outputs, inputs, K, K, K]);
    (
        FlexTensor::from_data(weight),
        bias_backward(gradient.storage(), out_extents),
    )
}

/// The sum of the gradient over everything but channels.
fn bias_backward(gradient: &[f32], extents: Extents) -> FlexTensor {
    let per_channel = extents.frames * extents.plane();
    let sums: Vec<f64> = gradient
        .par_chunks_exact(per_channel)
        .map(|values| {
            let chunks = values
                .chunks(1024)
                .map(|chunk| f64::from(chunk.iter().sum::<f32>()));
            chunks.sum()
        })
        .collect();
    let channel = |c: usize| sums.iter().skip(c).step_by(extents.channels).sum::<f64>() as f32;
    let values: Vec<f32> = (0..extents.channels).map(channel).collect();
    FlexTensor::from_data(TensorData::new(values, [extents.channels]))
}

for_each_cpu! {
    /// For each row of gradients, the products with the plane shifted by 0, 1 and 2, summed up over
    /// `length` positions.
    fn multiply_shifted(
        gradients: &[f32],
        starts: [usize; ROWS],
        plane: &[f32],
        length: usize,
        products: &mut [[f32; K]; ROWS],
    ) = multiply_shifted_body
}

#[inline(always)]
fn multiply_shifted_body<const FUSED: bool>(
    gradients: &[f32],
    starts: [usize; ROWS],
    plane: &[f32],
    length: usize,
    products: &mut [[f32; K]; ROWS],
) {
    let rows = starts.map(|start| &gradients[start..start + length]);
    let whole = length / VECTOR * VECTOR;
    fn vectors(values: &[f32], length: usize) -> std::slice::Iter<'_, [f32; VECTOR]> {
        values[..length].as_chunks().0.iter()
    }
    let [mut s0, mut s1, mut s2, mut s3] = [[[0.0_f32; VECTOR]; K]; ROWS];
    let gradients = vectors(rows[0], whole)
        .zip(vectors(rows[1], whole))
        .zip(vectors(rows[2], whole).zip(vectors(rows[3], whole)));
    let shifted = vectors(plane, whole)
        .zip(vectors(&plane[1..], whole))
        .zip(vectors(&plane[2..], whole));
    for (((g0, g1), (g2, g3)), ((a, b), c)) in gradients.zip(shifted) {
        add_products::<FUSED>(g0, [a, b, c], &mut s0);
        add_products::<FUSED>(g1, [a, b, c], &mut s1);
        add_products::<FUSED>(g2, [a, b, c], &mut s2);
        add_products::<FUSED>(g3, [a, b, c], &mut s3);
    }
    let sums = [s0, s1, s2, s3];
    for ((row, sums), products) in rows.iter().zip(&sums).zip(products) {
        for ((k, sums), product) in sums.iter().enumerate().zip(products) {
            let rest = (whole..length).map(|at| row[at] * plane[at + k]);
            *product = sums.iter().sum::<f32>() + rest.sum::<f32>();
        }
    }
}

#[inline(always)]
fn add_products<const FUSED: bool>(
    gradient: &[f32; VECTOR],
    [a, b, c]: [&[f32; VECTOR]; K],
    [sa, sb, sc]: &mut [[f32; VECTOR]; K],
) {
    for lane in 0..VECTOR {
        sa[lane] = multiply_add::<FUSED>(gradient[lane], a[lane], sa[lane]);
    }
    for lane in 0..VECTOR {
        sb[lane] = multiply_add::<FUSED>(gradient[lane], b[lane], sb[lane]);
    }
    for lane in 0..VECTOR {
        sc[lane] = multiply_add::<FUSED>(gradient[lane], c[lane], sc[lane]);
    }
}
