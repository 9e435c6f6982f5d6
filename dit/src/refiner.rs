//! The text token refiner.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{DType, Device, Tensor},
};
use burn_hunyuan_kernels::{LayerNorm, LayerNormConfig, add_gated, linear, silu};

use crate::{
    DitConfig, NORM_EPS,
    attention::{attend, split_heads},
    embed::{TIME_CHANNELS, sinusoid},
    mlp::Mlp,
    modulation::{modulation, vectors},
};

/// Hidden channels of a refiner block's MLP, in widths, whatever the model's own ratio is.
const MLP_RATIO: usize = 4;

/// Turns the causal language model's states into text tokens by bidirectional attention
/// (arXiv 2412.03603, section 4.3).
///
/// diffusers `HunyuanVideoTokenRefiner`.
#[derive(Module, Debug)]
pub struct TextRefiner {
    /// Text states to tokens.
    pub proj: Linear,
    /// The timestep's part of the conditioning.
    pub time_in: Mlp,
    /// The mean text state's part of the conditioning.
    pub context_in: Mlp,
    /// The blocks.
    pub blocks: Vec<RefinerBlock>,
}

impl TextRefiner {
    /// Creates the refiner.
    pub fn new(config: &DitConfig, device: &Device) -> Self {
        let width = config.width();
        Self {
            proj: LinearConfig::new(config.text_dim, width).init(device),
            time_in: Mlp::new([TIME_CHANNELS, width, width], device),
            context_in: Mlp::new([config.text_dim, width, width], device),
            blocks: (0..config.refiner_blocks)
                .map(|_| RefinerBlock::new(config, device))
                .collect(),
        }
    }

    /// What no timestep changes: text tokens, and the mean text state's part of the conditioning.
    /// Sample `i` has `lengths[i]` real tokens, the rest is padding.
    ///
    /// # Shapes
    /// - `text`: `[batch, tokens, text_dim]`
    /// - outputs: `[batch, tokens, width]`, `[batch, width]`
    pub fn embed(&self, text: Tensor<3>, lengths: &[usize]) -> (Tensor<3>, Tensor<2>) {
        let context = mean_state(text.clone(), lengths);
        let context = self.context_in.forward(context, silu);
        (linear(&self.proj, text), context)
    }

    /// Refines what [`embed`](Self::embed) gave.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, tokens, width]`
    /// - `context`: `[batch, width]`
    /// - `timestep`: `[batch]`
    /// - output: `[batch, tokens, width]`
    pub fn forward(
        &self,
        tokens: Tensor<3>,
        context: Tensor<2>,
        timestep: Tensor<1>,
        lengths: &[usize],
    ) -> Tensor<3> {
        let time = sinusoid(timestep).cast(tokens.dtype());
        let vec = self.time_in.forward(time, silu) + context;
        self.blocks
            .iter()
            .fold(tokens, |tokens, block| block.forward(tokens, &vec, lengths))
    }
}

/// Mean of every sample's real text states, summed in f32.
///
/// # Shapes
/// - `text`: `[batch, tokens, text_dim]`
/// - output: `[batch, text_dim]`
fn mean_state(text: Tensor<3>, lengths: &[usize]) -> Tensor<2> {
    let mean = |(i, &length): (usize, &usize)| {
        let real = text.clone().narrow(0, i, 1).narrow(1, 0, length);
        real.cast(DType::F32).mean_dim(1).squeeze_dim::<2>(1)
    };
    let means = lengths.iter().enumerate().map(mean).collect();
    Tensor::cat(means, 0).cast(text.dtype())
}

/// A block of the [`TextRefiner`]: pre-norm attention and MLP, each behind a gate.
///
/// diffusers `HunyuanVideoIndividualTokenRefinerBlock`.
#[derive(Module, Debug)]
pub struct RefinerBlock {
    /// Norm before the attention.
    pub norm1: LayerNorm,
    /// Queries.
    pub q: Linear,
    /// Keys.
    pub k: Linear,
    /// Values.
    pub v: Linear,
    /// Attention's output.
    pub proj: Linear,
    /// Norm before the MLP.
    pub norm2: LayerNorm,
    /// The feed-forward part.
    pub mlp: Mlp,
    /// Conditioning vector to the gates of attention and MLP.
    pub modulation: Linear,
    heads: usize,
}

impl RefinerBlock {
    fn new(config: &DitConfig, device: &Device) -> Self {
        let width = config.width();
        let layer = |out| LinearConfig::new(width, out).init(device);
        let norm = || LayerNormConfig::new(width).with_eps(NORM_EPS).init(device);
        Self {
            norm1: norm(),
            q: layer(width),
            k: layer(width),
            v: layer(width),
            proj: layer(width),
            norm2: norm(),
            mlp: Mlp::new([width, MLP_RATIO * width, width], device),
            modulation: layer(2 * width),
            heads: config.heads,
        }
    }

    /// Returns the updated tokens: `[batch, tokens, width]` to the same shape.
    ///
    /// Real tokens attend to real tokens. The reference's mask says so too, and further lets every
    /// token see token 0 so that no row of it is empty: token 0 is always real, and what padding
    /// attends to is of no consequence, so the real tokens come out the same.
    pub fn forward(&self, x: Tensor<3>, vec: &Tensor<2>, lengths: &[usize]) -> Tensor<3> {
        let [gate, mlp_gate] = vectors(modulation(&self.modulation, vec));
        let hidden = self.norm1.forward(x.clone());
        let [q, k, v] = [&self.q, &self.k, &self.v]
            .map(|layer| split_heads(linear(layer, hidden.clone()), self.heads));
        let x = add_gated(x, linear(&self.proj, attend(q, k, v, lengths)), gate);
        let hidden = self.norm2.forward(x.clone());
        add_gated(x, self.mlp.forward(hidden, silu), mlp_gate)
    }
}
