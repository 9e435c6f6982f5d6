#![doc = include_str!("../README.md")]
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`run`] | the loop, its folder, checkpoints, logs, what happens on signals and spikes |
//! | [`dit`] | the transformer: flow matching, distillation, batches, cached clips |
//! | [`optimizer`] | AdamW, the learning rate, clipping, accumulation, the average of the weights |
//! | [`config`] | configuration files |
//! | [`parameters`] | a module's parameters by name |
//! | [`vae`] | training of the VAE |
//! | [`loss`] | what training minimises, each term by its name |
//! | [`data`] | what a model is trained on |
//! | [`synth`] | procedural captioned clips |
//! | [`contact_sheet`] | clips as one picture |
//! | [`report`] | a run as one HTML page |

pub mod config;
pub mod contact_sheet;
pub mod data;
pub mod dit;
mod error;
mod files;
pub mod loss;
pub mod optimizer;
mod parallel;
pub mod parameters;
pub mod report;
pub mod run;
pub mod synth;
mod tensor_file;
pub mod vae;

pub use error::{Error, Result};
