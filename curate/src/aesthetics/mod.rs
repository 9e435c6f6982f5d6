//! What a picture looks like: learned scores where weights are given, measured statistics elsewhere.
//!
//! | score | needs | from |
//! | --- | --- | --- |
//! | LAION's aesthetic score, about 1 to 10 | [`Config::clip`], [`Config::laion`] | [`laion`] on [`clip`] |
//! | DOVER's technical and aesthetic quality, 0 to 1 | [`Config::dover`] | [`dover`] |
//!
//! Nothing is downloaded: weights are files that the configuration names.

pub mod clip;
pub mod dover;
pub mod laion;
mod openai;
pub mod resize;
pub mod statistics;
pub(crate) mod weights;

use std::path::PathBuf;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::{
    Error, Frame, Result, embedding,
    range::{Checked, above, within},
};
use clip::ClipEncoder;
use dover::{Dover, DoverConfig, DoverScores, views::Views};
use laion::LaionHead;

/// Which learned scores are computed, and on which frames.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Weights of OpenAI's CLIP ViT-L/14: `model.safetensors` or `pytorch_model.bin` of
    /// `openai/clip-vit-large-patch14`, or a file with the names of OpenAI's own code, as
    /// open_clip's. They give the clip's embedding, and with [`laion`](Self::laion) a score.
    pub clip: Option<PathBuf>,
    /// Weights of a LAION aesthetic head for ViT-L/14: `sa_0_4_vit_l_14_linear.pth` or
    /// `sac+logos+ava1-l14-linearMSE.pth`.
    pub laion: Option<PathBuf>,
    /// Weights of DOVER: `DOVER.pth` of VQAssessment/DOVER.
    pub dover: Option<PathBuf>,
    /// Frames per second of a clip that CLIP looks at; at least one frame is. Our choice.
    pub frames_per_second: f64,
    /// How the scores of the frames become the clip's.
    pub reduction: Reduction,
    /// Frames that go through the encoder at once: more is faster on a GPU and takes more memory.
    pub batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clip: None,
            laion: None,
            dover: None,
            frames_per_second: 1.0,
            reduction: Reduction::Mean,
            batch: 16,
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Checked {
        within("frames_per_second", self.frames_per_second, above(0.0))?;
        within("batch", self.batch, 1..)
    }
}

/// How the scores of the frames become the clip's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduction {
    /// The mean.
    Mean,
    /// The lowest: a clip is as good as its worst frame.
    Minimum,
}

impl Reduction {
    /// Of no scores: NaN.
    fn apply(self, scores: &[f32]) -> f64 {
        let scores = scores.iter().map(|&score| f64::from(score));
        match self {
            Self::Mean => scores.clone().sum::<f64>() / scores.len() as f64,
            Self::Minimum => scores.fold(f64::NAN, f64::min),
        }
    }
}

/// What CLIP says about a clip: nothing where its weights are not given.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// LAION's aesthetic score, about 1 to 10.
    pub aesthetic: Option<f64>,
    /// CLIP's embedding of the clip, of length one.
    pub embedding: Option<Vec<f32>>,
}

/// The models whose weights are given.
#[derive(Debug)]
pub struct Models {
    config: Config,
    clip: Option<ClipEncoder>,
    laion: Option<LaionHead>,
    dover: Option<Dover>,
    device: Device,
}

impl Models {
    /// Loads the weights that the configuration names; none is as good as all.
    ///
    /// # Errors
    /// When a file cannot be read or does not hold what it has to, or when LAION's head is given
    /// without CLIP.
    pub fn open(config: &Config, device: &Device) -> Result<Self> {
        if config.laion.is_some() && config.clip.is_none() {
            return Err(Error::Request(
                "aesthetics.laion scores what CLIP sees: name CLIP's weights in aesthetics.clip"
                    .into(),
            ));
        }
        let clip = config.clip.as_ref();
        let clip = clip
            .map(|path| ClipEncoder::open(path, device))
            .transpose()?;
        let laion = config.laion.as_ref().zip(clip.as_ref());
        let laion = laion.map(|(path, clip)| LaionHead::open(path, clip.width(), device));
        let dover = config.dover.as_ref();
        let dover = dover.map(|path| DoverConfig::new().open(path, device));
        Ok(Self {
            config: config.clone(),
            laion: laion.transpose()?,
            dover: dover.transpose()?,
            clip,
            device: device.clone(),
        })
    }

    /// DOVER's scores of a clip of `count` frames, where its weights are given: `gather` adds the
    /// frames that the views need.
    ///
    /// # Errors
    /// When there is no frame, and those of `gather`.
    pub fn dover(
        &self,
        count: usize,
        gather: impl FnOnce(&mut Views) -> Result<()>,
    ) -> Result<Option<DoverScores>> {
        let Some(dover) = &self.dover else {
            return Ok(None);
        };
        let mut views = Views::new(count)?;
        gather(&mut views)?;
        dover.scores(&views, &self.device).map(Some)
    }

    /// CLIP's view of a clip.
    pub fn look(&self, frames: &[Frame]) -> Learned {
        let Some(clip) = &self.clip else {
            return Learned::default();
        };
        let frames = sampled(frames, self.config.frames_per_second);
        if frames.is_empty() {
            return Learned::default();
        }
        let pictures: Vec<_> = frames.iter().map(|frame| &frame.picture).collect();
        let batches = pictures.chunks(self.config.batch.max(1));
        let features: Vec<f32> = batches.flat_map(|batch| clip.encode(batch)).collect();
        let aesthetic = self.laion.as_ref().map(|head| {
            let scores = head.scores(&features);
            self.config.reduction.apply(&scores)
        });
        Learned {
            aesthetic,
            embedding: Some(embedding::clip::clip_embedding(&features, clip.width())),
        }
    }
}

/// The frames nearest to even steps of time, from the first on.
fn sampled(frames: &[Frame], per_second: f64) -> Vec<&Frame> {
    let mut next = f64::NEG_INFINITY;
    let mut chosen = Vec::new();
    for frame in frames {
        if frame.time >= next - 1e-9 {
            chosen.push(frame);
            next = frame.time + per_second.recip();
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    #[test]
    fn frames_are_taken_at_the_rate_asked_for() {
        let frames: Vec<Frame> = (0..25)
            .map(|index| Frame {
                index,
                time: 10.0 + index as f64 / 8.0,
                picture: RgbImage::new(1, 1),
            })
            .collect();
        let times = |per_second| -> Vec<f64> {
            let chosen = sampled(&frames, per_second);
            chosen.iter().map(|frame| frame.time).collect()
        };
        assert_eq!(times(1.0), [10.0, 11.0, 12.0, 13.0]);
        assert_eq!(times(0.1), [10.0]);
        assert_eq!(times(8.0).len(), 25);
        assert_eq!(sampled(&[], 1.0), [] as [&Frame; 0]);
    }

    #[test]
    fn reductions() {
        assert_eq!(Reduction::Mean.apply(&[4.0, 6.0, 5.0]), 5.0);
        assert_eq!(Reduction::Minimum.apply(&[4.0, 6.0, 3.0]), 3.0);
    }
}
