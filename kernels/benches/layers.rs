//! The layers written for burn's CPU backend beside the same layers composed of tensor operations:
//! `cargo bench -p burn-hunyuan-kernels --features bench --bench layers`. Sizes are those of the published model, a
//! short clip's tokens.

use burn::{
    module::Param,
    nn::LinearConfig,
    tensor::{
        DType, Device, Distribution, Tensor,
        activation::{sigmoid, softmax},
        module,
        ops::{ConvOptions, PadMode},
    },
};
use burn_hunyuan_kernels::{
    GroupNormConfig, RmsNormConfig, add_gated, attention, causal_conv3d, gelu_tanh, linear,
    modulated_norm, rotate_pairs, silu,
};
use criterion::{Criterion, criterion_group, criterion_main};

/// Tokens, heads and channels of a head of the transformer.
const TOKENS: usize = 640;
const HEADS: usize = 24;
const HEAD: usize = 128;
const WIDTH: usize = HEADS * HEAD;

fn random<const D: usize>(shape: [usize; D], dtype: DType) -> Tensor<D> {
    let options = (&Device::flex(), DType::F32);
    let values: Tensor<D> = Tensor::random(shape, Distribution::Normal(0.0, 1.0), options);
    values.cast(dtype)
}

/// Times both forms of a layer on the same input.
fn both<const D: usize, const O: usize, const P: usize>(
    criterion: &mut Criterion,
    layer: &str,
    x: &Tensor<D>,
    ours: impl Fn(Tensor<D>) -> Tensor<O>,
    composed: impl Fn(Tensor<D>) -> Tensor<P>,
) {
    let dtype = x.dtype().name();
    let mut group = criterion.benchmark_group(format!("{layer} {dtype}"));
    group.sample_size(10);
    group.bench_function("ours", |bench| bench.iter(|| ours(x.clone())));
    group.bench_function("composed", |bench| bench.iter(|| composed(x.clone())));
    group.finish();
}

fn transformer(criterion: &mut Criterion) {
    for dtype in [DType::F32, DType::BF16] {
        tokens(criterion, dtype);
        product(criterion, dtype);
        heads(criterion, dtype);
    }
}

/// What works on the tokens one by one.
fn tokens(criterion: &mut Criterion, dtype: DType) {
    let x = random([1, TOKENS, WIDTH], dtype);
    let (y, each) = (
        random([1, TOKENS, WIDTH], dtype),
        random([1, 1, WIDTH], dtype),
    );
    both(
        criterion,
        "modulated norm",
        &x,
        |x| modulated_norm(x, each.clone(), each.clone(), 1e-6),
        |x| {
            let x = x.cast(DType::F32);
            let centred = x.clone() - x.mean_dim(2);
            let variance = centred.clone().square().mean_dim(2);
            let normal = (centred / (variance + 1e-6).sqrt()).cast(dtype);
            normal * (each.clone() + 1.0) + each.clone()
        },
    );
    both(
        criterion,
        "gated residual",
        &x,
        |x| add_gated(x, y.clone(), each.clone()),
        |x| x + y.clone() * each.clone(),
    );
    both(criterion, "tanh GELU", &x, gelu_tanh, |x| {
        let u = (x.clone() * x.clone() * 0.044_715 + 1.0) * x.clone() * 1.595_769_1;
        x * sigmoid(u)
    });
}

fn product(criterion: &mut Criterion, dtype: DType) {
    let x = random([1, TOKENS, WIDTH], dtype);
    // Weights in the order of a file, transposed when loaded.
    let weight = random::<2>([4 * WIDTH, WIDTH], dtype).transpose();
    let mut layer = LinearConfig::new(WIDTH, 4 * WIDTH).init(&Device::flex());
    layer.weight = layer.weight.map(|_| weight.clone());
    layer.bias = layer.bias.map(|bias| bias.map(|bias| bias.cast(dtype)));
    let bias = layer.bias.as_ref().map(Param::val);
    both(
        criterion,
        "linear",
        &x,
        |x| linear(&layer, x),
        |x| module::linear(x, weight.clone(), bias.clone()),
    );
}

/// What works on queries and keys.
fn heads(criterion: &mut Criterion, dtype: DType) {
    let q = random([1, TOKENS, HEADS, HEAD], dtype);
    let mut norm = RmsNormConfig::new(HEAD).init(&Device::flex());
    norm.weight = norm.weight.map(|weight| weight.cast(dtype));
    let scale = norm.weight.val();
    both(
        criterion,
        "RMS norm of heads",
        &q,
        |q| norm.forward(q),
        |q| {
            let x = q.cast(DType::F32);
            let root = (x.clone().square().mean_dim(3) + 1e-6).sqrt();
            (x / root).cast(dtype) * scale.clone().unsqueeze()
        },
    );
    let angles = random([TOKENS, HEAD / 2], DType::F32);
    let (cos, sin) = (angles.clone().cos(), angles.sin());
    both(
        criterion,
        "rotary embedding",
        &q,
        |q| rotate_pairs(q, cos.clone(), sin.clone()),
        |q| {
            let pairs = q.cast(DType::F32).reshape([1, TOKENS, HEADS, HEAD / 2, 2]);
            let (even, odd) = (pairs.clone().narrow(4, 0, 1), pairs.narrow(4, 1, 1));
            let [cos, sin] = [&cos, &sin].map(|x| x.clone().reshape([1, TOKENS, 1, HEAD / 2, 1]));
            let turned = vec![
                even.clone() * cos.clone() - odd.clone() * sin.clone(),
                odd * cos + even * sin,
            ];
            Tensor::cat(turned, 4)
                .reshape([1, TOKENS, HEADS, HEAD])
                .cast(dtype)
        },
    );
    let q = random([1, HEADS, TOKENS, HEAD], dtype);
    both(
        criterion,
        "attention",
        &q,
        |q| attention(q.clone(), q.clone(), q),
        |q| {
            let scores = q.clone().matmul(q.clone().transpose()) / (HEAD as f64).sqrt();
            softmax(scores, 3).matmul(q)
        },
    );
}

fn vae(criterion: &mut Criterion) {
    for dtype in [DType::F32, DType::BF16] {
        group_norm(criterion, dtype);
        for (channels, frames) in [(16, 3), (128, 3), (128, 9)] {
            convolution(criterion, channels, frames, dtype);
        }
        // The middle block's only head.
        let q = random([1, 1, 2048, 512], dtype);
        both(
            criterion,
            "attention of one head",
            &q,
            |q| attention(q.clone(), q.clone(), q),
            |q| {
                let scores = q.clone().matmul(q.clone().transpose()) / 512_f64.sqrt();
                softmax(scores, 3).matmul(q)
            },
        );
    }
}

fn group_norm(criterion: &mut Criterion, dtype: DType) {
    let x = random([1, 128, 5, 64, 64], dtype);
    let norm = GroupNormConfig::new(32, 128).init(&Device::flex());
    both(
        criterion,
        "group norm and SiLU",
        &x,
        |x| norm.forward_silu(x),
        |x| {
            let groups = x.cast(DType::F32).reshape([1, 32, 4 * 5 * 64 * 64]);
            let centred = groups.clone() - groups.mean_dim(2);
            let variance = centred.clone().square().mean_dim(2);
            let normal = (centred / (variance + 1e-6).sqrt()).reshape([1, 128, 5, 64, 64]);
            let normal: Tensor<5> = normal.cast(dtype);
            normal.clone() * sigmoid(normal)
        },
    );
    both(criterion, "SiLU", &x, silu, |x| x.clone() * sigmoid(x));
}

fn convolution(criterion: &mut Criterion, channels: usize, frames: usize, dtype: DType) {
    let x = random([1, channels, frames, 64, 64], dtype);
    let weight = random([channels, channels, 3, 3, 3], dtype);
    let bias = random([channels], dtype);
    both(
        criterion,
        &format!("causal convolution of {channels} channels, {frames} frames"),
        &x,
        |x| causal_conv3d(x, weight.clone(), Some(bias.clone()), [1; 3]),
        |x| {
            let x = x.pad([(2, 0), (1, 1), (1, 1)], PadMode::Edge);
            let options = ConvOptions::new([1; 3], [0; 3], [1; 3], 1);
            module::conv3d(x, weight.clone(), Some(bias.clone()), options)
        },
    );
}

criterion_group!(benches, transformer, vae);
criterion_main!(benches);
