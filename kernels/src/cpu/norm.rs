//! Group norm with SiLU.

use burn::{backend::flex::FlexTensor, tensor::TensorData};
use rayon::prelude::*;

use super::{
    GroupNormOptions,
    simd::{LANES, for_each_cpu, multiply_add, sigmoid},
};

/// Values whose sum is taken in f32 before it is added up in f64.
const CHUNK: usize = 4096;

/// How a tensor divides into groups, whose values are contiguous.
struct Groups {
    shape: Vec<usize>,
    /// Channels of a group, and values of a channel.
    channels: usize,
    positions: usize,
    groups: usize,
}

impl Groups {
    fn of(x: &FlexTensor, options: GroupNormOptions) -> Self {
        let shape = x.layout().shape().to_vec();
        Self {
            channels: shape[1] / options.groups,
            positions: shape[2..].iter().product(),
            groups: options.groups,
            shape,
        }
    }

    /// Values of a group.
    fn len(&self) -> usize {
        self.channels * self.positions
    }

    /// The affine part's entries of the group `index`, counted through the batch.
    fn of_channels<'a>(&self, values: &'a [f32], index: usize) -> &'a [f32] {
        let group = index % self.groups;
        &values[group * self.channels..][..self.channels]
    }

    fn tensor(&self, values: Vec<f32>) -> FlexTensor {
        FlexTensor::from_data(TensorData::new(values, self.shape.clone()))
    }
}

/// Mean and reciprocal deviation of a group.
fn statistics(values: &[f32], eps: f32) -> (f32, f32) {
    let total = |shift: f32| {
        let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
        for chunk in values.chunks(CHUNK) {
            let mut sums = [0.0; 2];
            sum_and_squares(chunk, shift, &mut sums);
            sum += f64::from(sums[0]);
            squares += f64::from(sums[1]);
        }
        let count = values.len().max(1) as f64;
        (sum / count, squares / count)
    };
    // The second pass is around the mean, so that a large one does not cancel the variance.
    let (mean, _) = total(0.0);
    let (_, variance) = total(mean as f32);
    (
        mean as f32,
        (1.0 / (variance + f64::from(eps)).sqrt()) as f32,
    )
}

for_each_cpu! {
    /// The sum of values minus `shift`, and of their squares.
    fn sum_and_squares(values: &[f32], shift: f32, sums: &mut [f32; 2]) = sum_and_squares_body
}

#[inline(always)]
fn sum_and_squares_body<const FUSED: bool>(values: &[f32], shift: f32, sums: &mut [f32; 2]) {
    let (mut sum, mut squares) = ([0.0; LANES], [0.0; LANES]);
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let x = chunk[lane] - shift;
            sum[lane] += x;
            squares[lane] = multiply_add::<FUSED>(x, x, squares[lane]);
        }
    }
    let rest = rest.iter().map(|x| x - shift);
    sums[0] = sum.iter().sum::<f32>() + rest.clone().sum::<f32>();
    sums[1] = squares.iter().sum::<f32>() + rest.map(|x| x * x).sum::<f32>();
}

/// The layer.
pub(super) fn forward(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    options: GroupNormOptions,
) -> FlexTensor {
    let (x, weight, bias) = (
        x.to_contiguous(),
        weight.to_contiguous(),
        bias.to_contiguous(),
    );
    let groups = Groups::of(&x, options);
    let (weight, bias): (&[f32], &[f32]) = (weight.storage(), bias.storage());
    let x: &[f32] = x.storage();
    let mut out = vec![0.0; x.len()];
    let tasks = out
        .par_chunks_mut(groups.len())
        .zip(x.par_chunks(groups.len()));
    tasks.enumerate().for_each(|(index, (out, x))| {
        let (mean, inverse) = statistics(x, options.eps);
        let affine = groups
            .of_channels(weight, index)
            .iter()
            .zip(groups.of_channels(bias, index));
        let channels = x
            .chunks(groups.positions)
            .zip(out.chunks_mut(groups.positions));
        for ((x, out), (weight, bias)) in channels.zip(affine) {
            let scale = weight * inverse;
            apply(x, out, scale, bias - mean * scale, options.silu);
        }
    });
    groups.tensor(out)
}

for_each_cpu! {
    /// `out = x · scale + shift`, then SiLU.
    fn apply(x: &[f32], out: &mut [f32], scale: f32, shift: f32, silu: bool) = apply_body
}

#[inline(always)]
fn apply_body<const FUSED: bool>(x: &[f32], out: &mut [f32], scale: f32, shift: f32, silu: bool) {
    let affine = |x: f32| multiply_add::<FUSED>(x, scale, shift);
    if silu {
        for (out, &x) in out.iter_mut().zip(x) {
            let u = affine(x);
            *out = u * sigmoid::<FUSED>(u);
        }
    } else {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = affine(x);
        }
    }
}

/// The gradients for input, weight and bias.
pub(super) fn backward(
    [x, weight, bias]: [FlexTensor; 3],
    gradient: FlexTensor,
    options: GroupNormOptions,
) -> [Option<FlexTensor>; 3] {
    let (x, gradient) = (x.to_contiguous(), gradient.to_contiguous());
    let (weight, bias) = (weight.to_contiguous(), bias.to_contiguous());
    let groups = Groups::of(&x, options);
    let (weight, bias): (&[f32], &[f32]) = (weight.storage(), bias.storage());
    let (x, gradient): (&[f32], &[f32]) = (x.storage(), gradient.storage());
    let mut out = vec![0.0; x.len()];
    let tasks = out
        .par_chunks_mut(groups.len())
        .zip(x.par_chunks(groups.len()))
        .zip(gradient.par_chunks(groups.len()));
    // Of each channel of each batch entry, the gradients of scale and shift.
    let sums: Vec<[f32; 2]> = tasks
        .enumerate()
        .flat_map_iter(|(index, ((out, x), gradient))| {
            let weight = groups.of_channels(weight, index);
            let bias = groups.of_channels(bias, index);
            group_backward(&groups, x, gradient, [weight, bias], out, options)
        })
        .collect();

    let channels = weight.len();
    let total = |which: usize| {
        let channel = |c: usize| {
            sums.iter()
                .skip(c)
                .step_by(channels)
                .map(|s| s[which])
                .sum()
        };
        let values: Vec<f32> = (0..channels).map(channel).collect();
        FlexTensor::from_data(TensorData::new(values, [channels]))
    };
    [groups.tensor(out), total(0), total(1)].map(Some)
}

/// The gradient of one group, and the gradients of its channels' scales and shifts.
///
/// With `n` the normalised input, `u = w · n + b` and `g` the gradient for `u`: the scale's is
/// `Σ g n`, the shift's `Σ g`, and the input's `(w g − mean(w g) − n · mean(w g n)) / deviation`.
fn group_backward(
    groups: &Groups,
    x: &[f32],
    gradient: &[f32],
    [weight, bias]: [&[f32]; 2],
    out: &mut [f32],
    options: GroupNormOptions,
) -> Vec<[f32; 2]> {
    let (mean, inverse) = statistics(x, options.eps);
    let positions = groups.positions;
    let mut sums = Vec::with_capacity(groups.channels);
    let (mut mean_wg, mut mean_wgn) = (0.0_f64, 0.0_f64);
    for channel in 0..groups.channels {
        let range = channel * positions..(channel + 1) * positions;
        let (weight, bias) = (weight[channel], bias[channel]);
        let (mut g, mut gn) = (0.0_f64, 0.0_f64);
        let chunks = x[range.clone()]
            .chunks(CHUNK)
            .zip(gradient[range.clone()].chunks(CHUNK))
            .zip(out[range].chunks_mut(CHUNK));
        for ((x, gradient), out) in chunks {
            let mut pair = [0.0; 2];
            let affine = [inverse, -mean * inverse, weight, bias];
            before_silu(x, gradient, out, affine, options.silu, &mut pair);
            g += f64::from(pair[0]);
            gn += f64::from(pair[1]);
        }
        mean_wg += f64::from(weight) * g;
        mean_wgn += f64::from(weight) * gn;
        sums.push([gn as f32, g as f32]);
    }
    let count = groups.len().max(1) as f64;
    let (mean_wg, mean_wgn) = ((mean_wg / count) as f32, (mean_wgn / count) as f32);
    let channels = x.chunks(positions).zip(out.chunks_mut(positions));
    for ((x, out), weight) in channels.zip(weight) {
        // inverse · (w g − mean_wg − n mean_wgn) with n = inverse · (x − mean)
        let by_x = -inverse * inverse * mean_wgn;
        let constant = -inverse * mean_wg - by_x * mean;
        combine(x, out, [inverse * weight, by_x, constant]);
    }
    sums
}

for_each_cpu! {
    /// Writes the gradient before SiLU to `out`, and its sum and that of its product with the
    /// normalised input to `sums`; `affine` is what normalises the input, then weight and bias.
    fn before_silu(
        x: &[f32],
        gradient: &[f32],
        out: &mut [f32],
        affine: [f32; 4],
        silu: bool,
        sums: &mut [f32; 2],
    ) = before_silu_body
}

#[inline(always)]
fn before_silu_body<const FUSED: bool>(
    x: &[f32],
    gradient: &[f32],
    out: &mut [f32],
    [scale, shift, weight, bias]: [f32; 4],
    silu: bool,
    sums: &mut [f32; 2],
) {
    let (mut sum, mut products) = ([0.0; LANES], [0.0; LANES]);
    let step = |x: f32, gradient: f32| {
        let n = multiply_add::<FUSED>(x, scale, shift);
        if !silu {
            return (gradient, n);
        }
        let u = multiply_add::<FUSED>(n, weight, bias);
        let s = sigmoid::<FUSED>(u);
        (gradient * s * multiply_add::<FUSED>(u, 1.0 - s, 1.0), n)
    };
    let blocks = x
        .chunks(LANES)
        .zip(gradient.chunks(LANES))
        .zip(out.chunks_mut(LANES));
    for ((x, gradient), out) in blocks {
        // Whole blocks have a length that the compiler knows.
        if let (Some(x), Some(gradient), Some(out)) = (
            x.first_chunk::<LANES>(),
            gradient.first_chunk::<LANES>(),
            out.first_chunk_mut::<LANES>(),
        ) {
            for lane in 0..LANES {
                let (g, n) = step(x[lane], gradient[lane]);
                out[lane] = g;
                sum[lane] += g;
                products[lane] = multiply_add::<FUSED>(g, n, products[lane]);
            }
        } else {
            for (lane, out) in out.iter_mut().enumerate() {
                let (g, n) = step(x[lane], gradient[lane]);
                *out = g;
                sum[lane] += g;
                products[lane] += g * n;
            }
        }
    }
    *sums = [sum.iter().sum(), products.iter().sum()];
}

for_each_cpu! {
    /// `out = out · by_out + x · by_x + constant`.
    fn combine(x: &[f32], out: &mut [f32], factors: [f32; 3]) = combine_body
}

#[inline(always)]
fn combine_body<const FUSED: bool>(x: &[f32], out: &mut [f32], [by_out, by_x, constant]: [f32; 3]) {
    for (out, &x) in out.iter_mut().zip(x) {
        let rest = multiply_add::<FUSED>(x, by_x, constant);
        *out = multiply_add::<FUSED>(*out, by_out, rest);
    }
}
