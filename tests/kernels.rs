//! Operations written for one kind of device against their formulas, on the device under test.

#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;

use burn::{
    module::Param,
    tensor::{DType, Device, Tensor, TensorData, activation::softmax},
};
use burn_hunyuan_kernels::{
    GroupNorm, GroupNormConfig, LayerNormConfig, RmsNorm, RmsNormConfig, add_gated, attention,
    modulated_norm, rotate_pairs,
};
use common::{device, supports};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

/// Number formats, and the relative distance of neighbours in them.
const FORMATS: [(DType, f64); 3] = [
    (DType::F32, f32::EPSILON as f64),
    (DType::F16, 1.0 / 1024.0),
    (DType::BF16, 1.0 / 128.0),
];

/// Normal values. A test sees the same ones every time: it has a thread of its own.
fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    thread_local! {
        static RNG: RefCell<ChaCha12Rng> = RefCell::new(ChaCha12Rng::seed_from_u64(0));
    }
    let values = |rng: &mut ChaCha12Rng| -> Vec<f32> {
        let count = shape.iter().product();
        StandardNormal.sample_iter(rng).take(count).collect()
    };
    let values = RNG.with_borrow_mut(values);
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    let data = x.into_data().convert::<f64>();
    data.try_to_vec().unwrap()
}

#[test]
fn pairs_turn_by_their_angle() {
    let Some(device) = device() else { return };
    for (dtype, step) in FORMATS {
        if !supports(&device, dtype) {
            continue;
        }
        // Several samples, one pair, sizes that fill no group of a device's units.
        for [batch, tokens, heads, d] in [[1, 1, 1, 2], [2, 7, 3, 6], [3, 65, 24, 128]] {
            // As queries arrive where text follows an image: not in the order of their shape.
            let x = random([batch, heads, tokens, d], &device).cast(dtype);
            let x = x.swap_dims(1, 2);
            let angles = random([tokens, d / 2], &device) * 3.0;
            let (cos, sin) = (angles.clone().cos(), angles.sin());
            let out = values(rotate_pairs(x.clone(), cos.clone(), sin.clone()));
            let (x, cos, sin) = (values(x), values(cos), values(sin));
            for (i, (turned, pair)) in out.chunks(2).zip(x.chunks(2)).enumerate() {
                let token = i / (heads * d / 2) % tokens;
                let angle = token * (d / 2) + i % (d / 2);
                let (c, s) = (cos[angle], sin[angle]);
                let expected = [pair[0] * c - pair[1] * s, pair[1] * c + pair[0] * s];
                let bound = 2.0 * step * pair[0].hypot(pair[1]);
                for (ours, expected) in turned.iter().zip(expected) {
                    let error = (ours - expected).abs();
                    assert!(error <= bound, "pair {i} in {dtype:?}: {ours} {expected}");
                }
            }
        }
    }
}

/// Where the backend counts its memory, which those of GPUs do.
#[test]
fn attention_keeps_no_scores() {
    let Some(device) = device() else { return };
    // No multiple of what the kernels work on at a time: the case in which burn would fall back.
    const TOKENS: usize = 2000;
    let x = || random([1, 2, TOKENS, 32], &device);
    let (q, k, v) = (x(), x(), x());
    let reserved = || {
        device.sync().unwrap();
        device.memory_cleanup();
        device.sync().unwrap();
        device.memory_pool_usage().map(|usage| usage.bytes_reserved)
    };
    let before = reserved();
    let out = attention(q.clone(), k.clone(), v.clone());
    device.sync().unwrap();
    let after = device.memory_pool_usage().map(|usage| usage.bytes_reserved);
    if let (Some(before), Some(after)) = (before, after) {
        let scores = (2 * TOKENS * TOKENS * size_of::<f32>()) as u64;
        let grown = after.saturating_sub(before);
        assert!(
            grown < scores / 2,
            "{grown} bytes beside scores of {scores}"
        );
    }
    // The last queries, beside what was padded.
    let [out, q] = [out, q].map(|x| x.narrow(2, TOKENS - 8, 8));
    let scores = q.matmul(k.transpose()) / 32_f64.sqrt();
    let error = (out - softmax(scores, 3).matmul(v)).abs().max();
    assert!(error.into_scalar::<f32>() < 1e-5);
}

/// Sizes that are the same in every run.
struct Sizes(ChaCha12Rng);

impl Sizes {
    fn new() -> Self {
        Self(ChaCha12Rng::seed_from_u64(0))
    }

    /// Of an axis: one, and around and between the multiples of what devices read at once.
    fn length(&mut self) -> usize {
        let ranges = [1..=1, 2..=9, 14..=18, 30..=70];
        let range = ranges[self.up_to(4) - 1].clone();
        self.0.random_range(range)
    }

    /// Of an axis to normalise: of fewer values, some lie so close together that their rounding
    /// decides the result. Now and then more than the units of a cube read at once.
    fn several(&mut self) -> usize {
        let ranges = [4..=9, 14..=18, 30..=70, 1000..=1100];
        let range = ranges[self.up_to(4) - 1].clone();
        self.0.random_range(range)
    }

    fn up_to(&mut self, most: usize) -> usize {
        self.0.random_range(1..=most)
    }
}

const EPS: f64 = 1e-6;

/// Mean, and mean squared difference from it.
fn moments(x: &[f64]) -> (f64, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let squares = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    (mean, squares / x.len() as f64)
}

/// By how much statistics in f32 may move a normalised value: sums of f32 that a device adds up by
/// pieces are wrong by a few steps of the largest value.
fn statistics_bound(x: &[f64]) -> f64 {
    let largest = x.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
    let (_, variance) = moments(x);
    8.0 * f64::from(f32::EPSILON) * (largest / (variance + EPS).sqrt() + 1.0)
}

/// Compares value by value with `expected`: a value, and how far from it the result may be.
fn assert_within(what: &str, ours: &[f64], expected: impl Iterator<Item = (f64, f64)>) {
    let mut count = 0;
    for (i, (ours, (expected, bound))) in ours.iter().zip(expected).enumerate() {
        let error = (ours - expected).abs();
        assert!(
            error <= bound,
            "{what}: value {i} is {ours}, not {expected}"
        );
        count += 1;
    }
    assert_eq!(count, ours.len(), "{what}");
}

/// `x` about a `mean`, its first two axes in memory the other way round.
fn tokens(shape: [usize; 3], mean: f32, dtype: DType, device: &Device) -> Tensor<3> {
    let [batch, tokens, channels] = shape;
    let x = random([tokens, batch, channels], device) + mean;
    x.cast(dtype).swap_dims(0, 1)
}

fn assert_modulated_norm(
    shape: [usize; 3],
    mean: f32,
    (dtype, step): (DType, f64),
    device: &Device,
) {
    let [batch, count, channels] = shape;
    let x = tokens(shape, mean, dtype, device);
    let vector = || random([batch, 1, channels], device).cast(dtype);
    let (shift, scale) = (vector(), vector());
    let out = values(modulated_norm(x.clone(), shift.clone(), scale.clone(), EPS));
    let (x, shift, scale) = (values(x), values(shift), values(scale));
    let expected = x.chunks(channels).enumerate().flat_map(|(row, x)| {
        let (mean, variance) = moments(x);
        let statistics = statistics_bound(x);
        let (shift, scale) = (&shift, &scale);
        x.iter().enumerate().map(move |(channel, x)| {
            let normal = (x - mean) / (variance + EPS).sqrt();
            let channel = row / count * channels + channel;
            let (shift, scale) = (shift[channel], scale[channel] + 1.0);
            let scaled = (normal * scale).abs();
            let bound = step * (2.0 * scaled + normal.abs() + shift.abs());
            let bound = bound + statistics * (1.0 + normal.abs()) * scale.abs();
            (normal * scale + shift, bound)
        })
    });
    let what = format!("modulated norm of {shape:?} about {mean} in {dtype:?}");
    assert_within(&what, &out, expected);
}

/// Normalised, scaled and shifted, rounded once.
fn assert_layer_norm(shape: [usize; 3], mean: f32, (dtype, step): (DType, f64), device: &Device) {
    let channels = shape[2];
    let x = tokens(shape, mean, dtype, device);
    let mut norm = LayerNormConfig::new(channels).with_eps(EPS).init(device);
    let vector = |x: Param<Tensor<1>>| x.map(|_| random([channels], device).cast(dtype));
    (norm.weight, norm.bias) = (vector(norm.weight), vector(norm.bias));
    let out = norm.forward(x.clone());
    assert_eq!(out.dtype(), dtype);
    let (x, weight, bias) = (
        values(x),
        values(norm.weight.val()),
        values(norm.bias.val()),
    );
    let expected = x.chunks(channels).flat_map(|x| {
        let (mean, variance) = moments(x);
        let statistics = statistics_bound(x);
        let affine = x.iter().zip(&weight).zip(&bias);
        affine.map(move |((x, weight), bias)| {
            let normal = (x - mean) / (variance + EPS).sqrt();
            let expected = normal * weight + bias;
            let bound = statistics * (1.0 + normal.abs()) * weight.abs();
            (expected, bound + step * expected.abs() + 1e-6)
        })
    });
    let what = format!("layer norm of {shape:?} about {mean} in {dtype:?}");
    assert_within(&what, &values(out), expected);
}

fn assert_gate(shape: [usize; 3], (dtype, step): (DType, f64), device: &Device) {
    let [batch, count, channels] = shape;
    let x = || tokens(shape, 0.0, dtype, device);
    let (x, y) = (x(), x());
    let gate = random([batch, 1, channels], device).cast(dtype);
    let out = values(add_gated(x.clone(), y.clone(), gate.clone()));
    let (x, y, gate) = (values(x), values(y), values(gate));
    let expected = x.iter().zip(&y).enumerate().map(|(i, (x, y))| {
        let product = y * gate[i / (count * channels) * channels + i % channels];
        // Product and sum are rounded.
        (x + product, step * (product.abs() + (x + product).abs()))
    });
    let what = format!("gate of {shape:?} in {dtype:?}");
    assert_within(&what, &out, expected);
}

fn rms_norm(channels: usize, dtype: DType, device: &Device) -> RmsNorm {
    let mut norm = RmsNormConfig::new(channels).init(device);
    norm.weight = norm.weight.map(|_| random([channels], device).cast(dtype));
    norm
}

fn assert_rms_norm(shape: [usize; 3], mean: f32, (dtype, step): (DType, f64), device: &Device) {
    let channels = shape[2];
    let x = tokens(shape, mean, dtype, device);
    let norm = rms_norm(channels, dtype, device);
    let out = values(norm.forward(x.clone()));
    let (x, weight) = (values(x), values(norm.weight.val()));
    let expected = x.chunks(channels).flat_map(|x| {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / channels as f64;
        let scaled = x.iter().zip(&weight);
        scaled.map(move |(x, weight)| {
            let expected = x / (mean + EPS).sqrt() * weight;
            (expected, 2.0 * step * expected.abs() + 1e-7)
        })
    });
    let what = format!("RMS norm of {shape:?} about {mean} in {dtype:?}");
    assert_within(&what, &out, expected);
}

#[test]
fn norms_of_rows_are_their_formulas() {
    let Some(device) = device() else { return };
    let formats = FORMATS
        .into_iter()
        .filter(|(dtype, _)| supports(&device, *dtype));
    for format in formats {
        let mut sizes = Sizes::new();
        for _ in 0..24 {
            let shape = [sizes.up_to(3), sizes.length(), sizes.several()];
            assert_modulated_norm(shape, 3.0, format, &device);
            assert_rms_norm(shape, 3.0, format, &device);
            assert_gate(shape, format, &device);
            // Half precision has few digits left for what lies around such a mean.
            assert_layer_norm(shape, 10.0, format, &device);
        }
        // The transformer's: a head, and all heads.
        assert_rms_norm([2, 50, 128], 0.0, format, &device);
        assert_modulated_norm([2, 5, 3072], 0.0, format, &device);
        assert_layer_norm([2, 5, 3072], 10.0, format, &device);
    }
}

/// Squares of values about 1000 cancel to the seventh digit, where f32 ends.
#[test]
fn a_mean_that_is_large_leaves_the_variance_exact() {
    let Some(device) = device() else { return };
    for format in FORMATS {
        // Values this close to one another are all the same in bf16.
        if format.0 != DType::BF16 && supports(&device, format.0) {
            assert_modulated_norm([1, 4, 3072], 1000.0, format, &device);
            let size = GroupSize {
                batch: 1,
                groups: 2,
                channels: 4,
                positions: 20_000,
            };
            assert_group_norm(size, 1000.0, format, &device);
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct GroupSize {
    batch: usize,
    groups: usize,
    channels: usize,
    positions: usize,
}

/// With weights in f32, which checkpoints have beside half precision.
fn group_norm(size: GroupSize, device: &Device) -> GroupNorm {
    let mut norm = GroupNormConfig::new(size.groups, size.channels).init(device);
    let vector = |x: Param<Tensor<1>>| x.map(|_| random([size.channels], device));
    (norm.weight, norm.bias) = (vector(norm.weight), vector(norm.bias));
    norm
}

/// Without SiLU and with it.
fn assert_group_norm(size: GroupSize, mean: f32, (dtype, step): (DType, f64), device: &Device) {
    let GroupSize {
        batch,
        groups,
        channels,
        positions,
    } = size;
    // As a convolution leaves it: channels beside one another in memory.
    let x = random([batch, positions, channels], device) + mean;
    let x = x.cast(dtype).swap_dims(1, 2);
    let norm = group_norm(size, device);
    let plain = values(norm.forward(x.clone()));
    let with_silu = values(norm.forward_silu(x.clone()));
    let (x, weight, bias) = (
        values(x),
        values(norm.weight.val()),
        values(norm.bias.val()),
    );
    let group = channels / groups * positions;
    let expected: Vec<(f64, f64)> = x
        .chunks(group)
        .flat_map(|x| {
            let (mean, variance) = moments(x);
            let statistics = statistics_bound(x);
            x.iter().map(move |x| {
                let normal = (x - mean) / (variance + EPS).sqrt();
                (normal, statistics * (1.0 + normal.abs()))
            })
        })
        .enumerate()
        .map(|(i, (normal, statistics))| {
            let channel = i / positions % channels;
            let (scaled, bias) = (normal * weight[channel], bias[channel]);
            let bound = step * (scaled.abs() + bias.abs()) + statistics * weight[channel].abs();
            (scaled + bias, bound)
        })
        .collect();
    let what = format!("group norm of {size:?} about {mean} in {dtype:?}");
    assert_within(&what, &plain, expected.iter().copied());
    // SiLU's slope is 1.1 at most; in half precision the composed form rounds its factors.
    let silu = expected.iter().map(|(x, bound)| {
        let silu = x / (1.0 + (-x).exp());
        (silu, 1.1 * bound + 3.0 * step * silu.abs() + 1e-6)
    });
    assert_within(&format!("{what} and SiLU"), &with_silu, silu);
}

#[test]
fn group_norms_are_their_formula() {
    let Some(device) = device() else { return };
    let formats = FORMATS
        .into_iter()
        .filter(|(dtype, _)| supports(&device, *dtype));
    for format in formats {
        let mut sizes = Sizes::new();
        for _ in 0..24 {
            let groups = sizes.up_to(5);
            let size = GroupSize {
                batch: sizes.up_to(3),
                groups,
                channels: groups * sizes.up_to(5),
                positions: sizes.several(),
            };
            assert_group_norm(size, 3.0, format, &device);
        }
        // A channel that takes several cubes, the last of them not whole.
        for positions in [8192, 40_004, 20_001] {
            let size = GroupSize {
                batch: 1,
                groups: 2,
                channels: 4,
                positions,
            };
            assert_group_norm(size, 3.0, format, &device);
        }
    }
}

/// Also where they are asked for a layer's weights and not for its input.
#[test]
fn gradients_are_taken_through_norms() {
    let Some(device) = device() else { return };
    let tracked = |x: Tensor<1>| x.autodiff().require_grad();
    let x = random([2, 6, 32], &device);
    let ones = |x: &Tensor<1>| (x.clone() - 1.0).abs().max().into_scalar::<f32>() < 1e-4;

    let mut norm = group_norm(
        GroupSize {
            batch: 2,
            groups: 3,
            channels: 6,
            positions: 32,
        },
        &device,
    );
    norm.bias = Param::from_tensor(tracked(random([6], &device)));
    let gradients = norm.forward(x.clone()).mean().backward();
    assert!(ones(&(norm.bias.grad(&gradients).unwrap() * 6.0)));

    // The mean of what is normalised, times the weight, is a weight's part of the mean.
    let mut norm = rms_norm(32, DType::F32, &device);
    norm.weight = Param::from_tensor(tracked(Tensor::ones([32], &device)));
    let out = norm.forward(x.clone());
    let gradient = norm.weight.grad(&out.clone().mean().backward()).unwrap();
    let parts = out.inner().mean_dims(&[0, 1]).reshape([32]) / 32.0;
    assert!((gradient - parts).abs().max().into_scalar::<f32>() < 1e-6);

    let shift = random([2, 1, 32], &device).autodiff().require_grad();
    let scale = random([2, 1, 32], &device);
    let out = modulated_norm(x, shift.clone(), scale, EPS);
    let gradient = shift.grad(&out.mean().backward()).unwrap();
    assert!(ones(&(gradient.reshape([64]) * 64.0)));
}
