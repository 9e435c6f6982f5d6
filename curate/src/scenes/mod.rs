//! Shots: where one camera take ends and the next begins.
//!
//! Five detectors find the same cuts as [PySceneDetect](https://www.scenedetect.com) 0.7.2: by
//! content, by content compared with its surroundings (the default), by fades, by hashes and by
//! histograms. Each is a [`Detector`]: pictures in, cuts out. [`ShotDetector`] runs one on the
//! decoded pictures of a video.
//!
//! Cuts are not all: a [`TransitionFinder`] finds dissolves and fades. [`TransitionDetector`] does
//! it without weights; [`LearnedFinder`] is TransNetV2, for those who have its weights.
//!
//! ```no_run
//! use burn_hunyuan_curate::{media::{DecodeOptions, Limits, probe}, scenes};
//!
//! let source = probe("film.mp4".as_ref(), &Limits::default())?;
//! let shots = scenes::detect(&source, &scenes::Config::default(), &DecodeOptions::default())?;
//! for scene in shots.scenes {
//!     println!("{} - {}", scene.start.timecode(), scene.end.timecode());
//! }
//! # Ok::<(), burn_hunyuan_curate::Error>(())
//! ```

mod adaptive;
mod content;
mod detector;
mod edges;
mod flash;
mod hash;
mod histogram;
mod hsv;
mod learned;
mod list;
mod position;
mod shots;
mod sketch;
mod stats;
mod threshold;
mod transitions;
mod transnet;

pub use adaptive::{AdaptiveConfig, AdaptiveDetector};
pub use content::{ContentConfig, ContentDetector, Weights};
pub use detector::{Config, Detector, DetectorKind};
pub use flash::FilterMode;
pub use hash::{HashConfig, HashDetector};
pub use histogram::{HistogramConfig, HistogramDetector};
pub use learned::LearnedFinder;
pub use list::{Scene, write_csv};
pub use position::{Length, Position};
pub use shots::{ShotDetector, Shots, detect};
pub use stats::Stats;
pub use threshold::{FadeMethod, ThresholdConfig, ThresholdDetector};
pub use transitions::{
    Transition, TransitionConfig, TransitionDetector, TransitionFinder, TransitionKind,
};
pub use transnet::{TransNet, TransNetConfig};
