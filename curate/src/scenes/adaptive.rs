//! Cuts by content compared with the pictures around.

use std::collections::VecDeque;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Detector, Position, Stats, Weights, content::ContentScore, edges::check_kernel};
use crate::{
    Error, Result,
    range::{Checked, within},
};

/// Options of the adaptive detector. The defaults are PySceneDetect's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdaptiveConfig {
    /// How many times the mean score of its neighbours a cut's score has to be. Default 3.
    pub threshold: f64,
    /// Neighbours on either side, in pictures, 1 to 100. Default 2.
    pub window_width: usize,
    /// Score that a cut needs in any case, 0 to 255. Default 15.
    pub min_content_val: f64,
    /// How much each component of the score counts.
    pub weights: Weights,
    /// Count brightness alone, whatever `weights` say. Default false.
    pub luma_only: bool,
    /// Side in pixels of the square that edges are widened by, odd, 3 to 255. Default: by the size
    /// of the pictures.
    pub kernel_size: Option<u32>,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self {
            threshold: 3.0,
            window_width: 2,
            min_content_val: 15.0,
            weights: Weights::default(),
            luma_only: false,
            kernel_size: None,
        }
    }
}

impl AdaptiveConfig {
    pub(super) fn check(&self) -> Checked {
        within("threshold", self.threshold, 0.0..)?;
        within("window_width", self.window_width, 1..=100)?;
        within("min_content_val", self.min_content_val, 0.0..=255.0)?;
        self.weights.check()?;
        check_kernel(self.kernel_size)
    }

    /// The detector; cuts closer than `min_scene_len` frames to the one before are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for an option out of its range.
    pub fn init(&self, min_scene_len: u64) -> Result<AdaptiveDetector> {
        self.check().map_err(Error::Request)?;
        let luma = if self.luma_only { "_lum" } else { "" };
        Ok(AdaptiveDetector {
            metric: format!("adaptive_ratio{luma} (w={})", self.window_width),
            score: ContentScore::new(self.weights, self.luma_only, self.kernel_size),
            config: self.clone(),
            min_scene_len,
            window: VecDeque::new(),
            last_cut: None,
        })
    }
}

/// Finds fast cuts where content changes much more than just before and after, so that a moving
/// camera is none. It sees a cut `window_width` pictures later.
#[derive(Debug)]
pub struct AdaptiveDetector {
    config: AdaptiveConfig,
    metric: String,
    min_scene_len: u64,
    score: ContentScore,
    /// Scores of the last `2 * window_width + 1` pictures.
    window: VecDeque<(Position, f64)>,
    last_cut: Option<Position>,
}

impl Detector for AdaptiveDetector {
    fn metrics(&self) -> Vec<String> {
        let mut metrics = ContentScore::metrics();
        metrics.push(self.metric.clone());
        metrics
    }

    fn process(
        &mut self,
        position: Position,
        picture: &RgbImage,
        mut stats: Option<&mut Stats>,
    ) -> Option<Position> {
        let score = self.score.next(position, picture, stats.as_deref_mut());
        let last_cut = *self.last_cut.get_or_insert(position);
        let width = self.config.window_width;
        self.window.push_back((position, score));
        if self.window.len() <= 2 * width {
            return None;
        }
        let (target, score) = self.window[width];
        let scores = self.window.iter().map(|(_, score)| score);
        let others = scores.enumerate().filter(|&(i, _)| i != width);
        let mean = others.fold(0.0, |sum, (_, score)| sum + score) / (2 * width) as f64;
        let ratio = if mean >= 0.00001 {
            (score / mean).min(255.0)
        } else if score >= self.config.min_content_val {
            255.0
        } else {
            0.0
        };
        self.window.pop_front();
        if let Some(stats) = stats {
            stats.set(target, &self.metric, ratio);
        }
        let cut = ratio >= self.config.threshold
            && score >= self.config.min_content_val
            && target.frames_since(last_cut) >= self.min_scene_len;
        cut.then(|| {
            self.last_cut = Some(target);
            target
        })
    }
}
