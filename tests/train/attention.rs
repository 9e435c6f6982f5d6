//! Attention's own backward pass against that of its formula.

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_hunyuan_kernels::{attention, attention_with_bias};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::{
    common::{assert_close, device, supports},
    toy::flex,
};

fn random(shape: [usize; 4], rng: &mut ChaCha12Rng, device: &Device) -> Tensor<4> {
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| StandardNormal.sample(rng))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// The output, and the gradients of queries, keys and values for a given gradient of the output.
fn backward(
    attention: impl Fn([Tensor<4>; 3]) -> Tensor<4>,
    inputs: &[Tensor<4>; 3],
    gradient: &Tensor<4>,
) -> [Tensor<4>; 4] {
    let leaves = inputs.clone().map(|x| x.autodiff().require_grad());
    let out = attention(leaves.clone());
    let gradients = (out.clone() * gradient.clone()).sum().backward();
    let [q, k, v] = leaves.map(|x| x.grad(&gradients).unwrap());
    [out.inner(), q, k, v]
}

/// Compares with burn's differentiation of the composed form, which keeps the scores.
fn assert_is_composed(
    [batch, heads, queries, keys, d]: [usize; 5],
    rng: &mut ChaCha12Rng,
    device: &Device,
) {
    let mut tensor = |tokens| random([batch, heads, tokens, d], rng, device);
    let inputs = [tensor(queries), tensor(keys), tensor(keys)];
    let gradient = tensor(queries);
    let ours = backward(|[q, k, v]| attention(q, k, v), &inputs, &gradient);
    let no_bias = Tensor::zeros([1, 1, 1, 1], (device, DType::F32));
    let composed = |[q, k, v]: [Tensor<4>; 3]| attention_with_bias(q, k, v, no_bias.clone());
    let expected = backward(composed, &inputs, &gradient);
    let both = ours.iter().zip(&expected);
    for (what, (ours, expected)) in ["out", "q", "k", "v"].iter().zip(both) {
        let what = format!("{what} of {batch}x{heads}, {queries} x {keys}, {d}");
        assert_close(&what, ours, expected, 1e-4);
    }
}

/// More queries than are done at a time.
#[test]
fn gradients_are_those_of_the_composed_form() {
    let Some(device) = device() else { return };
    let mut rng = ChaCha12Rng::seed_from_u64(8);
    assert_is_composed([1, 2, 150, 140, 8], &mut rng, &device);
}

/// Any shape, also of so many queries that they are padded.
#[test]
fn gradients_of_any_shape_are_those_of_the_composed_form() {
    let (device, mut rng) = (flex(), ChaCha12Rng::seed_from_u64(8));
    for _ in 0..20 {
        let shape = [
            rng.random_range(1..3),
            rng.random_range(1..4),
            rng.random_range(1..300),
            rng.random_range(1..300),
            4 * rng.random_range(1..6),
        ];
        assert_is_composed(shape, &mut rng, &device);
    }
    assert_is_composed([1, 1, 1031, 40, 8], &mut rng, &device);
}

/// Only the tensors that want one get a gradient, and dtypes are kept.
#[test]
fn constants_have_no_part_in_the_backward_pass() {
    let Some(device) = device() else { return };
    if !supports(&device, DType::BF16) {
        return;
    }
    let mut rng = ChaCha12Rng::seed_from_u64(9);
    let [q, k, v] = [10, 12, 12].map(|n| random([1, 2, n, 8], &mut rng, &device).cast(DType::BF16));
    let k = k.autodiff().require_grad();
    let out = attention(q.clone(), k.clone(), v.clone());
    assert_eq!(out.dtype(), DType::BF16);
    let gradients = out.sum().backward();
    assert_eq!(k.grad(&gradients).unwrap().dtype(), DType::BF16);
    assert!(q.grad(&gradients).is_none());
}
