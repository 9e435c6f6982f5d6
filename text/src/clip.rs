//! The text half of CLIP (arXiv 2103.00020).

use burn::{
    config::Config,
    module::Module,
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig},
    tensor::{Device, Int, Tensor, activation::gelu},
};
use burn_hunyuan_kernels::{LayerNorm, LayerNormConfig, attention_with_bias, gelu_sigmoid, linear};

use crate::mask::causal_bias;

/// Activation of the MLPs (`hidden_act` of the reference).
#[derive(Config, Debug, Copy, PartialEq)]
pub enum Activation {
    /// `x · sigmoid(1.702 x)`: OpenAI's CLIP.
    QuickGelu,
    /// `x · Φ(x)`.
    Gelu,
}

/// Configuration of a [`Clip`]. The defaults are CLIP-L (`clip-vit-large-patch14`).
#[derive(Config, Debug, PartialEq)]
pub struct ClipConfig {
    /// Rows of the token embedding.
    #[config(default = 49408)]
    pub vocabulary: usize,
    /// Rows of the position embedding: the longest sequence.
    #[config(default = 77)]
    pub positions: usize,
    /// Width of the states and of the pooled vector.
    #[config(default = 768)]
    pub hidden: usize,
    /// Width inside the MLP.
    #[config(default = 3072)]
    pub intermediate: usize,
    /// Number of layers.
    #[config(default = 12)]
    pub layers: usize,
    /// Number of attention heads; divides `hidden`.
    #[config(default = 12)]
    pub heads: usize,
    /// Activation of the MLPs.
    #[config(default = "Activation::QuickGelu")]
    pub activation: Activation,
    /// Added to the variance in the norms.
    #[config(default = 1e-5)]
    pub norm_eps: f64,
    /// Id of the token whose state is pooled, or 2.
    ///
    /// OpenAI's own configuration says 2, which is wrong, and the reference keeps what it did
    /// with it: it pools at the highest id, and the end token has the highest.
    #[config(default = 2)]
    pub eos_token: u32,
}

/// The text half of CLIP: the state of the end token.
///
/// Reference: `CLIPTextModel` of transformers, its `pooler_output` (no projection).
#[derive(Module, Debug)]
pub struct Clip {
    pub(crate) embeddings: ClipEmbeddings,
    encoder: ClipLayers,
    final_layer_norm: LayerNorm,
    eos_token: u32,
}

/// Embeddings of tokens and of positions, which are added.
#[derive(Module, Debug)]
pub(crate) struct ClipEmbeddings {
    pub(crate) token_embedding: Embedding,
    pub(crate) position_embedding: Embedding,
}

#[derive(Module, Debug)]
struct ClipLayers {
    layers: Vec<ClipLayer>,
}

/// A layer: attention and MLP, each after a norm and with a residual.
#[derive(Module, Debug)]
struct ClipLayer {
    layer_norm1: LayerNorm,
    self_attn: ClipAttention,
    layer_norm2: LayerNorm,
    mlp: ClipMlp,
}

#[derive(Module, Debug)]
struct ClipAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
}

#[derive(Module, Debug)]
struct ClipMlp {
    fc1: Linear,
    fc2: Linear,
    #[module(skip)]
    activation: Activation,
}

impl ClipConfig {
    /// Creates the module with random weights, which are not allocated before they are used.
    pub fn init(&self, device: &Device) -> Clip {
        Clip {
            embeddings: ClipEmbeddings {
                token_embedding: EmbeddingConfig::new(self.vocabulary, self.hidden).init(device),
                position_embedding: EmbeddingConfig::new(self.positions, self.hidden).init(device),
            },
            encoder: ClipLayers {
                layers: (0..self.layers).map(|_| self.init_layer(device)).collect(),
            },
            final_layer_norm: self.init_norm(device),
            eos_token: self.eos_token,
        }
    }

    fn init_layer(&self, device: &Device) -> ClipLayer {
        let layer = |d_in, d_out| LinearConfig::new(d_in, d_out).init(device);
        let projection = || layer(self.hidden, self.hidden);
        ClipLayer {
            layer_norm1: self.init_norm(device),
            self_attn: ClipAttention {
                q_proj: projection(),
                k_proj: projection(),
                v_proj: projection(),
                out_proj: projection(),
                heads: self.heads,
            },
            layer_norm2: self.init_norm(device),
            mlp: ClipMlp {
                fc1: layer(self.hidden, self.intermediate),
                fc2: layer(self.intermediate, self.hidden),
                activation: self.activation,
            },
        }
    }

    fn init_norm(&self, device: &Device) -> LayerNorm {
        LayerNormConfig::new(self.hidden)
            .with_eps(self.norm_eps)
            .init(device)
    }
}

impl Clip {
    /// The state of each sequence's first end token after the final norm.
    ///
    /// Padding needs no mask: it stands after the end token, which is causal.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, tokens]`
    /// - output: `[batch, hidden]`, in the weights' dtype
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let [batch, count] = tokens.dims();
        let bias = causal_bias(count, &tokens.device());
        let mut x = self.embeddings.forward(tokens.clone()); // [batch, tokens, hidden]
        for layer in &self.encoder.layers {
            x = layer.forward(x, &bias);
        }
        let hidden = x.dims()[2];
        let end = self.end_position(tokens).expand([batch, 1, hidden]);
        self.final_layer_norm
            .forward(x.gather(1, end))
            .squeeze_dim(1)
    }

    /// Index of each sequence's first end token, `[batch, 1, 1]`.
    fn end_position(&self, tokens: Tensor<2, Int>) -> Tensor<3, Int> {
        let count = tokens.dims()[1] as i64;
        let options = (&tokens.device(), tokens.dtype());
        let rank = match self.eos_token {
            2 => tokens,
            eos => tokens.equal_elem(eos).int().cast(options.1),
        };
        // Backends differ in which of several largest values they return: make the first largest.
        let earliness = Tensor::<1, Int>::arange(0..count, options).neg() + (count - 1);
        let rank = rank * count + earliness.unsqueeze();
        rank.argmax(1).unsqueeze_dim(2)
    }
}

impl ClipEmbeddings {
    fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let count = tokens.dims()[1];
        let positions = self.position_embedding.weight.val().narrow(0, 0, count);
        self.token_embedding.forward(tokens) + positions.unsqueeze()
    }
}

impl ClipLayer {
    fn forward(&self, x: Tensor<3>, bias: &Tensor<4>) -> Tensor<3> {
        let normal = self.layer_norm1.forward(x.clone());
        let x = x + self.self_attn.forward(normal, bias);
        let transformed = self.mlp.forward(self.layer_norm2.forward(x.clone()));
        x + transformed
    }
}

impl ClipAttention {
    fn forward(&self, x: Tensor<3>, bias: &Tensor<4>) -> Tensor<3> {
        let [batch, tokens, hidden] = x.dims();
        let split = |x: Tensor<3>| {
            x.reshape([batch, tokens, self.heads, hidden / self.heads])
                .swap_dims(1, 2)
        };
        let q = split(linear(&self.q_proj, x.clone())); // [batch, heads, tokens, d]
        let k = split(linear(&self.k_proj, x.clone()));
        let v = split(linear(&self.v_proj, x));
        let out = attention_with_bias(q, k, v, bias.clone());
        let out = out.swap_dims(1, 2).reshape([batch, tokens, hidden]);
        linear(&self.out_proj, out)
    }
}

impl ClipMlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = linear(&self.fc1, x);
        let x = match self.activation {
            Activation::QuickGelu => gelu_sigmoid(x),
            Activation::Gelu => gelu(x),
        };
        linear(&self.fc2, x)
    }
}
