//! The image half of CLIP (arXiv 2103.00020).

use std::path::Path;

use burn::{
    config::Config,
    module::{Module, Param, ParamId},
    nn::{
        Embedding, EmbeddingConfig, LayerNorm, LayerNormConfig, Linear, LinearConfig,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{
        DType, Device, Distribution, Tensor, TensorData, activation::sigmoid, module::attention,
        ops::AttentionModuleOptions,
    },
};
use image::RgbImage;

use super::{openai, resize::bicubic, weights};
use crate::{
    Result,
    embedding::{normalize, to_f32},
};

/// Mean and standard deviation of the channels of CLIP's training pictures, from 0 to 1.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// Sizes of a [`Clip`]. The defaults are ViT-L/14 (`openai/clip-vit-large-patch14`).
#[derive(Config, Debug, PartialEq)]
pub struct ClipConfig {
    /// Width and height of a picture.
    #[config(default = 224)]
    pub picture: usize,
    /// Width and height of a patch; divides `picture`.
    #[config(default = 14)]
    pub patch: usize,
    /// Width of the states.
    #[config(default = 1024)]
    pub hidden: usize,
    /// Width inside the MLP.
    #[config(default = 4096)]
    pub intermediate: usize,
    /// Number of layers.
    #[config(default = 24)]
    pub layers: usize,
    /// Number of attention heads; divides `hidden`.
    #[config(default = 16)]
    pub heads: usize,
    /// Width of the features.
    #[config(default = 768)]
    pub projection: usize,
}

/// The image half of CLIP: a picture's features.
///
/// Its fields have the names of transformers' `CLIPModel`, whose `get_image_features` it is.
#[derive(Module, Debug)]
pub struct Clip {
    vision_model: Vision,
    visual_projection: Linear,
}

#[derive(Module, Debug)]
struct Vision {
    embeddings: Embeddings,
    pre_layrnorm: LayerNorm, // the reference's spelling
    encoder: Encoder,
    post_layernorm: LayerNorm,
}

/// Patches as tokens behind a class token, and where each stands.
#[derive(Module, Debug)]
struct Embeddings {
    class_embedding: Param<Tensor<1>>,
    patch_embedding: Conv2d,
    position_embedding: Embedding,
}

#[derive(Module, Debug)]
struct Encoder {
    layers: Vec<Layer>,
}

/// A layer: attention and MLP, each after a norm and with a residual.
#[derive(Module, Debug)]
struct Layer {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
}

#[derive(Module, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

#[derive(Module, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
}

impl ClipConfig {
    /// Creates the module with random weights, which are not allocated before they are used.
    pub fn init(&self, device: &Device) -> Clip {
        let norm = || LayerNormConfig::new(self.hidden).init(device);
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let layer = || Layer {
            layer_norm1: norm(),
            self_attn: Attention {
                q_proj: linear(self.hidden, self.hidden),
                k_proj: linear(self.hidden, self.hidden),
                v_proj: linear(self.hidden, self.hidden),
                out_proj: linear(self.hidden, self.hidden),
                heads: self.heads,
            },
            layer_norm2: norm(),
            mlp: Mlp {
                fc1: linear(self.hidden, self.intermediate),
                fc2: linear(self.intermediate, self.hidden),
            },
        };
        let vision_model = Vision {
            embeddings: self.init_embeddings(device),
            pre_layrnorm: norm(),
            encoder: Encoder {
                layers: (0..self.layers).map(|_| layer()).collect(),
            },
            post_layernorm: norm(),
        };
        Clip {
            vision_model,
            visual_projection: LinearConfig::new(self.hidden, self.projection)
                .with_bias(false)
                .init(device),
        }
    }

    fn init_embeddings(&self, device: &Device) -> Embeddings {
        let hidden = self.hidden;
        let class_embedding = Param::uninitialized(
            ParamId::new(),
            move |device, require_grad| {
                Tensor::random([hidden], Distribution::Default, (device, DType::F32))
                    .set_require_grad(require_grad)
            },
            device.clone(),
            true,
            [hidden].into(),
        );
        let positions = (self.picture / self.patch).pow(2) + 1;
        Embeddings {
            class_embedding,
            patch_embedding: Conv2dConfig::new([3, hidden], [self.patch, self.patch])
                .with_stride([self.patch, self.patch])
                .with_bias(false)
                .init(device),
            position_embedding: EmbeddingConfig::new(positions, hidden).init(device),
        }
    }
}

impl Clip {
    /// The features of pictures.
    ///
    /// # Shapes
    /// - `pictures`: `[batch, 3, picture, picture]`, as [`prepare`] makes them
    /// - output: `[batch, projection]`, of any length
    pub fn forward(&self, pictures: Tensor<4>) -> Tensor<2> {
        let vision = &self.vision_model;
        let mut x = vision
            .pre_layrnorm
            .forward(vision.embeddings.forward(pictures)); // [batch, tokens, hidden]
        for layer in &vision.encoder.layers {
            x = layer.forward(x);
        }
        let class = x.narrow(1, 0, 1).squeeze_dim(1); // [batch, hidden]
        self.visual_projection
            .forward(vision.post_layernorm.forward(class))
    }
}

impl Embeddings {
    fn forward(&self, pictures: Tensor<4>) -> Tensor<3> {
        let patches = self.patch_embedding.forward(pictures); // [batch, hidden, rows, columns]
        let patches = patches.flatten::<3>(2, 3).swap_dims(1, 2);
        let [batch, _, hidden] = patches.dims();
        let class = self.class_embedding.val().reshape([1, 1, hidden]);
        let tokens = Tensor::cat(vec![class.expand([batch, 1, hidden]), patches], 1);
        tokens + self.position_embedding.weight.val().unsqueeze()
    }
}

impl Layer {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let attended = self.self_attn.forward(self.layer_norm1.forward(x.clone()));
        let x = x + attended;
        let transformed = self.mlp.forward(self.layer_norm2.forward(x.clone()));
        x + transformed
    }
}

impl Attention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, hidden] = x.dims();
        let split = |x: Tensor<3>| {
            x.reshape([batch, tokens, self.heads, hidden / self.heads])
                .swap_dims(1, 2)
        };
        let q = split(self.q_proj.forward(x.clone())); // [batch, heads, tokens, d]
        let k = split(self.k_proj.forward(x.clone()));
        let v = split(self.v_proj.forward(x));
        let out = attention(q, k, v, None, None, AttentionModuleOptions::default());
        self.out_proj
            .forward(out.swap_dims(1, 2).reshape([batch, tokens, hidden]))
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = self.fc1.forward(x);
        self.fc2.forward(x.clone() * sigmoid(x * 1.702)) // OpenAI's "quick" GELU
    }
}

/// Pictures as CLIP sees them, as transformers' `CLIPImageProcessor` makes them: the short side
/// scaled to `size`, the middle cut out, channels normalised.
///
/// Output: `[batch, 3, size, size]`.
pub fn prepare(pictures: &[&RgbImage], size: u32, device: &Device) -> Tensor<4> {
    let side = size as usize;
    let mut values = Vec::with_capacity(pictures.len() * 3 * side * side);
    for picture in pictures {
        let (width, height) = picture.dimensions();
        let short = u64::from(width.min(height));
        let scaled = |extent: u32| (u64::from(size) * u64::from(extent) / short) as u32;
        let picture = bicubic(picture, scaled(width), scaled(height));
        let left = (picture.width() - size) / 2;
        let top = (picture.height() - size) / 2;
        for channel in 0..3 {
            for y in 0..size {
                values.extend((0..size).map(|x| {
                    let value = picture.get_pixel(left + x, top + y)[channel];
                    (f32::from(value) / 255.0 - MEAN[channel]) / DEVIATION[channel]
                }));
            }
        }
    }
    let data = TensorData::new(values, [pictures.len(), 3, side, side]);
    Tensor::from_data(data, (device, DType::F32))
}

/// A [`Clip`] with its weights.
#[derive(Debug)]
pub struct ClipEncoder {
    clip: Clip,
    size: u32,
    width: usize,
    device: Device,
}

impl ClipEncoder {
    /// Loads ViT-L/14.
    ///
    /// # Errors
    /// When the file cannot be read, or a tensor is missing or has another shape.
    pub fn open(path: &Path, device: &Device) -> Result<Self> {
        Self::open_as(&ClipConfig::new(), path, device)
    }

    /// Loads a model of other sizes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_as(config: &ClipConfig, path: &Path, device: &Device) -> Result<Self> {
        let tensors = openai::renamed(weights::open(path)?, path)?;
        Ok(Self {
            clip: weights::fill(config.init(device), tensors, path)?,
            size: config.picture as u32,
            width: config.projection,
            device: device.clone(),
        })
    }

    /// Values in a picture's features.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The features of pictures, each of length one, one after the other.
    pub fn encode(&self, pictures: &[&RgbImage]) -> Vec<f32> {
        let pictures = prepare(pictures, self.size, &self.device);
        let mut features = to_f32(self.clip.forward(pictures));
        features.chunks_exact_mut(self.width).for_each(normalize);
        features
    }
}
