//! Video files: probing, decoding and cutting them with ffmpeg, kept within bounds.
//!
//! ```no_run
//! use burn_hunyuan_curate::media::{DecodeOptions, Decoder, probe, Limits};
//!
//! let source = probe("film.mp4".as_ref(), &Limits::default())?;
//! for picture in Decoder::open(&source, &DecodeOptions::default())? {
//!     let picture = picture?;
//!     println!("{} at {} s", picture.index, picture.time);
//! }
//! # Ok::<(), burn_hunyuan_curate::Error>(())
//! ```
//!
//! ffmpeg and ffprobe (5.1 or later) are programs on `PATH`. They are started without a shell, read
//! nothing but the file they are given (no other protocol, no playlist format), within the memory
//! and time of [`Limits`], and are killed when the value that stands for them is dropped.

mod clip;
mod cut;
mod decode;
mod picture;
mod probe;
mod process;
mod rate;
mod still;

pub use clip::Clip;
pub use cut::{Crop, CutOptions, cut};
pub use decode::{DecodeOptions, Decoder};
pub(crate) use picture::Downscale;
pub use picture::Picture;
pub use probe::{Audio, Probe, Video, probe};
pub use process::Limits;
pub use rate::FrameRate;
pub use still::still;
