//! The program as its users meet it: what it writes, prints and refuses, and what it leaves behind.

#![allow(clippy::unwrap_used)]

mod bad_input;
#[cfg(feature = "train")]
mod cache;
#[cfg(feature = "curate")]
mod curate;
#[cfg(all(feature = "curate", feature = "train"))]
mod erase;
#[cfg(feature = "curate")]
#[path = "../curate/films.rs"]
mod films;
mod generate;
mod lora;
mod memory;
mod output;
mod program;
mod reconstruct;
mod reports;
#[cfg(feature = "curate")]
mod scenes;
#[cfg(feature = "train")]
mod train;
