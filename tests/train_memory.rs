//! Memory of training, as the allocator sees it: attention's grows with the length and not with its
//! square, and a block more costs its input and not its inside.

#![allow(clippy::unwrap_used)]

#[path = "common/peak.rs"]
mod peak;

use burn::tensor::{DType, Device, Tensor};
use burn_hunyuan_dit::{Condition, Dit, DitConfig};
use burn_hunyuan_kernels::{attention, attention_with_bias};
use burn_hunyuan_train::{
    dit::{PathPoint, gradients, gradients_by_block, initialise},
    optimizer::Gradients,
};
use peak::peak;

/// Forward and backward of attention over `tokens` tokens.
fn attend(tokens: usize, own_backward: bool) {
    let options = (&Device::flex(), DType::F32);
    let x = || {
        let x = Tensor::<4>::ones([1, 2, tokens, 16], options);
        x.autodiff().require_grad()
    };
    let out = match own_backward {
        true => attention(x(), x(), x()),
        false => attention_with_bias(x(), x(), x(), Tensor::zeros([1, 1, 1, 1], options)),
    };
    out.sum().backward();
}

const WIDTH: usize = 32;
const BATCH: usize = 4;
const TOKENS: usize = 16 * 16 + 2;

fn model(single_blocks: usize) -> Dit {
    let config = DitConfig::new()
        .with_in_channels(2)
        .with_out_channels(2)
        .with_heads(2)
        .with_head_dim(WIDTH / 2)
        .with_dual_blocks(1)
        .with_single_blocks(single_blocks)
        .with_refiner_blocks(1)
        .with_guidance(false)
        .with_text_dim(8)
        .with_pooled_dim(8)
        .with_rope_axes([4, 6, 6]);
    initialise(config.init(&Device::flex().autodiff()), 0)
}

/// Peak memory of the gradients of models with 4 and with 44 single blocks: what a block more costs.
/// So many, because what two threads hold at the same moment changes from run to run.
fn cost_of_a_block(
    gradients: impl Fn(&Dit, &PathPoint, &Condition, f64) -> (f64, Gradients),
) -> f64 {
    let options = (&Device::flex(), DType::F32);
    let latents = Tensor::ones([BATCH, 2, 1, 32, 32], options);
    let point = PathPoint::new(latents.clone(), latents, &[0.5; BATCH]);
    let condition = Condition {
        text: Tensor::ones([BATCH, 2, 8], options),
        text_lengths: vec![2; BATCH],
        pooled: Tensor::ones([BATCH, 8], options),
        guidance: None,
    };
    let [few, many] = [4, 44].map(|blocks| {
        let model = model(blocks);
        peak(|| drop(gradients(&model, &point, &condition, 1.0)))
    });
    (many - few) / 40.0
}

#[test]
fn memory_grows_as_it_should() {
    let [short, long] = [2048, 4096].map(|tokens| peak(|| attend(tokens, true)));
    println!("attention, 2048 and 4096 tokens: {short} and {long} bytes");
    assert!(long < 2.2 * short, "not linear: {short} {long}");
    let [short, long] = [2048, 4096].map(|tokens| peak(|| attend(tokens, false)));
    println!("with scores, 2048 and 4096 tokens: {short} and {long} bytes");
    assert!(
        long > 3.5 * short,
        "this is what the test can see: {short} {long}"
    );

    let boundary = 4 * BATCH * TOKENS * WIDTH;
    let plain = cost_of_a_block(gradients);
    let recomputed = cost_of_a_block(gradients_by_block);
    println!("a block more: {plain} bytes, recomputed {recomputed}");
    println!("the input of a block: {boundary} bytes");
    assert!(
        recomputed < 1.2 * boundary as f64,
        "{recomputed} {boundary}"
    );
    assert!(plain > 10.0 * boundary as f64, "{plain} {boundary}");
}
