//! Swin-Tiny over time (arXiv 2106.13230) with gated relative position biases (FAST-VQA, arXiv
//! 2207.02595): the technical network.

use burn::{
    config::Config,
    module::{Module, Param, ParamId},
    nn::{
        LayerNorm, LayerNormConfig, Linear, LinearConfig,
        conv::{Conv3d, Conv3dConfig},
    },
    tensor::{
        DType, Device, Int, Tensor,
        activation::{gelu, softmax},
    },
};

use super::windows::{Windows, relative_rows};

/// Frames, rows and columns of a patch.
const PATCH: [usize; 3] = [2, 4, 4];

/// Sizes of a [`Swin`]. The defaults are the reference's.
#[derive(Config, Debug, PartialEq)]
pub struct SwinConfig {
    /// Channels of the first stage; they double from stage to stage.
    #[config(default = 96)]
    pub channels: usize,
    /// Blocks of each stage.
    #[config(default = "vec![2, 2, 6, 2]")]
    pub blocks: Vec<usize>,
    /// Attention heads of each stage.
    #[config(default = "vec![3, 6, 12, 24]")]
    pub heads: Vec<usize>,
    /// Frames, rows and columns of a window.
    #[config(default = "[8, 7, 7]")]
    pub window: [usize; 3],
    /// Stages from the first on whose position biases know fragments.
    #[config(default = 3)]
    pub gated: usize,
}

/// The network.
#[derive(Module, Debug)]
pub struct Swin {
    patch_embed: PatchEmbed,
    layers: Vec<Stage>,
    norm: LayerNorm,
}

#[derive(Module, Debug)]
struct PatchEmbed {
    proj: Conv3d,
    norm: LayerNorm,
}

/// Blocks, then half the rows and columns and twice the channels, except in the last.
#[derive(Module, Debug)]
struct Stage {
    blocks: Vec<Block>,
    downsample: Option<Merging>,
    window: [usize; 3],
}

/// A block: attention within windows and MLP, each after a norm and with a residual.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attn: Attention,
    norm2: LayerNorm,
    mlp: Mlp,
}

#[derive(Module, Debug)]
struct Attention {
    relative_position_bias_table: Param<Tensor<2>>,
    fragment_position_bias_table: Option<Param<Tensor<2>>>,
    qkv: Linear,
    proj: Linear,
    heads: usize,
}

#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

#[derive(Module, Debug)]
struct Merging {
    norm: LayerNorm,
    reduction: Linear,
}

impl SwinConfig {
    /// Channels of the features.
    pub fn features(&self) -> usize {
        self.channels << (self.blocks.len() - 1)
    }

    /// Creates the module with random weights, which are not allocated before they are used.
    pub fn init(&self, device: &Device) -> Swin {
        let norm = |channels| LayerNormConfig::new(channels).init(device);
        let stage = |stage: usize| {
            let channels = self.channels << stage;
            let is_last = stage + 1 == self.blocks.len();
            Stage {
                blocks: (0..self.blocks[stage])
                    .map(|_| self.init_block(stage, device))
                    .collect(),
                downsample: (!is_last).then(|| Merging {
                    norm: norm(4 * channels),
                    reduction: LinearConfig::new(4 * channels, 2 * channels)
                        .with_bias(false)
                        .init(device),
                }),
                window: self.window,
            }
        };
        Swin {
            patch_embed: PatchEmbed {
                proj: Conv3dConfig::new([3, self.channels], PATCH)
                    .with_stride(PATCH)
                    .init(device),
                norm: norm(self.channels),
            },
            layers: (0..self.blocks.len()).map(stage).collect(),
            norm: norm(self.features()),
        }
    }

    fn init_block(&self, stage: usize, device: &Device) -> Block {
        let channels = self.channels << stage;
        let heads = self.heads[stage];
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let rows = self.window.iter().map(|extent| 2 * extent - 1).product();
        let table = || {
            Param::uninitialized(
                ParamId::new(),
                move |device, require_grad| {
                    Tensor::zeros([rows, heads], (device, DType::F32))
                        .set_require_grad(require_grad)
                },
                device.clone(),
                true,
                [rows, heads].into(),
            )
        };
        Block {
            norm1: LayerNormConfig::new(channels).init(device),
            attn: Attention {
                relative_position_bias_table: table(),
                fragment_position_bias_table: (stage < self.gated).then(table),
                qkv: linear(channels, 3 * channels),
                proj: linear(channels, channels),
                heads,
            },
            norm2: LayerNormConfig::new(channels).init(device),
            mlp: Mlp {
                fc1: linear(channels, 4 * channels),
                fc2: linear(4 * channels, channels),
            },
        }
    }
}

impl Swin {
    /// The features of clips, one clip after the other: the biases of a layer are large.
    ///
    /// # Shapes
    /// - `x`: `[clips, 3, frames, height, width]`, such that windows divide the patches and, before
    ///   each stage but the first, the rows and columns are even
    /// - output: `[clips, features, frames / 2, height / 32, width / 32]`, in the published size
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let clips = x.dims()[0];
        let features = (0..clips).map(|clip| self.features(x.clone().narrow(0, clip, 1)));
        Tensor::cat(features.collect(), 0)
    }

    fn features(&self, x: Tensor<5>) -> Tensor<5> {
        let patches = self.patch_embed.proj.forward(x);
        let mut x = patches.permute([0, 2, 3, 4, 1]); // [1, time, rows, columns, channels]
        x = self.patch_embed.norm.forward(x);
        for stage in &self.layers {
            x = stage.forward(x);
        }
        self.norm.forward(x).permute([0, 4, 1, 2, 3])
    }
}

impl Stage {
    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [_, time, rows, columns, _] = x.dims();
        // Every other block has its windows shifted.
        let geometry = [false, true].map(|is_shifted| {
            let windows = Windows::new([time, rows, columns], self.window, is_shifted);
            Geometry::new(windows, self.window, &x.device())
        });
        let blocks = self.blocks.iter().zip(geometry.iter().cycle());
        let x = blocks.fold(x, |x, (block, geometry)| block.forward(x, geometry));
        match &self.downsample {
            Some(downsample) => downsample.forward(x),
            None => x,
        }
    }
}

/// What the blocks of a stage need to know of where tokens are.
struct Geometry {
    windows: Windows,
    relative: Tensor<1, Int>,
    fragments_between: Tensor<4>,
    mask: Option<Tensor<4>>,
}

impl Geometry {
    fn new(windows: Windows, window: [usize; 3], device: &Device) -> Self {
        Self {
            windows,
            relative: relative_rows(window, windows.tokens(), device),
            fragments_between: windows.fragments_between(device),
            mask: windows.mask(device),
        }
    }
}

impl Block {
    fn forward(&self, x: Tensor<5>, geometry: &Geometry) -> Tensor<5> {
        let windows = geometry.windows.split(self.norm1.forward(x.clone()));
        let attended = self.attn.forward(windows, geometry);
        let x = x + geometry.windows.join(attended);
        let hidden = gelu(self.mlp.fc1.forward(self.norm2.forward(x.clone())));
        x + self.mlp.fc2.forward(hidden)
    }
}

impl Attention {
    /// Attends within each window: `[windows, tokens, channels]` to the same shape.
    fn forward(&self, x: Tensor<3>, geometry: &Geometry) -> Tensor<3> {
        let [windows, tokens, channels] = x.dims();
        let size = channels / self.heads;
        let qkv = self
            .qkv
            .forward(x)
            .reshape([windows, tokens, 3, self.heads, size])
            .permute([2, 0, 3, 1, 4]); // [3, windows, heads, tokens, size]
        let part = |part| qkv.clone().narrow(0, part, 1).squeeze_dim::<4>(0);
        let [q, k, v] = [part(0), part(1), part(2)];
        let scores = q * (size as f64).powf(-0.5);
        let scores = scores.matmul(k.swap_dims(2, 3)) + self.bias(geometry);
        let scores = match &geometry.mask {
            Some(mask) => scores + mask.clone(),
            None => scores,
        };
        let out = softmax(scores, 3).matmul(v);
        self.proj
            .forward(out.swap_dims(1, 2).reshape([windows, tokens, channels]))
    }

    /// The bias of each pair of tokens by their relative position, `[windows or 1, heads, tokens,
    /// tokens]`. A gated one mixes two tables by the number of fragments between the tokens; it is
    /// a count, not a yes or no, in the reference too.
    fn bias(&self, geometry: &Geometry) -> Tensor<4> {
        let tokens = geometry.windows.tokens();
        let bias = |table: &Param<Tensor<2>>| {
            table
                .val()
                .select(0, geometry.relative.clone())
                .swap_dims(0, 1)
                .reshape([1, self.heads, tokens, tokens])
        };
        let across = bias(&self.relative_position_bias_table);
        match &self.fragment_position_bias_table {
            None => across,
            Some(table) => {
                let within = bias(table);
                within.clone() + (across - within) * geometry.fragments_between.clone()
            }
        }
    }
}

impl Merging {
    /// Four neighbouring tokens become one.
    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [batch, time, rows, columns, channels] = x.dims();
        let x = x
            .reshape([batch, time, rows / 2, 2, columns / 2, 2, channels])
            .permute([0, 1, 2, 4, 5, 3, 6])
            .reshape([batch, time, rows / 2, columns / 2, 4 * channels]);
        self.reduction.forward(self.norm.forward(x))
    }
}
