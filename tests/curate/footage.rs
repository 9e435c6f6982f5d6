//! Footage that the tests draw with ffmpeg, and the fixtures.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use burn_hunyuan_curate::media::{Limits, Probe, probe};
use tempfile::TempDir;

use crate::common::fixture_path;

/// Runs ffmpeg in `folder` with arguments split at spaces.
pub fn ffmpeg(folder: &TempDir, arguments: &str) {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-nostdin"])
        .args(arguments.split_whitespace())
        .current_dir(folder.path())
        .output()
        .expect("ffmpeg is on the PATH");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {said}");
}

pub fn shots(name: &str) -> PathBuf {
    fixture_path("scenes").join(name)
}

pub fn probed(path: &Path) -> Probe {
    probe(path, &Limits::default()).unwrap()
}
