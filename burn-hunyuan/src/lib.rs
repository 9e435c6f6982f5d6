#![doc = include_str!("../README.md")]
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`pipeline`] | from a prompt to a video; [`Pipeline`] is where to begin |
//! | [`checkpoint`] | names, files and formats of weights, the hub, the built-in model |
//! | [`plan`] | how much memory a generation takes, told before |
//! | [`device`] | devices by name |
//! | [`sampler`] | noise, schedule, Euler step |
//! | [`video`] | mp4, GIF and PNG |
//! | [`tensors`], [`quality`] | tensors in files; PSNR and SSIM |

pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
pub mod device;
mod error;
pub mod pipeline;
pub mod plan;
pub mod sampler;
pub mod tensors;
pub mod video;

pub use burn_hunyuan_vae::quality;
pub use error::{Error, Result};
pub use pipeline::{Offload, Pipeline, Progress, Request, Stage, Video};
