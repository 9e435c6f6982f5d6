//! Cuts by content: the mean difference of hue, saturation, brightness and edges.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{
    Detector, FilterMode, Position, Stats,
    edges::{Edges, check_kernel},
    flash::FlashFilter,
    hsv::{HsvDifference, Mean},
};
use crate::{
    Error, Result,
    range::{Checked, within},
};

/// How much each component counts. The score is their weighted mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// Hue, in steps of two degrees.
    pub hue: f64,
    /// Saturation.
    pub saturation: f64,
    /// Brightness, the V of HSV.
    pub luma: f64,
    /// Edges; their differences are larger than the others.
    pub edges: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            hue: 1.0,
            saturation: 1.0,
            luma: 1.0,
            edges: 0.0,
        }
    }
}

impl Weights {
    /// Brightness alone.
    pub const LUMA_ONLY: Self = Self {
        hue: 0.0,
        saturation: 0.0,
        luma: 1.0,
        edges: 0.0,
    };

    pub(super) fn check(self) -> Checked {
        within("weights.hue", self.hue, ..)?;
        within("weights.saturation", self.saturation, ..)?;
        within("weights.luma", self.luma, ..)?;
        within("weights.edges", self.edges, ..)?;
        match self.array() == [0.0; 4] {
            false => Ok(()),
            true => Err("weights are all 0; one of them has to be another".into()),
        }
    }

    fn array(self) -> [f64; 4] {
        [self.hue, self.saturation, self.luma, self.edges]
    }
}

/// Options of the content detector. The defaults are PySceneDetect's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContentConfig {
    /// Score from which on a picture begins a new scene, 0 to 255. Default 27.
    pub threshold: f64,
    /// How much each component of the score counts.
    pub weights: Weights,
    /// Count brightness alone, whatever `weights` say. Default false.
    pub luma_only: bool,
    /// Side in pixels of the square that edges are widened by, odd, 3 to 255. Default: by the size
    /// of the pictures.
    pub kernel_size: Option<u32>,
    /// What becomes of cuts closer together than the minimum length.
    pub filter: FilterMode,
}

impl Default for ContentConfig {
    fn default() -> Self {
        Self {
            threshold: 27.0,
            weights: Weights::default(),
            luma_only: false,
            kernel_size: None,
            filter: FilterMode::default(),
        }
    }
}

impl ContentConfig {
    pub(super) fn check(&self) -> Checked {
        within("threshold", self.threshold, 0.0..)?;
        self.weights.check()?;
        check_kernel(self.kernel_size)
    }

    /// The detector; cuts closer together than `min_scene_len` frames go through the flash filter.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for an option out of its range.
    pub fn init(&self, min_scene_len: u64) -> Result<ContentDetector> {
        self.check().map_err(Error::Request)?;
        Ok(ContentDetector {
            score: ContentScore::new(self.weights, self.luma_only, self.kernel_size),
            threshold: self.threshold,
            filter: FlashFilter::new(self.filter, min_scene_len),
        })
    }
}

/// Finds fast cuts: pictures that differ much from the one before.
#[derive(Debug)]
pub struct ContentDetector {
    score: ContentScore,
    threshold: f64,
    filter: FlashFilter,
}

impl Detector for ContentDetector {
    fn metrics(&self) -> Vec<String> {
        ContentScore::metrics()
    }

    fn process(
        &mut self,
        position: Position,
        picture: &RgbImage,
        stats: Option<&mut Stats>,
    ) -> Option<Position> {
        let score = self.score.next(position, picture, stats);
        self.filter.filter(position, score >= self.threshold)
    }
}

/// The score of a picture: how much it differs from the one before.
#[derive(Debug)]
pub(super) struct ContentScore {
    weights: [f64; 4],
    difference: HsvDifference,
    edges: Edges,
}

impl ContentScore {
    /// Of options that have been checked.
    pub fn new(weights: Weights, luma_only: bool, kernel_size: Option<u32>) -> Self {
        let weights = if luma_only {
            Weights::LUMA_ONLY
        } else {
            weights
        };
        Self {
            weights: weights.array(),
            difference: HsvDifference::default(),
            edges: Edges::new(kernel_size),
        }
    }

    pub fn metrics() -> Vec<String> {
        [
            "content_val",
            "delta_edges",
            "delta_hue",
            "delta_lum",
            "delta_sat",
        ]
        .map(String::from)
        .into()
    }

    /// The score of the next picture; 0 for the first.
    pub fn next(
        &mut self,
        position: Position,
        picture: &RgbImage,
        stats: Option<&mut Stats>,
    ) -> f64 {
        let difference = self.difference.next(picture);
        // Edges cost more than all the rest.
        let edges = (self.weights[3] > 0.0 || stats.is_some()).then(|| {
            let (width, height) = picture.dimensions();
            self.edges.next(self.difference.values(), width, height)
        });
        let Some(Mean {
            hue,
            saturation,
            value,
        }) = difference
        else {
            return 0.0;
        };
        let edges = edges.flatten().unwrap_or(0.0);
        let components = [hue, saturation, value, edges];
        let terms = components.iter().zip(&self.weights);
        let sum = terms.fold(0.0, |sum, (component, weight)| sum + component * weight);
        let total = self
            .weights
            .iter()
            .fold(0.0, |sum, weight| sum + weight.abs());
        let score = sum / total;
        if let Some(stats) = stats {
            stats.set(position, "content_val", score);
            stats.set(position, "delta_hue", hue);
            stats.set(position, "delta_sat", saturation);
            stats.set(position, "delta_lum", value);
            stats.set(position, "delta_edges", edges);
        }
        score
    }
}
