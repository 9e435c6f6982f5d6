//! The middle of both halves: two residual blocks around one attention layer.

use burn::{
    config::Config,
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use burn_hunyuan_kernels::{GroupNorm, GroupNormConfig, attention};

use crate::resnet::{ResnetBlock, ResnetBlockConfig};

/// Configuration of a [`FrameCausalAttention`].
#[derive(Config, Debug)]
pub struct FrameCausalAttentionConfig {
    /// Channels in and out, the width of the single head.
    pub channels: usize,
    /// Groups of the group norm.
    pub norm_num_groups: usize,
}

/// Self-attention over every position of a clip, with one head, in which a frame attends to itself
/// and the frames before it. Residual.
///
/// diffusers' `Attention` under `prepare_causal_attention_mask`. A frame's mask is the same for all
/// its positions, so each frame is one unmasked attention over the frames up to it: exact, half
/// the work, and no mask quadratic in the clip.
#[derive(Module, Debug)]
pub struct FrameCausalAttention {
    /// Norm of the input.
    pub group_norm: GroupNorm,
    /// Queries.
    pub to_q: Linear,
    /// Keys.
    pub to_k: Linear,
    /// Values.
    pub to_v: Linear,
    /// Output projection, in a list as in the reference's parameter names.
    pub to_out: [Linear; 1],
}

impl FrameCausalAttentionConfig {
    /// Creates the layer.
    pub fn init(&self, device: &Device) -> FrameCausalAttention {
        let linear = || LinearConfig::new(self.channels, self.channels).init(device);
        FrameCausalAttention {
            group_norm: GroupNormConfig::new(self.norm_num_groups, self.channels).init(device),
            to_q: linear(),
            to_k: linear(),
            to_v: linear(),
            to_out: [linear()],
        }
    }
}

impl FrameCausalAttention {
    /// Applies the layer.
    ///
    /// # Shapes
    /// - `x` and output: `[batch, channels, frames, height, width]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [batch, channels, frames, height, width] = x.dims();
        let positions = height * width;

        // [batch, 1 head, tokens, channels], frame by frame
        let tokens = self.group_norm.forward(x.clone());
        let tokens = tokens
            .reshape([batch, 1, channels, frames * positions])
            .swap_dims(2, 3);
        let q = self.to_q.forward(tokens.clone());
        let k = self.to_k.forward(tokens.clone());
        let v = self.to_v.forward(tokens);

        let frame = |i: usize| {
            let q = q.clone().narrow(2, i * positions, positions);
            let past = |kv: &Tensor<4>| kv.clone().narrow(2, 0, (i + 1) * positions);
            attention(q, past(&k), past(&v))
        };
        let attended = Tensor::cat((0..frames).map(frame).collect(), 2);

        let [to_out] = &self.to_out;
        let out = to_out.forward(attended).swap_dims(2, 3);
        out.reshape([batch, channels, frames, height, width]) + x
    }
}

/// Configuration of a [`MidBlock`].
#[derive(Config, Debug)]
pub struct MidBlockConfig {
    /// Channels in and out.
    pub channels: usize,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
}

/// Residual block, attention, residual block, at the coarsest resolution.
///
/// diffusers' `HunyuanVideoMidBlock3D`.
#[derive(Module, Debug)]
pub struct MidBlock {
    /// The attention layer, in a list as in the reference's parameter names.
    pub attentions: [FrameCausalAttention; 1],
    /// The residual blocks before and after it.
    pub resnets: [ResnetBlock; 2],
}

impl MidBlockConfig {
    /// Creates the block.
    pub fn init(&self, device: &Device) -> MidBlock {
        let (channels, groups) = (self.channels, self.norm_num_groups);
        let resnet = ResnetBlockConfig::new([channels, channels], groups);
        MidBlock {
            attentions: [FrameCausalAttentionConfig::new(channels, groups).init(device)],
            resnets: [resnet.init(device), resnet.init(device)],
        }
    }
}

impl MidBlock {
    /// Applies the block.
    ///
    /// # Shapes
    /// - `x` and output: `[batch, channels, frames, height, width]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let ([before, after], [attention]) = (&self.resnets, &self.attentions);
        after.forward(attention.forward(before.forward(x)))
    }
}
