//! The LLaMA-3 decoder (arXiv 2407.21783) as an encoder: its layers without head and final norm.

use std::{borrow::Cow, convert::Infallible};

use burn::{
    config::Config,
    module::Module,
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig},
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use burn_hunyuan_kernels::{RmsNorm, RmsNormConfig, attention_with_bias, linear, silu};

use crate::mask::causal_bias;

/// Configuration of a [`Llama`]. The defaults are LLaMA-3-8B as HunyuanVideo uses it, with the
/// vocabulary of LLaVA.
#[derive(Config, Debug, PartialEq)]
pub struct LlamaConfig {
    /// Rows of the token embedding.
    #[config(default = 128320)]
    pub vocabulary: usize,
    /// Width of the states.
    #[config(default = 4096)]
    pub hidden: usize,
    /// Width inside the MLP.
    #[config(default = 14336)]
    pub intermediate: usize,
    /// Number of layers that are run: the checkpoint's 32 without the last two.
    ///
    /// HunyuanVideo takes the state before those (`hidden_states[-3]` of the reference), so neither
    /// they nor the final norm ever run.
    #[config(default = 30)]
    pub layers: usize,
    /// Number of query heads; divides `hidden`.
    #[config(default = 32)]
    pub heads: usize,
    /// Number of key and value heads, each shared by `heads / kv_heads` query heads.
    #[config(default = 8)]
    pub kv_heads: usize,
    /// Base of the rotary frequencies.
    #[config(default = 500000.0)]
    pub rope_theta: f64,
    /// Added to the mean square in the norms.
    #[config(default = 1e-5)]
    pub norm_eps: f64,
}

/// The LLaMA-3 decoder without its last layers, final norm and head.
///
/// Reference: `LlamaModel` of transformers.
#[derive(Module, Debug)]
pub struct Llama {
    pub(crate) embed_tokens: Embedding,
    layers: Vec<LlamaLayer>,
    head_dim: usize,
    rope_theta: f64,
}

/// A decoder layer: attention and MLP, each after a norm and with a residual.
#[derive(Module, Debug)]
pub struct LlamaLayer {
    input_layernorm: RmsNorm,
    self_attn: LlamaAttention,
    post_attention_layernorm: RmsNorm,
    mlp: LlamaMlp,
}

/// Causal self-attention with grouped queries (arXiv 2305.13245) and rotary positions.
#[derive(Module, Debug)]
struct LlamaAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
}

/// The gated MLP `down(silu(gate(x)) · up(x))` (SwiGLU, arXiv 2002.05202).
#[derive(Module, Debug)]
struct LlamaMlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl LlamaConfig {
    /// Creates the module with random weights, which are not allocated before they are used.
    pub fn init(&self, device: &Device) -> Llama {
        Llama {
            embed_tokens: EmbeddingConfig::new(self.vocabulary, self.hidden).init(device),
            layers: (0..self.layers).map(|_| self.init_layer(device)).collect(),
            head_dim: self.hidden / self.heads,
            rope_theta: self.rope_theta,
        }
    }

    /// Creates one layer, likewise.
    pub fn init_layer(&self, device: &Device) -> LlamaLayer {
        let head_dim = self.hidden / self.heads;
        let layer = |d_in, d_out| LinearConfig::new(d_in, d_out).with_bias(false).init(device);
        let norm = || {
            RmsNormConfig::new(self.hidden)
                .with_eps(self.norm_eps)
                .init(device)
        };
        LlamaLayer {
            input_layernorm: norm(),
            self_attn: LlamaAttention {
                q_proj: layer(self.hidden, self.heads * head_dim),
                k_proj: layer(self.hidden, self.kv_heads * head_dim),
                v_proj: layer(self.hidden, self.kv_heads * head_dim),
                o_proj: layer(self.heads * head_dim, self.hidden),
                heads: self.heads,
                kv_heads: self.kv_heads,
                head_dim,
            },
            post_attention_layernorm: norm(),
            mlp: LlamaMlp {
                gate_proj: layer(self.hidden, self.intermediate),
                up_proj: layer(self.hidden, self.intermediate),
                down_proj: layer(self.intermediate, self.hidden),
            },
        }
    }
}

impl Llama {
    /// The layers in the order in which they run.
    pub fn layers(&self) -> impl Iterator<Item = Cow<'_, LlamaLayer>> {
        self.layers.iter().map(Cow::Borrowed)
    }

    /// The state after the last layer, for each token.
    ///
    /// Sequences of different lengths may be padded at the end: a token's state depends on none after
    /// it.
    ///
    /// # Shapes
    /// - `tokens`: `[batch, tokens]`
    /// - output: `[batch, tokens, hidden]`, in the weights' dtype
    pub fn forward(&self, tokens: Tensor<2, Int>) -> Tensor<3> {
        let layers = self.layers().map(Ok::<_, Infallible>);
        let Ok(states) = self.forward_through(layers, tokens);
        states
    }

    /// As [`forward`](Self::forward), through `layers` instead of the model's own, so that these need
    /// not all be in memory: each is asked for when the one before has run and is dropped.
    ///
    /// # Errors
    /// The first of `layers`.
    pub fn forward_through<'a, E>(
        &self,
        layers: impl IntoIterator<Item = Result<Cow<'a, LlamaLayer>, E>>,
        tokens: Tensor<2, Int>,
    ) -> Result<Tensor<3>, E> {
        let count = tokens.dims()[1];
        let device = tokens.device();
        let bias = causal_bias(count, &device);
        let positions = Rotary::new(count, self.head_dim, self.rope_theta, &device);
        let mut x = self.embed_tokens.forward(tokens); // [batch, tokens, hidden]
        for layer in layers {
            x = layer?.forward(x, &positions, &bias);
        }
        Ok(x)
    }
}

impl LlamaLayer {
    fn forward(&self, x: Tensor<3>, positions: &Rotary, bias: &Tensor<4>) -> Tensor<3> {
        let attended =
            self.self_attn
                .forward(self.input_layernorm.forward(x.clone()), positions, bias);
        let x = x + attended;
        let transformed = self
            .mlp
            .forward(self.post_attention_layernorm.forward(x.clone()));
        x + transformed
    }
}

impl LlamaAttention {
    fn forward(&self, x: Tensor<3>, positions: &Rotary, bias: &Tensor<4>) -> Tensor<3> {
        let [batch, tokens, _] = x.dims();
        let split = |x: Tensor<3>, heads| {
            x.reshape([batch, tokens, heads, self.head_dim])
                .swap_dims(1, 2) // [batch, heads, tokens, d]
        };
        let q = positions.rotate(split(linear(&self.q_proj, x.clone()), self.heads));
        let k = positions.rotate(split(linear(&self.k_proj, x.clone()), self.kv_heads));
        let v = split(linear(&self.v_proj, x), self.kv_heads);

        // The query heads of a group stand one after another, so stacking their rows gives one
        // longer sequence for each key head, and the keys and values need no copies.
        let group = self.heads / self.kv_heads;
        let q = q.reshape([batch, self.kv_heads, group * tokens, self.head_dim]);
        let bias = bias.clone().repeat_dim(2, group); // [1, 1, group * tokens, tokens]
        let out = attention_with_bias(q, k, v, bias)
            .reshape([batch, self.heads, tokens, self.head_dim])
            .swap_dims(1, 2)
            .reshape([batch, tokens, self.heads * self.head_dim]);
        linear(&self.o_proj, out)
    }
}

impl LlamaMlp {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let gate = silu(linear(&self.gate_proj, x.clone()));
        linear(&self.down_proj, gate * linear(&self.up_proj, x))
    }
}

/// Rotary position embedding (arXiv 2104.09864) that pairs channel `i` with channel `i + d / 2`.
struct Rotary {
    cos: Tensor<4>, // f32 [1, 1, tokens, d / 2]
    sin: Tensor<4>,
}

impl Rotary {
    /// The angles `position / theta^(2i / d)`, rounded as the reference rounds them.
    fn new(tokens: usize, d: usize, theta: f64, device: &Device) -> Self {
        let frequencies: Vec<f32> = (0..d / 2)
            .map(|i| 1.0 / (theta as f32).powf((2 * i) as f32 / d as f32))
            .collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = (0..tokens)
                .flat_map(|position| frequencies.iter().map(move |w| f(position as f32 * w)))
                .collect();
            let data = TensorData::new(values, [1, 1, tokens, d / 2]);
            Tensor::from_data(data, (device, DType::F32))
        };
        Self {
            cos: table(f32::cos),
            sin: table(f32::sin),
        }
    }

    /// Rotates `x`: `[batch, heads, tokens, d]`, in f32; the result in `x`'s dtype.
    fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        let dtype = x.dtype();
        let half = x.dims()[3] / 2;
        let x = x.cast(DType::F32);
        let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
        let (cos, sin) = (self.cos.clone(), self.sin.clone());
        let rotated = vec![
            a.clone() * cos.clone() - b.clone() * sin.clone(),
            b * cos + a * sin,
        ];
        Tensor::cat(rotated, 3).cast(dtype)
    }
}
