//! What all detectors have in common.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{
    AdaptiveConfig, ContentConfig, HashConfig, HistogramConfig, Length, Position, Stats,
    ThresholdConfig,
};
use crate::{Result, media::FrameRate, range::Checked};

/// Finds cuts in pictures that come one after the other. Knows nothing of files.
pub trait Detector: Send {
    /// Names of the values that it writes to the statistics.
    fn metrics(&self) -> Vec<String>;

    /// Looks at the next picture, 8-bit RGB and always of one size; returns a cut, which is at this
    /// picture or at an earlier one. A cut is the first picture of a new scene.
    fn process(
        &mut self,
        position: Position,
        picture: &RgbImage,
        stats: Option<&mut Stats>,
    ) -> Option<Position>;

    /// The first picture at which a cut can still come that has been possible for long: a fade-out
    /// that no fade-in has followed.
    fn waiting(&self) -> Option<Position> {
        None
    }

    /// After the last picture, at `last`: a cut that was waiting for it.
    fn finish(&mut self, last: Position) -> Option<Position> {
        let _ = last;
        None
    }
}

/// One of the detectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DetectorKind {
    /// Differences of hue, saturation and brightness.
    Content,
    /// The same, compared with the pictures around.
    #[default]
    Adaptive,
    /// Fades through black or white.
    Threshold,
    /// Differences of perceptual hashes.
    Hash,
    /// Differences of brightness histograms.
    Histogram,
}

/// How shots are found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Which detector. Default: the adaptive one.
    pub detector: DetectorKind,
    /// Least distance between cuts. Seconds become the nearest number of frames at the video's
    /// rate. Default 0.6 s, as in PySceneDetect's program.
    pub min_scene_len: Length,
    /// Options of the content detector.
    pub content: ContentConfig,
    /// Options of the adaptive detector.
    pub adaptive: AdaptiveConfig,
    /// Options of the threshold detector.
    pub threshold: ThresholdConfig,
    /// Options of the hash detector.
    pub hash: HashConfig,
    /// Options of the histogram detector.
    pub histogram: HistogramConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            detector: DetectorKind::default(),
            min_scene_len: Length::Seconds(0.6),
            content: ContentConfig::default(),
            adaptive: AdaptiveConfig::default(),
            threshold: ThresholdConfig::default(),
            hash: HashConfig::default(),
            histogram: HistogramConfig::default(),
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Checked {
        let detectors = [
            ("content", self.content.check()),
            ("adaptive", self.adaptive.check()),
            ("threshold", self.threshold.check()),
            ("hash", self.hash.check()),
            ("histogram", self.histogram.check()),
        ];
        let faults = detectors.into_iter();
        let mut faults = faults.filter_map(|(name, checked)| Some((name, checked.err()?)));
        match faults.next() {
            None => Ok(()),
            Some((name, fault)) => Err(format!("{name}.{fault}")),
        }
    }

    /// The chosen detector, for a video of this rate.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Request`] for an option out of its range.
    pub fn init(&self, rate: FrameRate) -> Result<Box<dyn Detector>> {
        let length = self.min_scene_len.frames(rate);
        Ok(match self.detector {
            DetectorKind::Content => Box::new(self.content.init(length)?),
            DetectorKind::Adaptive => Box::new(self.adaptive.init(length)?),
            DetectorKind::Threshold => Box::new(self.threshold.init(length, rate)?),
            DetectorKind::Hash => Box::new(self.hash.init(length)?),
            DetectorKind::Histogram => Box::new(self.histogram.init(length)?),
        })
    }
}
