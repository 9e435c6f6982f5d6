//! Every operation and its gradients against the same layer composed of tensor operations: here at sizes
//! of which each reaches another path of the code.

mod random_sizes;

use super::*;
use crate::{
    GroupNormConfig, RmsNormConfig, add_gated, attention_within, gelu_sigmoid, gelu_tanh,
    modulated_norm,
    norm::{modulate, standardized},
    random, rotary, rotate_pairs, silu,
};
use burn::{
    module::Param,
    nn::LinearConfig,
    tensor::{
        DType, Device,
        activation::{sigmoid, softmax},
        module::conv3d,
        ops::{ConvOptions, PadMode},
    },
};

/// The number formats of the transformers' operations.
const DTYPES: [DType; 2] = [DType::F32, DType::BF16];

/// Random values whose gradients are followed.
fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    random::random(shape).autodiff()
}

fn coin() -> bool {
    random::random([1]).into_scalar::<f32>() > 0.2
}

/// The same values; half the time as a part of a tensor whose axes are the other way round in memory.
fn sometimes_a_view<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    if coin() {
        return x;
    }
    let turned = x.swap_dims(0, D - 1);
    let length = turned.dims()[0];
    let twice = Tensor::cat(vec![turned.clone(), turned], 0);
    twice.narrow(0, length, length).swap_dims(0, D - 1)
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
    let inputs = inputs.map(|x| sometimes_a_view(x.cast(dtype)).detach().require_grad());
    let ours = ours(inputs.clone()).cast(DType::F32);
    let composed = composed(inputs.clone().map(|x| x.cast(DType::F32)));
    // The gradient of a turned output is a view too.
    let turn = |x: Tensor<O>, turned| if turned { x.swap_dims(0, O - 1) } else { x };
    let turned = coin();
    let probe = random(turn(ours.clone(), turned).dims());
    let gradients = |out: &Tensor<O>| {
        let all = (turn(out.clone(), turned) * probe.clone()).sum().backward();
        inputs.each_ref().map(|x| x.grad(&all).unwrap())
    };
    let (a, b) = (gradients(&ours), gradients(&composed));
    assert_same(what, ours.inner(), composed.inner(), bound);
    for (input, (a, b)) in a.into_iter().zip(b).enumerate() {
        assert_same(&format!("{what}, gradient of input {input}"), a, b, bound);
    }
}

fn assert_convolution([batch, inputs, outputs, frames, height, width]: [usize; 6]) {
    let shape = [batch, inputs, frames, height, width];
    for dtype in DTYPES {
        let tensors = [
            random(shape),
            random([outputs, inputs, 3, 3, 3]),
            random([1, 1, 1, 1, outputs]),
        ];
        assert_same_layer(
            &format!("{shape:?} to {outputs} in {dtype:?}"),
            tensors,
            dtype,
            |[x, weight, bias]| {
                crate::causal_conv3d(x, weight, Some(bias.reshape([outputs])), [1; 3])
            },
            |[x, weight, bias]| {
                let x = x.pad([(2, 0), (1, 1), (1, 1)], PadMode::Edge);
                let options = ConvOptions::new([1; 3], [0; 3], [1; 3], 1);
                conv3d(x, weight, Some(bias.reshape([outputs])), options)
            },
        );
    }
}

#[test]
fn convolution_is_the_composed_one_with_its_gradients() {
    for sizes in [
        [2, 3, 5, 1, 7, 9],
        [1, 9, 16, 2, 8, 8],
        [2, 5, 3, 5, 1, 3],
        [1, 48, 48, 4, 3, 4],
        [1, 4, 17, 3, 33, 40],
        [2, 48, 50, 2, 9, 47],
        [1, 50, 48, 1, 6, 5],
        // Planes large enough for fewer products: one frame, two of several strips, all taps.
        [1, 49, 48, 1, 50, 64],
        [2, 48, 50, 2, 23, 47],
        [1, 48, 48, 5, 21, 22],
    ] {
        assert_convolution(sizes);
    }
}

fn assert_group_norm([batch, groups, channels, positions]: [usize; 4], with_silu: bool) {
    let layer = |weight: Tensor<3>, bias: Tensor<3>| {
        let mut norm = GroupNormConfig::new(groups, channels).init(&Device::flex());
        norm.weight = norm.weight.map(|_| weight.reshape([channels]));
        norm.bias = norm.bias.map(|_| bias.reshape([channels]));
        norm
    };
    for dtype in DTYPES {
        assert_same_layer(
            &format!(
                "{batch} x {channels} x {positions} in {groups}, silu: {with_silu}, {dtype:?}"
            ),
            [
                random([batch, channels, positions]),
                random([1, 1, channels]),
                random([1, 1, channels]),
            ],
            dtype,
            |[x, weight, bias]| {
                let norm = layer(weight, bias);
                match with_silu {
                    true => norm.forward_silu(x),
                    false => norm.forward(x),
                }
            },
            |[x, weight, bias]| {
                let x = layer(weight, bias).composed(x);
                if with_silu { x.clone() * sigmoid(x) } else { x }
            },
        );
    }
}

#[test]
fn group_norm_is_the_composed_one_with_its_gradients() {
    for sizes in [[2, 4, 8, 5], [1, 2, 6, 4500], [3, 1, 1, 33]] {
        for with_silu in [false, true] {
            assert_group_norm(sizes, with_silu);
        }
    }
}

fn assert_norms([batch, tokens, width]: [usize; 3]) {
    for dtype in DTYPES {
        let what = |name| format!("{name} of {batch} x {tokens} x {width} in {dtype:?}");
        let x = || random([batch, tokens, width]);
        let vector = || random([batch, 1, width]);
        assert_same_layer(
            &what("modulated norm"),
            [x(), vector(), vector()],
            dtype,
            |[x, shift, scale]| modulated_norm(x, shift, scale, 1e-6),
            |[x, shift, scale]| modulate(standardized(x, 1e-6), shift, scale),
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

fn assert_gate(shape @ [batch, _, width]: [usize; 3]) {
    for dtype in DTYPES {
        assert_same_layer(
            &format!("gate of {shape:?} in {dtype:?}"),
            [random(shape), random(shape), random([batch, 1, width])],
            dtype,
            |[x, y, gate]| add_gated(x, y, gate),
            |[x, y, gate]| x + y * gate,
        );
    }
}

#[test]
fn norms_and_gates_are_the_composed_ones_with_their_gradients() {
    // Several samples, a width that no vector unit divides, several tasks in a sample.
    for shape in [[1, 1, 2], [3, 7, 129], [2, 300, 256], [1, 3, 3000]] {
        assert_norms(shape);
        assert_gate(shape);
    }
}

#[test]
fn a_value_that_is_its_own_mean_is_normalised_to_0() {
    let (x, shift, scale) = (random([2, 9, 1]), random([2, 1, 1]), random([2, 1, 1]));
    let out = modulated_norm(x.clone(), shift.clone(), scale, 1e-6);
    assert_same("modulated norm", out, shift.expand([2, 9, 1]), 1e-7);

    let (weight, bias) = (random([9]), random([9]));
    let options = GroupNormOptions {
        groups: 9,
        eps: 1e-6,
        silu: false,
    };
    let out = group_norm(x, weight, bias.clone(), options);
    // Value and mean are scaled before their difference is taken: their rounding grows by 1 / √eps.
    let bias = bias.reshape([1, 9, 1]).expand([2, 9, 1]);
    assert_same("group norm", out, bias, 4e3 * f32::EPSILON);
}

fn assert_activations(count: usize) {
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
            let what = format!("{name} of {count} values in {dtype:?}");
            let x = [random([count]) * 3.0];
            assert_same_layer(&what, x, dtype, |[x]| ours(x), |[x]| composed(x));
        }
    }
}

#[test]
fn activations_are_the_composed_ones_with_their_gradients() {
    assert_activations(1000);
}

fn assert_rotation(shape @ [_, tokens, _, d]: [usize; 4]) {
    for dtype in DTYPES {
        let angles = (random([tokens, d / 2]) * 7.0).detach();
        let (cos, sin) = (angles.clone().cos(), angles.sin());
        assert_same_layer(
            &format!("{shape:?} in {dtype:?}"),
            [random(shape)],
            dtype,
            |[x]| rotate_pairs(x, cos.clone(), sin.clone()),
            |[x]| rotary::composed(x, cos.clone(), sin.clone()),
        );
    }
}

#[test]
fn rotation_is_the_composed_one_with_its_gradient() {
    assert_rotation([1, 1, 1, 2]);
    assert_rotation([2, 5, 3, 8]);
}

/// A sample for each of `lengths`.
fn assert_attention([heads, queries, keys, d]: [usize; 4], lengths: &[usize]) {
    let batch = lengths.len();
    let formula = |[q, k, v]: [Tensor<4>; 3], lengths: &[usize]| {
        let sample = |i: usize| {
            let [q, k, v] = [&q, &k, &v].map(|x| x.clone().narrow(0, i, 1));
            let [k, v] = [k, v].map(|x| x.narrow(2, 0, lengths[i]));
            let scores = q.matmul(k.transpose()) / (d as f64).sqrt();
            softmax(scores, 3).matmul(v)
        };
        Tensor::cat((0..batch).map(sample).collect(), 0)
    };
    for dtype in DTYPES {
        let what = format!("{heads} x {queries} queries over {lengths:?} keys of {d} in {dtype:?}");
        let shape = |tokens| [batch, heads, tokens, d];
        let inputs = || [shape(queries), shape(keys), shape(keys)].map(random);
        assert_same_layer(
            &what,
            inputs(),
            dtype,
            |[q, k, v]| attention_within(q, k, v, lengths),
            |inputs| formula(inputs, lengths),
        );
        #[cfg(feature = "autodiff")]
        assert_same_layer(
            &format!("{what}, as on other backends"),
            inputs(),
            dtype,
            |[q, k, v]| crate::attention_backward::differentiable(q, k, v),
            |inputs| formula(inputs, &vec![keys; batch]),
        );
    }
}

#[test]
fn attention_is_its_formula_with_its_gradients() {
    assert_attention([1, 1, 1, 2], &[1]);
    assert_attention([3, 5, 33, 8], &[33, 20]);
    assert_attention([2, 70, 300, 16], &[1, 300, 299]);
    // More scores than are in memory at a time.
    assert_attention([1, 1100, 1000, 4], &[1000]);
}

/// A linear layer, which has no gradient of ours, against the product in f64, rounded once: with a weight
/// as it is initialised, and transposed, as files hold it.
fn assert_linear([rows, inputs, outputs]: [usize; 3], with_bias: bool) {
    for (dtype, step) in [(DType::F32, 1e-6), (DType::BF16, 1.0 / 256.0)] {
        let config = LinearConfig::new(inputs, outputs).with_bias(with_bias);
        let mut layer = config.init(&Device::flex());
        let x = sometimes_a_view(random::random([2, rows, inputs]).cast(dtype));
        let weight = random::random([inputs, outputs]).cast(dtype);
        let bias = sometimes_a_view(random::random([outputs]).cast(dtype));
        layer.bias = with_bias.then(|| Param::from_tensor(bias.clone()));

        let [a, b] = [x.clone(), weight.clone().unsqueeze()].map(|x| x.cast(DType::F64));
        let mut expected = a.matmul(b);
        if with_bias {
            expected = expected + bias.cast(DType::F64).unsqueeze();
        }
        let largest = expected.clone().abs().max().into_scalar::<f64>().max(1.0);
        let bound = expected.clone().abs() * step + 2e-6 * largest;
        let transposed = Tensor::<2>::from_data(
            weight.clone().transpose().into_data(),
            (&Device::flex(), dtype),
        );
        for weight in [weight, transposed.transpose()] {
            layer.weight = Param::from_tensor(weight);
            let out = crate::linear(&layer, x.clone()).cast(DType::F64);
            let excess = ((out - expected.clone()).abs() - bound.clone()).max();
            let what = format!("{rows} x {inputs} to {outputs}, bias: {with_bias}, {dtype:?}");
            assert!(excess.into_scalar::<f64>() <= 0.0, "{what}");
        }
    }
}

#[test]
fn linear_layers_are_their_product() {
    assert_linear([1, 1, 1], true);
    assert_linear([7, 33, 5], false);
    assert_linear([13, 2_100, 67], true);
    assert_linear([200, 64, 130], false);
}

/// What is computed in f32 is rounded once.
#[test]
fn half_precision_is_f32_rounded() {
    let weight = random::random([3, 4, 3, 3, 3]);
    let (scale, shift) = (random::random([4]), random::random([4]));
    let layers: [&dyn Fn(Tensor<5>, DType) -> Tensor<5>; 2] = [
        &|x, dtype| {
            let bias = shift.clone().narrow(0, 0, 3).cast(dtype);
            crate::causal_conv3d(x, weight.clone().cast(dtype), Some(bias), [1; 3])
        },
        // Weights in f32, which checkpoints have beside half precision.
        &|x, _| {
            let mut norm = GroupNormConfig::new(2, 4).init(&Device::flex());
            norm.weight = norm.weight.map(|_| scale.clone());
            norm.bias = norm.bias.map(|_| shift.clone());
            norm.forward_silu(x)
        },
    ];
    for dtype in [DType::BF16, DType::F16] {
        let x = random::random([2, 4, 3, 5, 6]).cast(dtype);
        for layer in layers {
            let half = layer(x.clone(), dtype);
            // The same weights, which are rounded already.
            let rounded = |x: Tensor<5>| layer(x.cast(DType::F32), dtype).cast(dtype);
            half.into_data()
                .assert_eq(&rounded(x.clone()).into_data(), true);
        }
    }
}
