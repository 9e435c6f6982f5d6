//! From video to the moments of its latents.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use burn_hunyuan_kernels::{GroupNorm, GroupNormConfig};

use crate::{
    config::{LEVELS, RGB, VaeConfig, level_factor},
    conv::{CausalConv3d, CausalConv3dConfig},
    mid::{MidBlock, MidBlockConfig},
    resnet::{ResnetBlock, ResnetBlockConfig},
};

/// Strided causal convolution: divides frames, height and width by the strides, rounding up, so
/// that the first frame keeps a latent frame of its own.
///
/// diffusers' `HunyuanVideoDownsampleCausal3D`.
#[derive(Module, Debug)]
pub struct Downsampler {
    /// The strided convolution.
    pub conv: CausalConv3d,
}

impl Downsampler {
    /// Creates the layer; `factor` divides frames, height and width.
    pub fn new(channels: usize, factor: [usize; 3], device: &Device) -> Self {
        let conv = CausalConv3dConfig::new([channels, channels]).with_stride(factor);
        Self {
            conv: conv.init(device),
        }
    }

    /// `[batch, channels, frames, height, width]` to the same, smaller.
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.conv.forward(x)
    }
}

/// One resolution level of the encoder.
///
/// diffusers' `HunyuanVideoDownBlock3D`.
#[derive(Module, Debug)]
pub struct DownBlock {
    /// The residual blocks.
    pub resnets: Vec<ResnetBlock>,
    /// The step to the next level, absent from the last one.
    pub downsamplers: Option<[Downsampler; 1]>,
}

impl DownBlock {
    /// Applies the residual blocks, then the down-sampling.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels in, frames, height, width]`
    /// - output: `[batch, channels out, frames', height', width']`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let x = self.resnets.iter().fold(x, |x, resnet| resnet.forward(x));
        match &self.downsamplers {
            Some([downsampler]) => downsampler.forward(x),
            None => x,
        }
    }
}

/// The encoder: residual levels at falling resolution, then the middle block.
///
/// diffusers' `HunyuanVideoEncoder3D`.
#[derive(Module, Debug)]
pub struct Encoder {
    /// From RGB to the first level's channels.
    pub conv_in: CausalConv3d,
    /// The levels, finest first.
    pub down_blocks: Vec<DownBlock>,
    /// The middle block.
    pub mid_block: MidBlock,
    /// Norm before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// To mean and log-variance, `2 · latent_channels`.
    pub conv_out: CausalConv3d,
}

impl Encoder {
    pub(crate) fn new(config: &VaeConfig, device: &Device) -> Self {
        let channels = config.block_out_channels;
        let [first, .., last] = channels;
        let groups = config.norm_num_groups;
        let level = |i: usize| {
            let input = if i == 0 { first } else { channels[i - 1] };
            let resnet = ResnetBlockConfig::new([input, channels[i]], groups);
            DownBlock {
                resnets: resnet.init_level(config.layers_per_block, device),
                downsamplers: level_factor(i)
                    .map(|factor| [Downsampler::new(channels[i], factor, device)]),
            }
        };
        Self {
            conv_in: CausalConv3dConfig::new([RGB, first]).init(device),
            down_blocks: (0..LEVELS).map(level).collect(),
            mid_block: MidBlockConfig::new(last, groups).init(device),
            conv_norm_out: GroupNormConfig::new(groups, last).init(device),
            conv_out: CausalConv3dConfig::new([last, 2 * config.latent_channels]).init(device),
        }
    }

    /// Encodes a video.
    ///
    /// # Shapes
    /// - `video`: `[batch, 3, frames, height, width]`
    /// - output: `[batch, 2 · latent channels, frames/4, height/8, width/8]`, rounded up
    pub fn forward(&self, video: Tensor<5>) -> Tensor<5> {
        let x = self.conv_in.forward(video);
        let x = self.down_blocks.iter().fold(x, |x, block| block.forward(x));
        let x = self.mid_block.forward(x);
        self.conv_out.forward(self.conv_norm_out.forward_silu(x))
    }
}
