//! Gradients with blocks computed again in the backward pass, instead of kept in memory.
//!
//! "Gradient checkpointing", arXiv 1604.06174, applied to the model from outside.

use burn::{module::Module, tensor::Tensor};
use burn_hunyuan_dit::{Condition, Dit};

use super::{PathPoint, flow::mean_squared_error};
use crate::optimizer::Gradients;

/// As [`gradients`](super::gradients), with memory for the inputs of the blocks and the inside of
/// one block only.
pub fn gradients_by_block(
    model: &Dit,
    point: &PathPoint,
    condition: &Condition,
    share: f64,
) -> (f64, Gradients) {
    let embed = |model: &Dit| {
        let (latents, timestep) = (point.latents.clone(), point.timestep.clone());
        model.embed(latents, timestep, condition)
    };

    // Forward, without automatic differentiation: what each block sees is all that is kept.
    let plain = model.valid();
    let (mut image, mut text, vec, sequence) = embed(&plain);
    let (rope, lengths) = (&sequence.rope, &sequence.lengths);
    let image_tokens = image.dims()[1];
    let mut dual_inputs = Vec::with_capacity(plain.dual_blocks.len());
    for block in &plain.dual_blocks {
        dual_inputs.push((image.clone(), text.clone()));
        (image, text) = block.forward(image, text, &vec, rope, lengths);
    }
    let mut tokens = Tensor::cat(vec![image, text], 1);
    let mut single_inputs = Vec::with_capacity(plain.single_blocks.len());
    for block in &plain.single_blocks {
        single_inputs.push(tokens.clone());
        tokens = block.forward(tokens, &vec, rope, lengths);
    }

    // Backward, the last part first.
    let (x, v) = (leaf(tokens), leaf(vec.clone()));
    let velocity = model.velocity(x.clone(), &v, &sequence);
    let loss = mean_squared_error(velocity, point.velocity.clone()) * share;
    let mut backward = loss.backward();
    let mut gradients = Gradients::of_part(&model.final_layer, "final_layer.", &mut backward);
    let mut grad = gradient(&x, &mut backward);
    let mut grad_vec = gradient(&v, &mut backward);

    for (i, block) in model.single_blocks.iter().enumerate().rev() {
        let Some(input) = single_inputs.pop() else {
            break;
        };
        let (x, v) = (leaf(input), leaf(vec.clone()));
        let out = block.forward(x.clone(), &v, rope, lengths);
        let mut backward = product(out, grad).backward();
        let name = format!("single_blocks.{i}.");
        gradients.add(Gradients::of_part(block, &name, &mut backward));
        grad = gradient(&x, &mut backward);
        grad_vec = grad_vec + gradient(&v, &mut backward);
    }

    let text_tokens = grad.dims()[1] - image_tokens;
    let mut grad_image = grad.clone().narrow(1, 0, image_tokens);
    let mut grad_text = grad.narrow(1, image_tokens, text_tokens);
    for (i, block) in model.dual_blocks.iter().enumerate().rev() {
        let Some((image, text)) = dual_inputs.pop() else {
            break;
        };
        let (x, y, v) = (leaf(image), leaf(text), leaf(vec.clone()));
        let (image, text) = block.forward(x.clone(), y.clone(), &v, rope, lengths);
        let surrogate = product(image, grad_image) + product(text, grad_text);
        let mut backward = surrogate.backward();
        let name = format!("dual_blocks.{i}.");
        gradients.add(Gradients::of_part(block, &name, &mut backward));
        grad_image = gradient(&x, &mut backward);
        grad_text = gradient(&y, &mut backward);
        grad_vec = grad_vec + gradient(&v, &mut backward);
    }

    let (image, text, vec, _) = embed(model);
    let surrogate = product(image, grad_image) + product(text, grad_text) + product(vec, grad_vec);
    // Beside a LoRA nothing learns here.
    if surrogate.is_tracked() {
        gradients.add(Gradients::of(model, &mut surrogate.backward()));
    }
    (f64::from(loss.into_scalar::<f32>()), gradients)
}

/// `x` as something to differentiate by.
fn leaf<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.without_autodiff().autodiff().require_grad()
}

/// A number whose gradient by `x` is `gradient`.
fn product<const D: usize>(x: Tensor<D>, gradient: Tensor<D>) -> Tensor<1> {
    (x * gradient).sum()
}

/// The gradient by a [`leaf`], zero where it took no part.
fn gradient<const D: usize>(leaf: &Tensor<D>, backward: &mut burn::tensor::Gradients) -> Tensor<D> {
    let zeros = || leaf.clone().without_autodiff().zeros_like();
    leaf.grad_remove(backward).unwrap_or_else(zeros)
}
