//! What happens to a token between two matrix products, each in one pass over the values.
//!
//! Every value is rounded to its number format where the composed form rounds it, which is where
//! the reference does.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    Activation,
    simd::{LANES, for_each_cpu, multiply_add, sigmoid},
    stored::{Stored, with_stored},
};

/// Values that a task takes at a time.
pub(super) const TASK: usize = 1 << 15;

/// An uninitialised tensor of the shape and number format of `x`.
pub(super) fn like(x: &FlexTensor) -> FlexTensor {
    FlexTensor::empty(x.layout().shape().clone(), x.dtype())
}

/// Passes the rows of `x` and `out` to `apply` with their number.
fn for_each_row<T: Stored>(
    x: &[T],
    out: &mut [T],
    width: usize,
    apply: impl Fn(usize, &[T], &mut [T]) + Sync,
) {
    let rows = (TASK / width.max(1)).max(1);
    let tasks = x
        .par_chunks(rows * width)
        .zip(out.par_chunks_mut(rows * width));
    tasks.enumerate().for_each(|(task, (x, out))| {
        let pairs = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for (row, (x, out)) in pairs.enumerate() {
            apply(task * rows + row, x, out);
        }
    });
}

/// The last axis of a tensor.
pub(super) fn width(x: &FlexTensor) -> usize {
    x.layout().shape().last().copied().unwrap_or(1)
}

/// The sum of `of` over all values.
#[inline(always)]
fn sum<T: Stored>(x: &[T], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            sums[lane] += of(chunk[lane].load());
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| of(x.load())).sum::<f32>()
}

/// The mean of a row, and the inverse of its deviation.
#[inline(always)]
fn statistics<T: Stored>(x: &[T], eps: f32) -> [f32; 2] {
    let count = x.len() as f32;
    let mean = sum(x, |x| x) / count;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
    [mean, 1.0 / (variance + eps).sqrt()]
}

/// See [`modulated_norm`](crate::modulated_norm).
pub(super) fn modulated_norm(
    x: FlexTensor,
    shift: FlexTensor,
    scale: FlexTensor,
    eps: f32,
) -> FlexTensor {
    let [x, shift, scale] = [x, shift, scale].map(|x| x.to_contiguous());
    let (width, tokens) = (width(&x), x.layout().shape()[1]);
    let mut out = like(&x);
    with_stored!(x.dtype(), T => {
        let (shift, scale): (&[T], &[T]) = (shift.storage(), scale.storage());
        for_each_row(x.storage::<T>(), out.storage_mut(), width, |row, x, out| {
            let sample = row / tokens * width..(row / tokens + 1) * width;
            norm_row(x, &shift[sample.clone()], &scale[sample], eps, out);
        });
    });
    out
}

for_each_cpu! {
    /// Normalises a row, then `· (1 + scale) + shift`.
    fn norm_row<T>(x: &[T], shift: &[T], scale: &[T], eps: f32, out: &mut [T]) = norm_row_body
}

#[inline(always)]
fn norm_row_body<const FUSED: bool, T: Stored>(
    x: &[T],
    shift: &[T],
    scale: &[T],
    eps: f32,
    out: &mut [T],
) {
    let [mean, inverse] = statistics(x, eps);
    for (((out, x), shift), scale) in out.iter_mut().zip(x).zip(shift).zip(scale) {
        let normal = T::store((x.load() - mean) * inverse).load();
        let scaled = T::store(normal * T::store(scale.load() + 1.0).load()).load();
        *out = T::store(scaled + shift.load());
    }
}

/// See [`LayerNorm`](crate::LayerNorm); `weight` and `bias` in f32.
pub(super) fn layer_norm(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    eps: f32,
) -> FlexTensor {
    let [x, weight, bias] = [x, weight, bias].map(|x| x.to_contiguous());
    let mut out = like(&x);
    with_stored!(x.dtype(), T => {
        let (weight, bias): (&[f32], &[f32]) = (weight.storage(), bias.storage());
        for_each_row(x.storage::<T>(), out.storage_mut(), weight.len(), |_, x, out| {
            affine_row(x, weight, bias, eps, out);
        });
    });
    out
}

for_each_cpu! {
    /// Normalises a row, then `· weight + bias`.
    fn affine_row<T>(x: &[T], weight: &[f32], bias: &[f32], eps: f32, out: &mut [T]) = affine_row_body
}

#[inline(always)]
fn affine_row_body<const FUSED: bool, T: Stored>(
    x: &[T],
    weight: &[f32],
    bias: &[f32],
    eps: f32,
    out: &mut [T],
) {
    let [mean, inverse] = statistics(x, eps);
    for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
        let normal = (x.load() - mean) * inverse;
        *out = T::store(multiply_add::<FUSED>(normal, *weight, *bias));
    }
}

/// See [`RmsNorm`](crate::RmsNorm).
pub(super) fn rms_norm(x: FlexTensor, weight: FlexTensor, eps: f32) -> FlexTensor {
    let [x, weight] = [x, weight].map(|x| x.to_contiguous());
    let mut out = like(&x);
    with_stored!(x.dtype(), T => {
        let weight: &[T] = weight.storage();
        for_each_row(x.storage::<T>(), out.storage_mut(), weight.len(), |_, x, out| {
            rms_row(x, weight, eps, out);
        });
    });
    out
}

for_each_cpu! {
    /// Divides a row by its root mean square, then `· weight`.
    fn rms_row<T>(x: &[T], weight: &[T], eps: f32, out: &mut [T]) = rms_row_body
}

#[inline(always)]
fn rms_row_body<const FUSED: bool, T: Stored>(x: &[T], weight: &[T], eps: f32, out: &mut [T]) {
    let mean_square = sum(x, |x| x * x) / x.len() as f32;
    let inverse = 1.0 / (mean_square + eps).sqrt();
    for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
        *out = T::store(T::store(x.load() * inverse).load() * weight.load());
    }
}

/// See [`rotate_pairs`](crate::rotate_pairs).
pub(super) fn rotate_pairs(x: FlexTensor, cos: FlexTensor, sin: FlexTensor) -> FlexTensor {
    let [x, cos, sin] = [x, cos, sin].map(|x| x.to_contiguous());
    let [_, tokens, heads, width] = x.layout().shape().dims();
    let mut out = like(&x);
    with_stored!(x.dtype(), T => {
        let (cos, sin): (&[f32], &[f32]) = (cos.storage(), sin.storage());
        for_each_row(x.storage::<T>(), out.storage_mut(), width, |row, x, out| {
            let first = row / heads % tokens * (width / 2);
            let [cos, sin] = [cos, sin].map(|x| &x[first..first + width / 2]);
            rotate_row(x, cos, sin, out);
        });
    });
    out
}

for_each_cpu! {
    /// Turns the pairs of a row.
    fn rotate_row<T>(x: &[T], cos: &[f32], sin: &[f32], out: &mut [T]) = rotate_row_body
}

#[inline(always)]
fn rotate_row_body<const FUSED: bool, T: Stored>(x: &[T], cos: &[f32], sin: &[f32], out: &mut [T]) {
    let (x, _) = x.as_chunks::<2>();
    let (out, _) = out.as_chunks_mut::<2>();
    for (((out, x), &cos), &sin) in out.iter_mut().zip(x).zip(cos).zip(sin) {
        let (even, odd) = (x[0].load(), x[1].load());
        out[0] = T::store(even * cos - odd * sin);
        out[1] = T::store(odd * cos + even * sin);
    }
}

/// See [`silu`](crate::silu) and its like.
pub(super) fn activate(x: FlexTensor, activation: Activation) -> FlexTensor {
    let mut x = x.to_contiguous();
    with_stored!(x.dtype(), T => {
        let values: &mut [T] = x.storage_mut();
        values.par_chunks_mut(TASK).for_each(|x| activate_values(x, activation));
    });
    x
}

for_each_cpu! {
    /// Replaces values by their activations.
    fn activate_values<T>(x: &mut [T], activation: Activation) = activate_values_body
}

#[inline(always)]
fn activate_values_body<const FUSED: bool, T: Stored>(x: &mut [T], activation: Activation) {
    // All are x · sigmoid(a x + b x³).
    let (a, b) = activation.coefficients();
    for x in x {
        let value = x.load();
        let u = value * multiply_add::<FUSED>(value * value, b, a);
        *x = T::store(value * sigmoid::<FUSED>(u));
    }
}

/// See [`add_gated`](crate::add_gated).
pub(super) fn add_gated(x: FlexTensor, y: FlexTensor, gate: FlexTensor) -> FlexTensor {
    let [x, mut y, gate] = [x, y, gate].map(|x| x.to_contiguous());
    let (width, tokens) = (width(&x), x.layout().shape()[1]);
    with_stored!(x.dtype(), T => {
        let gate: &[T] = gate.storage();
        for_each_row(x.storage::<T>(), y.storage_mut(), width, |row, x, y| {
            gated_row(x, &gate[row / tokens * width..(row / tokens + 1) * width], y);
        });
    });
    y
}

for_each_cpu! {
    /// `y = x + y · gate`.
    fn gated_row<T>(x: &[T], gate: &[T], y: &mut [T]) = gated_row_body
}

#[inline(always)]
fn gated_row_body<const FUSED: bool, T: Stored>(x: &[T], gate: &[T], y: &mut [T]) {
    for ((y, x), gate) in y.iter_mut().zip(x).zip(gate) {
        *y = T::store(x.load() + T::store(y.load() * gate.load()).load());
    }
}
