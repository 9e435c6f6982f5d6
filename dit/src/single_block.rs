//! The single-stream block.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use burn_hunyuan_kernels::{RmsNorm, RmsNormConfig, add_gated, gelu_tanh, linear, modulated_norm};

use crate::{
    DitConfig, NORM_EPS,
    attention::{attend, split_heads},
    modulation::{modulation, vectors},
    rope::Rope,
};

/// A block over one sequence of image and text tokens, attention and MLP side by side
/// (the "single-stream" phase of arXiv 2412.03603, section 4.2; arXiv 2302.05442).
#[derive(Module, Debug)]
pub struct SingleBlock {
    /// Conditioning vector to shift, scale and gate, unless these are computed elsewhere.
    pub modulation: Option<Linear>,
    /// Queries.
    pub q: Linear,
    /// Keys.
    pub k: Linear,
    /// Values.
    pub v: Linear,
    /// The MLP's first layer.
    pub mlp: Linear,
    /// Norm of a head's query.
    pub q_norm: RmsNorm,
    /// Norm of a head's key.
    pub k_norm: RmsNorm,
    /// Output of the attention and the MLP's second layer in one.
    pub proj: Linear,
    heads: usize,
}

impl SingleBlock {
    /// Creates the block.
    pub fn new(config: &DitConfig, device: &Device) -> Self {
        let (width, mlp_width) = (config.width(), config.mlp_width());
        let layer = |out| LinearConfig::new(width, out).init(device);
        let norm = || RmsNormConfig::new(config.head_dim).init(device);
        Self {
            modulation: Some(layer(3 * width)),
            q: layer(width),
            k: layer(width),
            v: layer(width),
            mlp: layer(mlp_width),
            q_norm: norm(),
            k_norm: norm(),
            proj: LinearConfig::new(width + mlp_width, width).init(device),
            heads: config.heads,
        }
    }

    /// The same block without the layer that modulates it: see
    /// [`Dit::without_modulation`](crate::Dit::without_modulation).
    pub fn without_modulation(mut self) -> Self {
        self.modulation = None;
        self
    }

    /// Returns the updated tokens.
    ///
    /// `lengths` are the tokens of each sample, image and real text, that attention may see.
    ///
    /// # Shapes
    /// - `x`: `[batch, image and text tokens, width]`
    /// - `vec`: `[batch, width]`
    pub fn forward(
        &self,
        x: Tensor<3>,
        vec: &Tensor<2>,
        rope: &Rope,
        lengths: &[usize],
    ) -> Tensor<3> {
        self.forward_modulated(x, self.modulation(vec), rope, lengths)
    }

    /// Shift, scale and gate: `[batch, width]` to `[batch, 3 * width]`.
    ///
    /// # Panics
    /// Where the block [has none](crate::Dit::without_modulation).
    pub fn modulation(&self, vec: &Tensor<2>) -> Tensor<2> {
        let layer = self.modulation.as_ref();
        modulation(layer.expect("a block that modulates itself"), vec)
    }

    /// As [`forward`](Self::forward), by a [`modulation`](Self::modulation) computed before.
    pub fn forward_modulated(
        &self,
        x: Tensor<3>,
        modulation: Tensor<2>,
        rope: &Rope,
        lengths: &[usize],
    ) -> Tensor<3> {
        let [shift, scale, gate] = vectors(modulation);
        let hidden = modulated_norm(x.clone(), shift, scale, NORM_EPS);

        let heads = |layer: &Linear| split_heads(linear(layer, hidden.clone()), self.heads);
        let q = rope.rotate(self.q_norm.forward(heads(&self.q))); // [batch, tokens, heads, d]
        let k = rope.rotate(self.k_norm.forward(heads(&self.k)));
        let attended = attend(q, k, heads(&self.v), lengths); // [batch, tokens, width]

        let mlp = gelu_tanh(linear(&self.mlp, hidden)); // [batch, tokens, mlp_ratio * width]
        add_gated(
            x,
            linear(&self.proj, Tensor::cat(vec![attended, mlp], 2)),
            gate,
        )
    }
}
