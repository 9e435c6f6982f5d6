//! The residual block that both halves of the VAE are built from.

use burn::{
    config::Config,
    module::Module,
    tensor::{Device, Tensor},
};
use burn_hunyuan_kernels::{GroupNorm, GroupNormConfig};

use crate::conv::{CausalConv3d, CausalConv3dConfig};

/// Configuration of a [`ResnetBlock`].
#[derive(Config, Debug)]
pub struct ResnetBlockConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Groups of the group norms.
    pub norm_num_groups: usize,
}

/// `shortcut(x) + conv2(silu(norm2(conv1(silu(norm1(x))))))`.
///
/// diffusers' `HunyuanVideoResnetBlockCausal3D`.
#[derive(Module, Debug)]
pub struct ResnetBlock {
    /// Norm of the input.
    pub norm1: GroupNorm,
    /// To the output's channels.
    pub conv1: CausalConv3d,
    /// Norm of the hidden state.
    pub norm2: GroupNorm,
    /// On the output's channels.
    pub conv2: CausalConv3d,
    /// 1×1×1 projection of the residual where the channels change.
    pub conv_shortcut: Option<CausalConv3d>,
}

impl ResnetBlockConfig {
    /// Creates the block.
    pub fn init(&self, device: &Device) -> ResnetBlock {
        let [input, output] = self.channels;
        let norm = |channels| GroupNormConfig::new(self.norm_num_groups, channels).init(device);
        ResnetBlock {
            norm1: norm(input),
            conv1: CausalConv3dConfig::new([input, output]).init(device),
            norm2: norm(output),
            conv2: CausalConv3dConfig::new([output, output]).init(device),
            conv_shortcut: (input != output).then(|| {
                CausalConv3dConfig::new([input, output])
                    .with_kernel_size(1)
                    .init(device)
            }),
        }
    }

    /// A level's `count` blocks: the first changes the channels, the others keep them.
    pub(crate) fn init_level(&self, count: usize, device: &Device) -> Vec<ResnetBlock> {
        let [_, output] = self.channels;
        let rest = Self::new([output, output], self.norm_num_groups);
        let first = std::iter::once(self);
        first
            .chain(std::iter::repeat(&rest))
            .take(count)
            .map(|config| config.init(device))
            .collect()
    }
}

impl ResnetBlock {
    /// Applies the block.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels in, frames, height, width]`
    /// - output: `[batch, channels out, frames, height, width]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let h = self.conv1.forward(self.norm1.forward_silu(x.clone()));
        let h = self.conv2.forward(self.norm2.forward_silu(h));
        let residual = match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward(x),
            None => x,
        };
        h + residual
    }
}
