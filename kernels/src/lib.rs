#![doc = include_str!("../README.md")]
//!
//! # Why not burn's own
//!
//! burn's own layers round half-precision intermediates, require affine parameters, or materialise
//! attention scores where this model cannot afford it. Each function here states its numerics and
//! keeps them on every backend: statistics and softmax in f32, results in the input's dtype. One
//! exception is left to the backend: [`attention`] of few queries in half precision on a GPU, which
//! burn may compose of operations that round.
//!
//! | function | used by |
//! | --- | --- |
//! | [`attention`], [`attention_within`], [`attention_with_bias`] | every block of every model |
//! | [`modulated_norm`], [`add_gated`], [`RmsNorm`], [`rotate_pairs`] | the diffusion transformer |
//! | [`linear`] | the diffusion transformer, LoRAs included, and the text encoders |
//! | [`LayerNorm`] | the token refiner and CLIP |
//! | [`GroupNorm`], [`causal_conv3d`] | the VAE |
//! | [`silu`], [`gelu_tanh`], [`gelu_sigmoid`] | as named |
//! | [`ParameterPath`] | whoever loads, saves or trains parameters by name |

mod activation;
mod attention;
#[cfg(feature = "autodiff")]
mod attention_backward;
mod conv;
#[cfg(feature = "cpu")]
mod cpu;
#[cfg(feature = "cubecl")]
mod cube;
mod linear;
mod norm;
mod path;
#[cfg(test)]
mod random;
mod rotary;

pub use activation::{gelu_sigmoid, gelu_tanh, silu};
pub use attention::{attention, attention_with_bias, attention_within};
pub use conv::causal_conv3d;
pub use linear::linear;
pub use norm::{
    GroupNorm, GroupNormConfig, LayerNorm, LayerNormConfig, RmsNorm, RmsNormConfig, add_gated,
    modulated_norm,
};
pub use path::ParameterPath;
pub use rotary::rotate_pairs;
