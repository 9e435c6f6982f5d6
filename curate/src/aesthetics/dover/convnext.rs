//! ConvNeXt-Tiny (arXiv 2201.03545) with kernels that also reach over time: the aesthetic network.

use burn::{
    config::Config,
    module::{Module, Param, ParamId},
    nn::{
        LayerNorm, LayerNormConfig, Linear, LinearConfig, PaddingConfig3d,
        conv::{Conv3d, Conv3dConfig},
    },
    tensor::{DType, Device, Tensor, activation::gelu},
};

/// Frames that a kernel spans, for the blocks of a stage in turn.
const SPANS: [usize; 3] = [1, 3, 1];

/// Sizes of a [`ConvNext`]. The defaults are ConvNeXt-Tiny's.
#[derive(Config, Debug, PartialEq)]
pub struct ConvNextConfig {
    /// Blocks of each stage.
    #[config(default = "[3, 3, 9, 3]")]
    pub blocks: [usize; 4],
    /// Channels of each stage.
    #[config(default = "[96, 192, 384, 768]")]
    pub channels: [usize; 4],
}

/// The network: four stages, each at half the size of the one before.
#[derive(Module, Debug)]
pub struct ConvNext {
    downsample_layers: Vec<Downsample>,
    stages: Vec<Vec<Block>>,
    norm: LayerNorm,
}

/// Fewer places, more channels. The first is normalised after it, the others before.
#[derive(Module, Debug)]
struct Downsample {
    conv: Conv3d,
    norm: LayerNorm,
    is_first: bool,
}

/// Depthwise convolution and perceptron, scaled and added to the input.
#[derive(Module, Debug)]
struct Block {
    dwconv: Conv3d,
    norm: LayerNorm,
    pwconv1: Linear,
    pwconv2: Linear,
    gamma: Param<Tensor<1>>,
}

/// The name in our module of a tensor of the reference's file: the reference numbers the two layers
/// of a downsampling instead of naming them.
pub(super) fn module_name(name: &str) -> String {
    let first = ".downsample_layers.0.";
    let named = name
        .replace(&format!("{first}0."), &format!("{first}conv."))
        .replace(&format!("{first}1."), &format!("{first}norm."));
    (1..4).fold(named, |name, stage| {
        let layer = format!(".downsample_layers.{stage}.");
        name.replace(&format!("{layer}0."), &format!("{layer}norm."))
            .replace(&format!("{layer}1."), &format!("{layer}conv."))
    })
}

impl ConvNextConfig {
    /// Channels of the features.
    pub fn features(&self) -> usize {
        self.channels[3]
    }

    /// Creates the module with random weights, which are not allocated before they are used.
    pub fn init(&self, device: &Device) -> ConvNext {
        let norm = |channels| {
            LayerNormConfig::new(channels)
                .with_epsilon(1e-6)
                .init(device)
        };
        let downsample = |stage: usize| {
            let [from, to] = match stage {
                0 => [3, self.channels[0]],
                _ => [self.channels[stage - 1], self.channels[stage]],
            };
            let stride = if stage == 0 { [2, 4, 4] } else { [1, 2, 2] };
            Downsample {
                conv: Conv3dConfig::new([from, to], stride)
                    .with_stride(stride)
                    .init(device),
                norm: norm(if stage == 0 { to } else { from }),
                is_first: stage == 0,
            }
        };
        let block = |channels: usize, span: usize| Block {
            dwconv: Conv3dConfig::new([channels, channels], [span, 7, 7])
                .with_padding(PaddingConfig3d::Explicit(span / 2, 3, 3))
                .with_groups(channels)
                .init(device),
            norm: norm(channels),
            pwconv1: LinearConfig::new(channels, 4 * channels).init(device),
            pwconv2: LinearConfig::new(4 * channels, channels).init(device),
            gamma: Param::uninitialized(
                ParamId::new(),
                move |device, require_grad| {
                    Tensor::full([channels], 1e-6, (device, DType::F32))
                        .set_require_grad(require_grad)
                },
                device.clone(),
                true,
                [channels].into(),
            ),
        };
        let stage = |stage: usize| {
            let spans = SPANS.iter().cycle().take(self.blocks[stage]);
            spans
                .map(|&span| block(self.channels[stage], span))
                .collect()
        };
        ConvNext {
            downsample_layers: (0..4).map(downsample).collect(),
            stages: (0..4).map(stage).collect(),
            norm: norm(self.features()),
        }
    }
}

impl ConvNext {
    /// The features of clips.
    ///
    /// # Shapes
    /// - `x`: `[clips, 3, frames, height, width]`, frames even, sides multiples of 32
    /// - output: `[clips, features, frames / 2, height / 32, width / 32]`
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let mut x = x;
        for (downsample, blocks) in self.downsample_layers.iter().zip(&self.stages) {
            x = downsample.forward(x);
            for block in blocks {
                x = block.forward(x);
            }
        }
        over_channels(x, |x| self.norm.forward(x))
    }
}

impl Downsample {
    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let norm = |x| over_channels(x, |x| self.norm.forward(x));
        if self.is_first {
            norm(self.conv.forward(x))
        } else {
            self.conv.forward(norm(x))
        }
    }
}

impl Block {
    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let change = over_channels(self.dwconv.forward(x.clone()), |x| {
            let x = self.pwconv1.forward(self.norm.forward(x));
            self.pwconv2.forward(gelu(x)) * self.gamma.val().unsqueeze()
        });
        x + change
    }
}

/// Does something with the channels as the last axis.
fn over_channels(x: Tensor<5>, f: impl Fn(Tensor<5>) -> Tensor<5>) -> Tensor<5> {
    f(x.permute([0, 2, 3, 4, 1])).permute([0, 4, 1, 2, 3])
}

#[cfg(test)]
mod tests {
    use super::module_name;

    #[test]
    fn numbered_layers_are_named() {
        for (theirs, ours) in [
            (
                "b.downsample_layers.0.0.bias",
                "b.downsample_layers.0.conv.bias",
            ),
            (
                "b.downsample_layers.0.1.bias",
                "b.downsample_layers.0.norm.bias",
            ),
            (
                "b.downsample_layers.3.0.bias",
                "b.downsample_layers.3.norm.bias",
            ),
            (
                "b.downsample_layers.2.1.bias",
                "b.downsample_layers.2.conv.bias",
            ),
            ("b.stages.0.1.gamma", "b.stages.0.1.gamma"),
        ] {
            assert_eq!(module_name(theirs), ours);
        }
    }
}
