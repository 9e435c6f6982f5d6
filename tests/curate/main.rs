//! The curation pipeline against PySceneDetect, OpenCV and the other references.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod drawn;
mod films;
mod footage;

mod clarity;
mod clip;
mod descriptor;
mod dover;
mod duplicates;
mod kmeans;
mod media;
mod motion;
mod overlays;
mod run;
mod scenes;
mod tables;
mod transitions;
mod transnet;
