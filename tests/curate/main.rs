//! The curation pipeline against PySceneDetect, OpenCV and the other references.

#[path = "../common/mod.rs"]
mod common;
