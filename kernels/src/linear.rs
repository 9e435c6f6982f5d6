//! Linear layers, with LoRAs beside them.

use burn::{
    module::Param,
    nn::Linear,
    tensor::{Tensor, module},
};

/// `layer` applied to `x`; where its weight has a LoRA (burn's `LoraAdapter`), `x W + b + s (x A) B`
/// (arXiv 2106.09685).
///
/// burn's own forward composes `W + s A B` first. Learning two thin matrices would then cost the
/// gradient of the whole weight, and in half precision the sum rounds small updates away.
///
/// # Shapes
/// - `x`: `[.., input]`
/// - output: `[.., output]`
pub fn linear<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let Some(lora) = layer.weight.adapter() else {
        return layer.forward(x);
    };
    let thin = module::linear(x.clone(), lora.a.val(), None); // [.., rank]
    let update = module::linear(thin, lora.b.val(), None) * lora.scale;
    let bias = layer.bias.as_ref().map(Param::val);
    module::linear(x, layer.weight.base(), bias) + update
}
