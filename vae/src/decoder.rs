//! From latents to video.

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

/// Nearest-neighbour up-sampling followed by a causal convolution. In time the first frame stays
/// single: `n` frames become `factor · (n − 1) + 1`.
///
/// diffusers' `HunyuanVideoUpsampleCausal3D`.
#[derive(Module, Debug)]
pub struct Upsampler {
    /// The convolution after the up-sampling.
    pub conv: CausalConv3d,
    /// What multiplies frames, height and width.
    pub factor: [usize; 3],
}

impl Upsampler {
    /// Creates the layer; `factor` multiplies frames, height and width.
    pub fn new(channels: usize, factor: [usize; 3], device: &Device) -> Self {
        let conv = CausalConv3dConfig::new([channels, channels]).init(device);
        Self { conv, factor }
    }

    /// `[batch, channels, frames, height, width]` to the same, larger.
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.conv.forward(upsample_nearest(x, self.factor))
    }
}

/// Repeats every value `factor` times along (time, height, width), the first frame once in time.
fn upsample_nearest(x: Tensor<5>, factor: [usize; 3]) -> Tensor<5> {
    let [batch, channels, frames, height, width] = x.dims();
    let [ft, fh, fw] = factor;
    let planes = batch * channels * frames;
    let x = x
        .reshape([planes, 1, height, 1, width, 1])
        .expand([planes, ft, height, fh, width, fw])
        .reshape([batch, channels, frames * ft, height * fh, width * fw]);
    // Of the first frame's repetitions only the last stays.
    x.narrow(2, ft - 1, ft * (frames - 1) + 1)
}

/// One resolution level of the decoder.
///
/// diffusers' `HunyuanVideoUpBlock3D`.
#[derive(Module, Debug)]
pub struct UpBlock {
    /// The residual blocks, one more than in the encoder's levels.
    pub resnets: Vec<ResnetBlock>,
    /// The step to the next level, absent from the last one.
    pub upsamplers: Option<[Upsampler; 1]>,
}

impl UpBlock {
    /// Applies the residual blocks, then the up-sampling.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels in, frames, height, width]`
    /// - output: `[batch, channels out, frames', height', width']`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let x = self.resnets.iter().fold(x, |x, resnet| resnet.forward(x));
        match &self.upsamplers {
            Some([upsampler]) => upsampler.forward(x),
            None => x,
        }
    }
}

/// The decoder: the middle block, then residual levels at rising resolution.
///
/// diffusers' `HunyuanVideoDecoder3D`.
#[derive(Module, Debug)]
pub struct Decoder {
    /// From latents to the coarsest level's channels.
    pub conv_in: CausalConv3d,
    /// The levels, coarsest first.
    pub up_blocks: Vec<UpBlock>,
    /// The middle block.
    pub mid_block: MidBlock,
    /// Norm before the last convolution.
    pub conv_norm_out: GroupNorm,
    /// To RGB.
    pub conv_out: CausalConv3d,
}

impl Decoder {
    pub(crate) fn new(config: &VaeConfig, device: &Device) -> Self {
        let mut channels = config.block_out_channels;
        channels.reverse();
        let [first, .., last] = channels;
        let groups = config.norm_num_groups;
        let level = |i: usize| {
            let input = if i == 0 { first } else { channels[i - 1] };
            let resnet = ResnetBlockConfig::new([input, channels[i]], groups);
            UpBlock {
                resnets: resnet.init_level(config.layers_per_block + 1, device),
                upsamplers: level_factor(i)
                    .map(|factor| [Upsampler::new(channels[i], factor, device)]),
            }
        };
        Self {
            conv_in: CausalConv3dConfig::new([config.latent_channels, first]).init(device),
            up_blocks: (0..LEVELS).map(level).collect(),
            mid_block: MidBlockConfig::new(first, groups).init(device),
            conv_norm_out: GroupNormConfig::new(groups, last).init(device),
            conv_out: CausalConv3dConfig::new([last, RGB]).init(device),
        }
    }

    /// Decodes latents.
    ///
    /// # Shapes
    /// - `latents`: `[batch, latent channels, frames, height, width]`
    /// - output: `[batch, 3, 4 · (frames − 1) + 1, 8 · height, 8 · width]`
    pub fn forward(&self, latents: Tensor<5>) -> Tensor<5> {
        let x = self.mid_block.forward(self.conv_in.forward(latents));
        let x = self.up_blocks.iter().fold(x, |x, block| block.forward(x));
        self.conv_out.forward(self.conv_norm_out.forward_silu(x))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::DType;

    #[test]
    fn the_first_frame_is_not_repeated_in_time() {
        let device = Device::flex();
        let x = Tensor::<1>::from_data([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], (&device, DType::F32));
        let x = x.reshape([1, 1, 3, 1, 2]);
        let up = upsample_nearest(x.clone(), [2, 1, 2]);
        assert_eq!(up.dims(), [1, 1, 5, 1, 4]);
        up.flatten::<1>(0, 4).into_data().assert_eq(
            &[
                1., 1., 2., 2., 3., 3., 4., 4., 3., 3., 4., 4., 5., 5., 6., 6., 5., 5., 6., 6.,
            ]
            .into(),
            false,
        );
        let image = upsample_nearest(x.narrow(2, 0, 1), [2, 2, 1]);
        image
            .flatten::<1>(0, 4)
            .into_data()
            .assert_eq(&[1., 2., 1., 2.].into(), false);
    }
}
