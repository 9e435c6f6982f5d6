//! The gradients of what happens to a token between two matrix products, in one pass or two.

use burn::{
    backend::flex::FlexTensor,
    tensor::{DType, TensorData},
};
use rayon::prelude::*;

use super::{
    Activation,
    rows::{self, TASK, like, width},
    simd::{LANES, for_each_cpu, multiply_add, sigmoid},
    stored::{Stored, with_stored},
};

/// Passes the rows of `x`, `gradient` and `out` to `apply` with the number of their sample, and
/// adds up over each sample what `apply` adds to the vectors that it is given besides: `vectors`
/// of a row's width, one after the other. The order of the sums does not depend on the threads.
fn rows_with_sums<T: Stored>(
    [x, gradient]: [&[T]; 2],
    out: &mut [T],
    [rows, width, vectors]: [usize; 3],
    apply: impl Fn(usize, &[T], &[T], &mut [T], &mut [f32]) + Sync,
) -> Vec<f32> {
    let task = (TASK / width).clamp(1, rows) * width;
    let sample_sums = |sample: usize, x: &[T], gradient: &[T], out: &mut [T]| {
        let tasks = x.par_chunks(task).zip(gradient.par_chunks(task));
        let parts: Vec<Vec<f32>> = tasks
            .zip(out.par_chunks_mut(task))
            .map(|((x, gradient), out)| {
                let mut sums = vec![0.0; vectors * width];
                let rows = x.chunks_exact(width).zip(gradient.chunks_exact(width));
                for ((x, gradient), out) in rows.zip(out.chunks_exact_mut(width)) {
                    apply(sample, x, gradient, out, &mut sums);
                }
                sums
            })
            .collect();
        let mut parts = parts.into_iter();
        let mut total = parts.next().unwrap_or_default();
        for part in parts {
            total.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
        }
        total
    };
    let sample = rows * width;
    let samples = x.par_chunks(sample).zip(gradient.par_chunks(sample));
    let samples = samples.zip(out.par_chunks_mut(sample)).enumerate();
    let sums = samples.map(|(sample, ((x, gradient), out))| sample_sums(sample, x, gradient, out));
    sums.collect::<Vec<_>>().concat()
}

/// A tensor like `like` of the given sums, one in every `vectors` runs of `width` from `first` on.
fn summed(
    sums: &[f32],
    first: usize,
    vectors: usize,
    width: usize,
    like: &FlexTensor,
) -> FlexTensor {
    let runs = sums.chunks_exact(width).skip(first).step_by(vectors);
    let values: Vec<f32> = runs.flatten().copied().collect();
    let data = TensorData::new(values, like.layout().shape().clone());
    FlexTensor::from_data(match like.dtype() {
        DType::F32 => data,
        dtype => data.convert_dtype(dtype),
    })
}

/// Sums of `of` over the places of a row.
#[inline(always)]
fn sums<const N: usize, const S: usize, T: Stored>(
    rows: [&[T]; N],
    of: impl Fn([f32; N]) -> [f32; S],
) -> [f32; S] {
    let mut lanes = [[0.0; LANES]; S];
    let len = rows[0].len();
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        let chunks = rows.map(|row| &row[start..start + LANES]);
        for lane in 0..LANES {
            let values = of(chunks.map(|chunk| chunk[lane].load()));
            for s in 0..S {
                lanes[s][lane] += values[s];
            }
        }
    }
    let mut sums = lanes.map(|lanes| lanes.iter().sum::<f32>());
    for place in whole..len {
        let values = of(rows.map(|row| row[place].load()));
        for s in 0..S {
            sums[s] += values[s];
        }
    }
    sums
}

/// The gradients of [`modulated_norm`](rows::modulated_norm) for its three inputs.
///
/// With `n` the normalised row, `m = g · (1 + scale)` and `g` the output's gradient: shift's is
/// `Σ g`, scale's `Σ g n`, both over a sample's tokens, and the input's
/// `(m − mean(m) − n · mean(m n)) / deviation`.
pub(super) fn modulated_norm(
    [x, shift, scale]: [FlexTensor; 3],
    gradient: FlexTensor,
    eps: f32,
) -> [Option<FlexTensor>; 3] {
    let [x, scale, gradient] = [x, scale, gradient].map(|x| x.to_contiguous());
    let (width, tokens) = (width(&x), x.layout().shape()[1]);
    let mut out = like(&x);
    let sums = with_stored!(x.dtype(), T => {
        let scale: &[T] = scale.storage();
        rows_with_sums::<T>(
            [x.storage(), gradient.storage()],
            out.storage_mut(),
            [tokens, width, 2],
            |sample, x, gradient, out, sums| {
                let scale = &scale[sample * width..][..width];
                norm_row(x, scale, gradient, eps, out, sums);
            },
        )
    });
    let [shift, scale] = [(0, &shift), (1, &scale)].map(|(i, x)| summed(&sums, i, 2, width, x));
    [Some(out), Some(shift), Some(scale)]
}

for_each_cpu! {
    /// The gradient of a row; adds those of shift and scale to the halves of `sums`.
    fn norm_row<T>(x: &[T], scale: &[T], gradient: &[T], eps: f32, out: &mut [T], sums: &mut [f32])
        = norm_row_body
}

#[inline(always)]
fn norm_row_body<const FUSED: bool, T: Stored>(
    x: &[T],
    scale: &[T],
    gradient: &[T],
    eps: f32,
    out: &mut [T],
    sum: &mut [f32],
) {
    let count = x.len() as f32;
    let [total] = sums([x], |[x]| [x]);
    let mean = total / count;
    let [squares] = sums([x], |[x]| [(x - mean) * (x - mean)]);
    let inverse = 1.0 / (squares / count + eps).sqrt();
    let [m, mn] = sums([gradient, scale, x], |[g, scale, x]| {
        let m = g * (1.0 + scale);
        [m, m * (x - mean) * inverse]
    });
    let (m_mean, mn_mean) = (m / count, mn / count);
    let (to_shift, to_scale) = sum.split_at_mut(x.len());
    let rows = x.iter().zip(scale).zip(gradient).zip(out);
    for ((((x, scale), g), out), (to_shift, to_scale)) in
        rows.zip(to_shift.iter_mut().zip(to_scale))
    {
        let (g, n) = (g.load(), (x.load() - mean) * inverse);
        let m = g * (1.0 + scale.load());
        *out = T::store((m - m_mean - n * mn_mean) * inverse);
        *to_shift += g;
        *to_scale = multiply_add::<FUSED>(g, n, *to_scale);
    }
}

/// The gradients of [`rms_norm`](rows::rms_norm) for its two inputs: the weight's is `Σ g n`
/// over all rows, the input's `(m − n · mean(m n)) / rms` with `m = g · weight`.
pub(super) fn rms_norm(
    [x, weight]: [FlexTensor; 2],
    gradient: FlexTensor,
    eps: f32,
) -> [Option<FlexTensor>; 2] {
    let [x, weight, gradient] = [x, weight, gradient].map(|x| x.to_contiguous());
    let width = width(&x);
    let rows = x.layout().num_elements() / width;
    let mut out = like(&x);
    let sums = with_stored!(x.dtype(), T => {
        let weight: &[T] = weight.storage();
        rows_with_sums::<T>(
            [x.storage(), gradient.storage()],
            out.storage_mut(),
            [rows, width, 1],
            |_, x, gradient, out, sums| rms_row(x, weight, gradient, eps, out, sums),
        )
    });
    [Some(out), Some(summed(&sums, 0, 1, width, &weight))]
}

for_each_cpu! {
    /// The gradient of a row; adds that of the weight to `sums`.
    fn rms_row<T>(x: &[T], weight: &[T], gradient: &[T], eps: f32, out: &mut [T], sums: &mut [f32])
        = rms_row_body
}

#[inline(always)]
fn rms_row_body<const FUSED: bool, T: Stored>(
    x: &[T],
    weight: &[T],
    gradient: &[T],
    eps: f32,
    out: &mut [T],
    sum: &mut [f32],
) {
    let count = x.len() as f32;
    let [squares, mx] = sums([gradient, weight, x], |[g, weight, x]| {
        [x * x, g * weight * x]
    });
    let inverse = 1.0 / (squares / count + eps).sqrt();
    let mn_mean = mx * inverse / count;
    let rows = x.iter().zip(weight).zip(gradient).zip(out);
    for ((((x, weight), g), out), sum) in rows.zip(sum) {
        let (g, n) = (g.load(), x.load() * inverse);
        *out = T::store((g * weight.load() - n * mn_mean) * inverse);
        *sum = multiply_add::<FUSED>(g, n, *sum);
    }
}

/// The gradient of [`rotate_pairs`](rows::rotate_pairs) for `x`: the turn back.
pub(super) fn rotate_pairs(
    [_, cos, sin]: [FlexTensor; 3],
    gradient: FlexTensor,
) -> [Option<FlexTensor>; 3] {
    let mut back = sin.to_contiguous();
    back.storage_mut::<f32>().iter_mut().for_each(|x| *x = -*x);
    [Some(rows::rotate_pairs(gradient, cos, back)), None, None]
}

/// The gradient of [`activate`](rows::activate): of `x s` with `s = sigmoid(a x + b x³)`,
/// `s + x s (1 − s) (a + 3 b x²)`.
pub(super) fn activate(
    [x]: [FlexTensor; 1],
    gradient: FlexTensor,
    activation: Activation,
) -> [Option<FlexTensor>; 1] {
    let (x, mut gradient) = (x.to_contiguous(), gradient.to_contiguous());
    with_stored!(x.dtype(), T => {
        let values: &mut [T] = gradient.storage_mut();
        let tasks = values.par_chunks_mut(TASK).zip(x.storage::<T>().par_chunks(TASK));
        tasks.for_each(|(gradient, x)| activate_values(x, gradient, activation));
    });
    [Some(gradient)]
}

for_each_cpu! {
    /// Multiplies gradients by the slopes at `x`.
    fn activate_values<T>(x: &[T], gradient: &mut [T], activation: Activation)
        = activate_values_body
}

#[inline(always)]
fn activate_values_body<const FUSED: bool, T: Stored>(
    x: &[T],
    gradient: &mut [T],
    activation: Activation,
) {
    let (a, b) = activation.coefficients();
    for (g, x) in gradient.iter_mut().zip(x) {
        let x = x.load();
        let square = x * x;
        let s = sigmoid::<FUSED>(x * multiply_add::<FUSED>(square, b, a));
        let slope = x * (1.0 - s) * multiply_add::<FUSED>(square, 3.0 * b, a);
        *g = T::store(g.load() * multiply_add::<FUSED>(s, slope, s));
    }
}

/// The gradients of [`add_gated`](rows::add_gated) for its three inputs: `g`, `g · gate`, and
/// over a sample's tokens `Σ g y`.
pub(super) fn add_gated(
    [_, y, gate]: [FlexTensor; 3],
    gradient: FlexTensor,
) -> [Option<FlexTensor>; 3] {
    let [y, gate, gradient] = [y, gate, gradient].map(|x| x.to_contiguous());
    let (width, tokens) = (width(&y), y.layout().shape()[1]);
    let mut out = like(&y);
    let sums = with_stored!(y.dtype(), T => {
        let gates: &[T] = gate.storage();
        rows_with_sums::<T>(
            [y.storage(), gradient.storage()],
            out.storage_mut(),
            [tokens, width, 1],
            |sample, y, gradient, out, sums| {
                gated_row(y, &gates[sample * width..][..width], gradient, out, sums);
            },
        )
    });
    [
        Some(gradient),
        Some(out),
        Some(summed(&sums, 0, 1, width, &gate)),
    ]
}

for_each_cpu! {
    /// The gradient of a row of the branch; adds that of the gate to `sums`.
    fn gated_row<T>(y: &[T], gate: &[T], gradient: &[T], out: &mut [T], sums: &mut [f32])
        = gated_row_body
}

#[inline(always)]
fn gated_row_body<const FUSED: bool, T: Stored>(
    y: &[T],
    gate: &[T],
    gradient: &[T],
    out: &mut [T],
    sums: &mut [f32],
) {
    let rows = y.iter().zip(gate).zip(gradient).zip(out);
    for ((((y, gate), g), out), sum) in rows.zip(sums) {
        let g = g.load();
        *out = T::store(g * gate.load());
        *sum = multiply_add::<FUSED>(g, y.load(), *sum);
    }
}
