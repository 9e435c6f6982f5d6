//! The shared layers on the device under test.

#![allow(clippy::unwrap_used)]

mod common;

use burn::tensor::{DType, Device, Distribution, Tensor, activation::softmax};
use burn_hunyuan_kernels::attention;
use common::device;

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), (device, DType::F32))
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
