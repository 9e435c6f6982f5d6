//! Video files: round trips through our own readers, and against ffmpeg where it is installed.

#![allow(clippy::unwrap_used)]

mod bad_input;
mod ffmpeg;
mod gif;
mod images;
mod mp4;
mod output;
mod pictures;
