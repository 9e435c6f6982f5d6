//! The sizes of a diffusion transformer.

use burn::{
    config::Config,
    nn::{LinearConfig, conv::Conv3dConfig},
    tensor::Device,
};

use crate::{
    Dit, dual_block::DualBlock, embed::TIME_CHANNELS, final_layer::FinalLayer, mlp::Mlp,
    refiner::TextRefiner, single_block::SingleBlock,
};

/// Configuration of a [`Dit`]; the defaults are the official 13B model's.
///
/// arXiv 2412.03603, table 2; diffusers `HunyuanVideoTransformer3DModel`.
#[derive(Config, Debug, PartialEq)]
pub struct DitConfig {
    /// Channels of the noisy latents.
    #[config(default = 16)]
    pub in_channels: usize,
    /// Channels of the predicted velocity.
    #[config(default = 16)]
    pub out_channels: usize,
    /// Attention heads.
    #[config(default = 24)]
    pub heads: usize,
    /// Channels of a head; the width of the model is `heads * head_dim`.
    #[config(default = 128)]
    pub head_dim: usize,
    /// Dual-stream blocks: image and text tokens with weights of their own, joined in attention.
    #[config(default = 20)]
    pub dual_blocks: usize,
    /// Single-stream blocks: one sequence of image and text tokens.
    #[config(default = 40)]
    pub single_blocks: usize,
    /// Blocks of the text token refiner.
    #[config(default = 2)]
    pub refiner_blocks: usize,
    /// Hidden channels of the dual and single blocks' MLPs, in widths.
    #[config(default = 4.0)]
    pub mlp_ratio: f64,
    /// Latent values that make one token: frames, rows, columns.
    #[config(default = "[1, 2, 2]")]
    pub patch: [usize; 3],
    /// Whether the model takes a guidance scale (the guidance-distilled checkpoints do).
    #[config(default = true)]
    pub guidance: bool,
    /// Channels of the text states (LLaMA's width).
    #[config(default = 4096)]
    pub text_dim: usize,
    /// Channels of the pooled text (CLIP's width).
    #[config(default = 768)]
    pub pooled_dim: usize,
    /// Channels of a head that encode the position in time, height and width; their sum is
    /// `head_dim` and each is even.
    #[config(default = "[16, 56, 56]")]
    pub rope_axes: [usize; 3],
    /// Base of the rotary frequencies.
    #[config(default = 256.0)]
    pub rope_theta: f64,
}

impl DitConfig {
    /// Channels of a token.
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Hidden channels of the dual and single blocks' MLPs.
    pub fn mlp_width(&self) -> usize {
        (self.width() as f64 * self.mlp_ratio) as usize
    }

    /// Creates the model; a parameter is allocated when it is first used, unless it was loaded.
    pub fn init(&self, device: &Device) -> Dit {
        let (width, patch) = (self.width(), self.patch);
        let patch_len: usize = patch.iter().product();
        let time_mlp = || Mlp::new([TIME_CHANNELS, width, width], device);
        Dit {
            image_in: Conv3dConfig::new([self.in_channels, width], patch)
                .with_stride(patch)
                .init(device),
            time_in: time_mlp(),
            guidance_in: self.guidance.then(time_mlp),
            pooled_in: Mlp::new([self.pooled_dim, width, width], device),
            text_in: TextRefiner::new(self, device),
            dual_blocks: (0..self.dual_blocks)
                .map(|_| DualBlock::new(self, device))
                .collect(),
            single_blocks: (0..self.single_blocks)
                .map(|_| SingleBlock::new(self, device))
                .collect(),
            final_layer: FinalLayer {
                modulation: LinearConfig::new(width, 2 * width).init(device),
                proj: LinearConfig::new(width, patch_len * self.out_channels).init(device),
            },
            patch,
            rope_axes: self.rope_axes,
            rope_theta: self.rope_theta,
        }
    }
}
