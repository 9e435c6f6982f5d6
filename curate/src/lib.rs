#![doc = include_str!("../README.md")]

pub mod aesthetics;
pub mod clarity;
pub mod concepts;
pub mod config;
pub mod duplicates;
pub mod embedding;
pub mod error;
pub mod frame;
pub mod kmeans;
pub mod media;
pub mod motion;
pub mod overlays;
pub mod privacy;
mod range;
pub mod report;
pub mod run;
pub mod scenes;
pub mod tables;
pub mod tiers;

pub use error::{Error, Result};
pub use frame::Frame;
