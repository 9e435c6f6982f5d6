//! From image tokens to the velocity's patches.

use burn::{module::Module, nn::Linear, tensor::Tensor};
use burn_hunyuan_kernels::{linear, modulated_norm};

use crate::{
    NORM_EPS,
    modulation::{modulation, vectors},
};

/// The modulated projection after the last block (arXiv 2212.09748).
#[derive(Module, Debug)]
pub struct FinalLayer {
    /// Conditioning vector to shift and scale, in this order (diffusers stores scale first).
    pub modulation: Linear,
    /// Token to the values of its patch, channel first.
    pub proj: Linear,
}

impl FinalLayer {
    /// Projects tokens to patches.
    ///
    /// # Shapes
    /// - `x`: `[batch, image tokens, width]`
    /// - `vec`: `[batch, width]`
    /// - output: `[batch, image tokens, channels * patch values]`
    pub fn forward(&self, x: Tensor<3>, vec: &Tensor<2>) -> Tensor<3> {
        let [shift, scale] = vectors(modulation(&self.modulation, vec));
        linear(&self.proj, modulated_norm(x, shift, scale, NORM_EPS))
    }
}
