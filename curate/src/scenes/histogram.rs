//! Cuts by histograms of brightness.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Detector, FilterMode, Position, Stats, flash::FlashFilter};
use crate::{
    Error, Result,
    range::{Checked, within},
};

/// Options of the histogram detector. The defaults are PySceneDetect's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistogramConfig {
    /// A picture begins a new scene where its histogram's correlation with the one before is at
    /// most 1 less this, 0 to 1. Default 0.2.
    pub threshold: f64,
    /// Bins of the histogram, 1 to 256. Default 128.
    pub bins: usize,
}

impl Default for HistogramConfig {
    fn default() -> Self {
        Self {
            threshold: 0.20,
            bins: 128,
        }
    }
}

impl HistogramConfig {
    pub(super) fn check(&self) -> Checked {
        within("threshold", self.threshold, 0.0..=1.0)?;
        within("bins", self.bins, 1..=256)
    }

    /// The detector; cuts closer than `min_scene_len` frames to the one before are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for an option out of its range.
    pub fn init(&self, min_scene_len: u64) -> Result<HistogramDetector> {
        self.check().map_err(Error::Request)?;
        let bins = self.bins;
        Ok(HistogramDetector {
            metric: format!("hist_diff [bins={bins}]"),
            threshold: (1.0 - self.threshold).clamp(0.0, 1.0),
            bins,
            last: None,
            filter: FlashFilter::new(FilterMode::Suppress, min_scene_len),
        })
    }
}

/// Finds cuts between pictures of different brightness.
#[derive(Debug)]
pub struct HistogramDetector {
    metric: String,
    /// Largest correlation of a cut.
    threshold: f64,
    bins: usize,
    last: Option<Vec<f32>>,
    filter: FlashFilter,
}

impl Detector for HistogramDetector {
    fn metrics(&self) -> Vec<String> {
        vec![self.metric.clone()]
    }

    fn process(
        &mut self,
        position: Position,
        picture: &RgbImage,
        stats: Option<&mut Stats>,
    ) -> Option<Position> {
        let now = histogram(picture, self.bins);
        let likeness = self.last.as_ref().map(|last| correlation(last, &now));
        self.last = Some(now);
        if let (Some(stats), Some(likeness)) = (stats, likeness) {
            stats.set(position, &self.metric, likeness);
        }
        let differs = likeness.is_some_and(|likeness| likeness <= self.threshold);
        self.filter.filter(position, differs)
    }
}

/// Counts of OpenCV's Y (of `COLOR_RGB2YUV`), scaled to unit length.
fn histogram(picture: &RgbImage, bins: usize) -> Vec<f32> {
    let mut levels = [0u32; 256];
    for rgb in picture.as_raw().chunks_exact(3) {
        let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
        levels[((4899 * r + 9617 * g + 1868 * b + (1 << 13)) >> 14) as usize] += 1;
    }
    let mut counts = vec![0u32; bins];
    for (level, count) in levels.iter().enumerate() {
        counts[level * bins / 256] += count;
    }
    let squares: f64 = counts.iter().map(|&c| f64::from(c) * f64::from(c)).sum();
    let scale = (1.0 / squares.sqrt()) as f32;
    counts.iter().map(|&count| count as f32 * scale).collect()
}

/// Pearson's correlation as OpenCV's `HISTCMP_CORREL` computes it; 1 where one is constant.
fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let sum = |term: fn(f64, f64) -> f64| {
        // OpenCV sums even and odd places apart, two at a time.
        let mut sums = [0.0; 2];
        for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
            sums[i % 2] += term(a.into(), b.into());
        }
        sums[0] + sums[1]
    };
    let (a1, b1) = (sum(|a, _| a), sum(|_, b| b));
    let (ab, aa, bb) = (sum(|a, b| a * b), sum(|a, _| a * a), sum(|_, b| b * b));
    let scale = 1.0 / a.len() as f64;
    let covariance = ab - a1 * b1 * scale;
    let variances = (aa - a1 * a1 * scale) * (bb - b1 * b1 * scale);
    match variances.abs() > f64::EPSILON {
        true => covariance / variances.sqrt(),
        false => 1.0,
    }
}
