//! Every operation and its gradients against the same layer composed of tensor operations.

use super::*;
use crate::{
    GroupNormConfig, RmsNormConfig, add_gated, attention_within, gelu_sigmoid, gelu_tanh,
    modulated_norm,
    norm::{layer_norm, modulate},
    rotary, rotate_pairs, silu,
};
use burn::tensor::{
    DType, Device, Distribution,
    activation::{sigmoid, softmax},
    module::conv3d,
    ops::{ConvOptions, PadMode},
};

/// The number formats of the transformers' operations.
const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let device = Device::flex().autodiff();
    Tensor::random(shape, Distribution::Normal(0.2, 1.0), (&device, DType::F32))
}

fn assert_same<const D: usize>(what: &str, ours: Tensor<D>, composed: Tensor<D>, bound: f32) {
    let [ours, composed] = [ours, composed].map(|x| x.cast(DType::F32));
    // All values are of order one, unless the exact gradient vanishes.
    let largest = composed.clone().abs().max().into_scalar::<f32>().max(1.0);
    let error = (ours - composed).abs().max().into_scalar::<f32>() / largest;
    assert!(error < bound, "{what}: {error}");
}

/// Compares a layer in `dtype` with its composed form in f32, and their gradients for each input.
fn assert_same_layer<const D: usize, const N: usize, const O: usize>(
    what: &str,
    inputs: [Tensor<D>; N],
    dtype: DType,
    ours: impl Fn([Tensor<D>; N]) -> Tensor<O>,
    composed: impl Fn([Tensor<D>; N]) -> Tensor<O>,
) {
    let bound = if dtype == DType::F32 { 2e-5 } else { 2e-2 };
    let inputs = inputs.map(|x| x.cast(dtype).detach().require_grad());
    let ours = ours(inputs.clone()).cast(DType::F32);
    let composed = composed(inputs.clone().map(|x| x.cast(DType::F32)));
    let probe = random(ours.dims());
    let gradients = |out: &Tensor<O>| {
        let all = (out.clone() * probe.clone()).sum().backward();
        inputs.each_ref().map(|x| x.grad(&all).unwrap())
    };
    let (a, b) = (gradients(&ours), gradients(&composed));
    assert_same(what, ours.inner(), composed.inner(), bound);
    for (input, (a, b)) in a.into_iter().zip(b).enumerate() {
        assert_same(&format!("{what}, gradient of input {input}"), a, b, bound);
    }
}

#[test]
fn convolution_is_the_composed_one_with_its_gradients() {
    for (batch, inputs, outputs, frames, height, width) in [
        (2, 3, 5, 1, 7, 9),
        (1, 9, 16, 2, 8, 8),
        (2, 5, 3, 5, 1, 3),
        (1, 4, 17, 3, 33, 40),
        (2, 48, 50, 2, 9, 47),
        (1, 50, 48, 1, 6, 5),
    ] {
        let shape = [batch, inputs, frames, height, width];
        let tensors = [
            random(shape),
            random([outputs, inputs, 3, 3, 3]),
            random([1, 1, 1, 1, outputs]),
        ];
        assert_same_layer(
            &format!("{shape:?} to {outputs}"),
            tensors,
            DType::F32,
            |[x, weight, bias]| causal_conv3d(&x, weight, bias.reshape([outputs])).unwrap(),
            |[x, weight, bias]| {
                let x = x.pad([(2, 0), (1, 1), (1, 1)], PadMode::Edge);
                let options = ConvOptions::new([1; 3], [0; 3], [1; 3], 1);
                conv3d(x, weight, Some(bias.reshape([outputs])), options)
            },
        );
    }
}

#[test]
fn group_norm_is_the_composed_one_with_its_gradients() {
    for (batch, groups, channels, positions) in [(2, 4, 8, 5), (1, 2, 6, 4500), (3, 1, 1, 33)] {
        for with_silu in [false, true] {
            let options = GroupNormOptions {
                groups,
                eps: 1e-6,
                silu: with_silu,
            };
            let vector = |x: Tensor<3>| x.reshape([channels]);
            assert_same_layer(
                &format!("{batch} x {channels} in {groups}, silu: {with_silu}"),
                [
                    random([batch, channels, positions]),
                    random([1, 1, channels]),
                    random([1, 1, channels]),
                ],
                DType::F32,
                |[x, weight, bias]| group_norm(&x, vector(weight), vector(bias), options).unwrap(),
                |[x, weight, bias]| {
                    let mut norm = GroupNormConfig::new(groups, channels).init(&Device::flex());
                    norm.weight = norm.weight.map(|_| vector(weight));
                    norm.bias = norm.bias.map(|_| vector(bias));
                    let x = norm.composed(x);
                    if with_silu { x.clone() * sigmoid(x) } else { x }
                },
            );
        }
    }
}

#[test]
fn norms_and_gates_are_the_composed_ones_with_their_gradients() {
    for dtype in DTYPES {
        // Several samples, a width that no vector unit divides, several tasks in a sample.
        for [batch, tokens, width] in [[1, 1, 2], [3, 7, 129], [2, 300, 256]] {
            let what = |name| format!("{name} of {batch} x {tokens} x {width} in {dtype:?}");
            let x = || random([batch, tokens, width]);
            let vector = || random([batch, 1, width]);
            assert_same_layer(
                &what("modulated norm"),
                [x(), vector(), vector()],
                dtype,
                |[x, shift, scale]| modulated_norm(x, shift, scale, 1e-6),
                |[x, shift, scale]| modulate(layer_norm(x, 1e-6), shift, scale),
            );
            assert_same_layer(
                &what("gate"),
                [x(), x(), vector()],
                dtype,
                |[x, y, gate]| add_gated(x, y, gate),
                |[x, y, gate]| x + y * gate,
            );
            let norm = |weight: Tensor<3>| {
                let mut norm = RmsNormConfig::new(width).init(&Device::flex());
                norm.weight = norm.weight.map(|_| weight.reshape([width]));
                norm
            };
            assert_same_layer(
                &what("RMS norm"),
                [x(), random([1, 1, width])],
                dtype,
                |[x, weight]| norm(weight).forward(x),
                |[x, weight]| norm(weight).composed(x),
            );
        }
    }
}

#[test]
fn activations_are_the_composed_ones_with_their_gradients() {
    type Activation = fn(Tensor<1>) -> Tensor<1>;
    let pairs: [(&str, Activation, Activation); 3] = [
        ("silu", silu, |x| x.clone() * sigmoid(x)),
        ("quick GELU", gelu_sigmoid, |x| {
            x.clone() * sigmoid(x * 1.702)
        }),
        (
            "GELU",
            gelu_tanh,
            burn::tensor::activation::gelu_approximate,
        ),
    ];
    for dtype in DTYPES {
        for (name, ours, composed) in pairs {
            let what = format!("{name} in {dtype:?}");
            let x = [random([1000]) * 3.0];
            assert_same_layer(&what, x, dtype, |[x]| ours(x), |[x]| composed(x));
        }
    }
}

#[test]
fn rotation_is_the_composed_one_with_its_gradient() {
    for dtype in DTYPES {
        for [batch, tokens, heads, d] in [[1, 1, 1, 2], [2, 5, 3, 8]] {
            let angles = (random([tokens, d / 2]) * 7.0).detach();
            let (cos, sin) = (angles.clone().cos(), angles.sin());
            assert_same_layer(
                &format!("{batch} x {tokens} x {heads} x {d} in {dtype:?}"),
                [random([batch, tokens, heads, d])],
                dtype,
                |[x]| rotate_pairs(x, cos.clone(), sin.clone()),
                |[x]| rotary::composed(x, cos.clone(), sin.clone()),
            );
        }
    }
}

#[test]
fn attention_is_its_formula_with_its_gradients() {
    for dtype in DTYPES {
        // The last has more scores than are in memory at a time.
        for (heads, queries, keys, d, lengths) in [
            (1, 1, 1, 2, vec![1]),
            (3, 5, 33, 8, vec![33, 20]),
            (2, 70, 300, 16, vec![1, 300, 299]),
            (1, 1100, 1000, 4, vec![1000]),
        ] {
            let batch = lengths.len();
            let what = format!("{queries} queries over {lengths:?} keys in {dtype:?}");
            let shape = |tokens| [batch, heads, tokens, d];
            assert_same_layer(
                &what,
                [shape(queries), shape(keys), shape(keys)].map(random),
                dtype,
                |[q, k, v]| attention_within(q, k, v, &lengths),
                |[q, k, v]| {
                    let sample = |i: usize| {
                        let [q, k, v] = [&q, &k, &v].map(|x| x.clone().narrow(0, i, 1));
                        let [k, v] = [k, v].map(|x| x.narrow(2, 0, lengths[i]));
                        let scores = q.matmul(k.transpose()) / (d as f64).sqrt();
                        softmax(scores, 3).matmul(v)
                    };
                    Tensor::cat((0..batch).map(sample).collect(), 0)
                },
            );
        }
    }
}

#[test]
fn other_devices_and_dtypes_are_left_to_the_composed_form() {
    let x = Tensor::<5>::zeros([1, 1, 1, 4, 4], (&Device::flex(), DType::F64));
    let weight = Tensor::<5>::zeros([1, 1, 3, 3, 3], (&Device::flex(), DType::F64));
    let bias = Tensor::<1>::zeros([1], (&Device::flex(), DType::F64));
    assert!(causal_conv3d(&x, weight, bias).is_none());
}
