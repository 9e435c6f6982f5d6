//! Gradients with blocks computed again in the backward pass, instead of kept in memory.
//!
//! "Gradient checkpointing", arXiv 1604.06174, applied to the model from outside.

use burn::{module::Module, tensor::Tensor};
use burn_hunyuan_dit::{Condition, Dit, place};

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
        let conditioning = model.conditioning(condition, latents.dims());
        let (image, text, vec) = model.embed(latents, timestep, &conditioning);
        (image, text, vec, conditioning.sequence)
    };

    // Forward, without automatic differentiation: what each block sees is all that is kept.
    let plain = model.valid();
    let (mut image, mut text, vec, sequence) = embed(&plain);
    let home = image.device();
    let image_tokens = image.dims()[1];
    // Where a block is: with one device, always the same.
    let (mut local_vec, mut local) = (vec.clone(), sequence.clone());
    let mut dual_inputs = Vec::with_capacity(plain.dual_blocks.len());
    for block in &plain.dual_blocks {
        let device = block.device();
        (local_vec, local) = (place(local_vec, &device), local.place(&device));
        (image, text) = (place(image, &device), place(text, &device));
        dual_inputs.push((image.clone(), text.clone()));
        (image, text) = block.forward(image, text, &local_vec, &local.rope, &local.lengths);
    }
    let mut tokens = Tensor::cat(vec![image, text], 1);
    let mut single_inputs = Vec::with_capacity(plain.single_blocks.len());
    for block in &plain.single_blocks {
        let device = block.device();
        (local_vec, local) = (place(local_vec, &device), local.place(&device));
        tokens = place(tokens, &device);
        single_inputs.push(tokens.clone());
        tokens = block.forward(tokens, &local_vec, &local.rope, &local.lengths);
    }

    // Backward, the last part first.
    let (x, v) = (leaf(place(tokens, &home)), leaf(vec));
    let velocity = model.velocity(x.clone(), &v, &sequence);
    let loss = mean_squared_error(velocity, point.velocity.clone()) * share;
    let mut backward = loss.backward();
    let mut gradients = Gradients::of_part(&model.final_layer, "final_layer.", &mut backward);
    let mut grad = gradient(&x, &mut backward);
    let mut grad_vec = gradient(&v, &mut backward);

    let singles = model.single_blocks.iter().enumerate();
    for ((i, block), input) in singles.zip(single_inputs).rev() {
        let device = block.device();
        (local_vec, local) = (place(local_vec, &device), local.place(&device));
        let (x, v) = (leaf(input), leaf(local_vec.clone()));
        let out = block.forward(x.clone(), &v, &local.rope, &local.lengths);
        let mut backward = product(out, place(grad, &device)).backward();
        let name = format!("single_blocks.{i}.");
        gradients.add(Gradients::of_part(block, &name, &mut backward));
        grad = gradient(&x, &mut backward);
        grad_vec = grad_vec + place(gradient(&v, &mut backward), &home);
    }

    let text_tokens = grad.dims()[1] - image_tokens;
    let mut grad_image = grad.clone().narrow(1, 0, image_tokens);
    let mut grad_text = grad.narrow(1, image_tokens, text_tokens);
    let duals = model.dual_blocks.iter().enumerate();
    for ((i, block), (image, text)) in duals.zip(dual_inputs).rev() {
        let device = block.device();
        (local_vec, local) = (place(local_vec, &device), local.place(&device));
        let (x, y, v) = (leaf(image), leaf(text), leaf(local_vec.clone()));
        let (image, text) = block.forward(x.clone(), y.clone(), &v, &local.rope, &local.lengths);
        let surrogate =
            product(image, place(grad_image, &device)) + product(text, place(grad_text, &device));
        let mut backward = surrogate.backward();
        let name = format!("dual_blocks.{i}.");
        gradients.add(Gradients::of_part(block, &name, &mut backward));
        grad_image = gradient(&x, &mut backward);
        grad_text = gradient(&y, &mut backward);
        grad_vec = grad_vec + place(gradient(&v, &mut backward), &home);
    }

    let (image, text, vec, _) = embed(model);
    let [grad_image, grad_text] = [grad_image, grad_text].map(|x| place(x, &home));
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
