//! Operations written for one kind of device against their formulas, on the device under test.

#![allow(clippy::unwrap_used)]

mod common;

use burn::tensor::{DType, Device, Distribution, Tensor, activation::softmax};
use burn_hunyuan_kernels::{attention, rotate_pairs};
use common::{device, supports};

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), (device, DType::F32))
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f64> {
    let data = x.into_data().convert::<f64>();
    data.try_to_vec().unwrap()
}

#[test]
fn pairs_turn_by_their_angle() {
    let Some(device) = device() else { return };
    for (dtype, step) in [
        (DType::F32, f64::from(f32::EPSILON)),
        (DType::F16, 1.0 / 1024.0),
        (DType::BF16, 1.0 / 128.0),
    ] {
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
