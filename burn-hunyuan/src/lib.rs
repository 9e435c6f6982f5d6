//! HunyuanVideo text-to-video generation in pure Rust on [burn](https://burn.dev).

pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod device;
mod error;
#[cfg(feature = "cli")]
mod flops;
pub mod pipeline;
pub mod quality;
pub mod sampler;
pub mod tensors;
pub mod video;

pub use error::{Error, Result};
pub use pipeline::{Pipeline, Progress, Request, Stage, Video};
