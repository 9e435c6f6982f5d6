//! Downloads by hub id, against a small server on the loopback interface.

#![allow(clippy::unwrap_used)]

mod download;
mod environment;
mod needed;
mod refusals;
mod resume;
mod server;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use burn_hunyuan::checkpoint::hub::{Hub, Result};

fn fetch(hub: &Hub) -> Result<PathBuf> {
    hub.fetch("owner/name", &mut |_| ControlFlow::Continue(()))
}

/// All files below a folder, relative to it.
fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if path.is_dir() {
            files.extend(
                files_below(&path)
                    .into_iter()
                    .map(|f| format!("{name}/{f}")),
            );
        } else {
            files.push(name);
        }
    }
    files.sort();
    files
}
