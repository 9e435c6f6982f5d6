#![doc = include_str!("../README.md")]
//!
//! # Why not burn's own
//!
//! burn's own layers round half-precision intermediates, require affine parameters, or materialise
//! attention scores where this model cannot afford it. Each function here states its numerics and
//! keeps them on every backend: statistics and softmax in f32, results in the input's dtype.
//!
//! | function | used by |
//! | --- | --- |
//! | [`attention`], [`attention_with_bias`] | every block of every model |
//! | [`layer_norm`], [`modulate`], [`RmsNorm`], [`rotate_pairs`] | the diffusion transformer |
//! | [`GroupNorm`] | the VAE |
//! | [`silu`], [`gelu_tanh`], [`gelu_sigmoid`] | as named |

mod activation;
mod attention;
mod norm;
mod rotary;

pub use activation::{gelu_sigmoid, gelu_tanh, silu};
pub use attention::{attention, attention_with_bias};
pub use norm::{GroupNorm, GroupNormConfig, RmsNorm, RmsNormConfig, layer_norm, modulate};
pub use rotary::rotate_pairs;
