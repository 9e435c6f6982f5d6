//! Checkpoints. The fixtures hold the same weights as every kind of published checkpoint does.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod damaged;
mod encodings;
mod layouts;
mod loading;
mod model;
mod quantize;
mod toy;

use std::path::PathBuf;

/// A path in `tests/fixtures/checkpoints`.
fn fixture(path: &str) -> PathBuf {
    common::fixture_path("checkpoints").join(path)
}
