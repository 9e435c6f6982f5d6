//! The dual-stream block.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use burn_hunyuan_kernels::{RmsNorm, RmsNormConfig, add_gated, gelu_tanh, linear, modulated_norm};

use crate::{
    DitConfig, NORM_EPS,
    attention::{attend, split_heads},
    mlp::Mlp,
    modulation::{modulation, vectors},
    rope::Rope,
};

/// A block in which image and text tokens meet in attention and are otherwise processed by
/// weights of their own (the "dual-stream" phase of arXiv 2412.03603, section 4.2; MM-DiT of
/// arXiv 2403.03206).
#[derive(Module, Debug)]
pub struct DualBlock {
    /// The image tokens' half.
    pub image: Stream,
    /// The text tokens' half.
    pub text: Stream,
}

impl DualBlock {
    /// Creates the block.
    pub fn new(config: &DitConfig, device: &Device) -> Self {
        Self {
            image: Stream::new(config, device),
            text: Stream::new(config, device),
        }
    }

    /// The same block without the layers that modulate it: see
    /// [`Dit::without_modulation`](crate::Dit::without_modulation).
    pub fn without_modulation(mut self) -> Self {
        (self.image.modulation, self.text.modulation) = (None, None);
        self
    }

    /// Returns the updated image and text tokens.
    ///
    /// `lengths` are the tokens of each sample, image and real text, that attention may see.
    ///
    /// # Shapes
    /// - `image`: `[batch, image tokens, width]`
    /// - `text`: `[batch, text tokens, width]`
    /// - `vec`: `[batch, width]`
    pub fn forward(
        &self,
        image: Tensor<3>,
        text: Tensor<3>,
        vec: &Tensor<2>,
        rope: &Rope,
        lengths: &[usize],
    ) -> (Tensor<3>, Tensor<3>) {
        self.forward_modulated(image, text, self.modulation(vec), rope, lengths)
    }

    /// The modulation of image and then text tokens: `[batch, width]` to `[batch, 12 * width]`.
    ///
    /// # Panics
    /// Where the block [has none](crate::Dit::without_modulation).
    pub fn modulation(&self, vec: &Tensor<2>) -> Tensor<2> {
        let of = |stream: &Stream| {
            let layer = stream.modulation.as_ref();
            modulation(layer.expect("a block that modulates itself"), vec)
        };
        Tensor::cat(vec![of(&self.image), of(&self.text)], 1)
    }

    /// As [`forward`](Self::forward), by a [`modulation`](Self::modulation) computed before.
    pub fn forward_modulated(
        &self,
        image: Tensor<3>,
        text: Tensor<3>,
        modulation: Tensor<2>,
        rope: &Rope,
        lengths: &[usize],
    ) -> (Tensor<3>, Tensor<3>) {
        let (image_tokens, text_tokens) = (image.dims()[1], text.dims()[1]);
        let half = modulation.dims()[1] / 2;
        let image_modulation = vectors(modulation.clone().narrow(1, 0, half));
        let text_modulation = vectors(modulation.narrow(1, half, half));

        let [image_q, image_k, image_v] = self.image.qkv(image.clone(), &image_modulation);
        let [text_q, text_k, text_v] = self.text.qkv(text.clone(), &text_modulation);
        let q = rope.rotate(Tensor::cat(vec![image_q, text_q], 1)); // [batch, tokens, heads, d]
        let k = rope.rotate(Tensor::cat(vec![image_k, text_k], 1));
        let v = Tensor::cat(vec![image_v, text_v], 1);
        let attended = attend(q, k, v, lengths); // [batch, tokens, width]

        let to_image = attended.clone().narrow(1, 0, image_tokens);
        let to_text = attended.narrow(1, image_tokens, text_tokens);
        (
            self.image.update(image, to_image, &image_modulation),
            self.text.update(text, to_text, &text_modulation),
        )
    }
}

/// Shift, scale and gate of the attention, then of the MLP.
type Modulation = [Tensor<3>; 6];

/// One kind of tokens' half of a [`DualBlock`].
#[derive(Module, Debug)]
pub struct Stream {
    /// Conditioning vector to a modulation, unless that is computed elsewhere.
    pub modulation: Option<Linear>,
    /// Queries.
    pub q: Linear,
    /// Keys.
    pub k: Linear,
    /// Values.
    pub v: Linear,
    /// Norm of a head's query.
    pub q_norm: RmsNorm,
    /// Norm of a head's key.
    pub k_norm: RmsNorm,
    /// Attention's output.
    pub proj: Linear,
    /// The feed-forward part.
    pub mlp: Mlp,
    heads: usize,
}

impl Stream {
    fn new(config: &DitConfig, device: &Device) -> Self {
        let width = config.width();
        let layer = |out| LinearConfig::new(width, out).init(device);
        let norm = || RmsNormConfig::new(config.head_dim).init(device);
        Self {
            modulation: Some(layer(6 * width)),
            q: layer(width),
            k: layer(width),
            v: layer(width),
            q_norm: norm(),
            k_norm: norm(),
            proj: layer(width),
            mlp: Mlp::new([width, config.mlp_width(), width], device),
            heads: config.heads,
        }
    }

    /// Normalised queries and keys, and values: `[batch, tokens, heads, head_dim]`.
    fn qkv(&self, x: Tensor<3>, [shift, scale, ..]: &Modulation) -> [Tensor<4>; 3] {
        let x = modulated_norm(x, shift.clone(), scale.clone(), NORM_EPS);
        let heads = |layer: &Linear| split_heads(linear(layer, x.clone()), self.heads);
        [
            self.q_norm.forward(heads(&self.q)),
            self.k_norm.forward(heads(&self.k)),
            heads(&self.v),
        ]
    }

    /// Adds the attention's output, then the MLP's.
    fn update(&self, x: Tensor<3>, attended: Tensor<3>, modulation: &Modulation) -> Tensor<3> {
        let [_, _, gate, mlp_shift, mlp_scale, mlp_gate] = modulation.clone();
        let x = add_gated(x, linear(&self.proj, attended), gate);
        let hidden = modulated_norm(x.clone(), mlp_shift, mlp_scale, NORM_EPS);
        add_gated(x, self.mlp.forward(hidden, gelu_tanh), mlp_gate)
    }
}
