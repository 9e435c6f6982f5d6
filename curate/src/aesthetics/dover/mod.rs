//! DOVER (arXiv 2211.04894): the technical and the aesthetic quality of a video, as people rate it.
//!
//! Two networks see two views of 32 frames a clip: the technical one pieces cut from the frames at
//! their own size, whose pixels keep blur and compression ([`swin`]); the aesthetic one the frames
//! squeezed to a square, which keeps composition ([`convnext`]).
//!
//! Reference: VQAssessment/DOVER, `DOVER.pth`. The licence of its weights forbids commercial use.

pub mod convnext;
pub mod swin;
pub mod views;
mod windows;

use std::{collections::BTreeMap, path::Path};

use burn::{
    config::Config,
    module::Module,
    nn::conv::{Conv3d, Conv3dConfig},
    tensor::{Device, Tensor, activation::gelu},
};
use burn_store::burn_pack;
use serde::{Deserialize, Serialize};

use super::weights;
use crate::{Result, embedding::to_f32};
use convnext::{ConvNext, ConvNextConfig};
use swin::{Swin, SwinConfig};
use views::Views;

/// Sizes of a [`Dover`]. The defaults are the published ones (`dover.yml`).
#[derive(Config, Debug, PartialEq)]
pub struct DoverConfig {
    /// The network of the technical view.
    #[config(default = "SwinConfig::new()")]
    pub technical: SwinConfig,
    /// The network of the aesthetic view.
    #[config(default = "ConvNextConfig::new()")]
    pub aesthetic: ConvNextConfig,
    /// Channels inside the heads.
    #[config(default = 64)]
    pub head: usize,
}

/// Both networks with their heads, under the names of the reference.
#[derive(Module, Debug)]
pub struct Dover {
    technical_backbone: Swin,
    technical_head: Head,
    aesthetic_backbone: ConvNext,
    aesthetic_head: Head,
}

/// A quality at every place of the features.
#[derive(Module, Debug)]
struct Head {
    fc_hid: Conv3d,
    fc_last: Conv3d,
}

/// The qualities of a clip, each from 0 to 1, the better the higher.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct DoverScores {
    /// Sharpness, noise, compression, stability.
    pub technical: f64,
    /// Composition, content, colour.
    pub aesthetic: f64,
    /// Both, as the reference joins them.
    pub overall: f64,
}

impl DoverScores {
    /// From the raw means: standardised by the reference's statistics, squashed by a sigmoid.
    pub fn from_raw(technical: f64, aesthetic: f64) -> Self {
        let technical = (technical - 0.1107) / 0.07355;
        let aesthetic = (aesthetic + 0.08285) / 0.03774;
        let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
        Self {
            technical: sigmoid(technical),
            aesthetic: sigmoid(aesthetic),
            overall: sigmoid(0.6104 * technical + 0.3896 * aesthetic),
        }
    }
}

impl DoverConfig {
    /// Creates the module with random weights, which are not allocated before they are used.
    pub fn init(&self, device: &Device) -> Dover {
        let head = |channels| Head {
            fc_hid: Conv3dConfig::new([channels, self.head], [1, 1, 1]).init(device),
            fc_last: Conv3dConfig::new([self.head, 1], [1, 1, 1]).init(device),
        };
        Dover {
            technical_backbone: self.technical.init(device),
            technical_head: head(self.technical.features()),
            aesthetic_backbone: self.aesthetic.init(device),
            aesthetic_head: head(self.aesthetic.features()),
        }
    }

    /// Loads the published file, or one of other sizes.
    ///
    /// # Errors
    /// When it cannot be read, or a tensor is missing or has another shape.
    pub fn open(&self, path: &Path, device: &Device) -> Result<Dover> {
        let tensors = weights::open(path)?.into_iter();
        let named: BTreeMap<String, burn_pack::Tensor> = tensors
            .map(|(name, tensor)| (convnext::module_name(&name), tensor))
            .collect();
        weights::fill(self.init(device), named, path)
    }
}

impl Dover {
    /// What the technical network makes of its views.
    ///
    /// `views`: `[clips, 3, 32, 224, 224]`, as [`Views::technical`] makes them.
    pub fn technical_features(&self, views: Tensor<5>) -> Tensor<5> {
        self.technical_backbone.forward(views)
    }

    /// What the aesthetic network makes of its view.
    ///
    /// `view`: `[1, 3, 32, 224, 224]`, as [`Views::aesthetic`] makes it.
    pub fn aesthetic_features(&self, view: Tensor<5>) -> Tensor<5> {
        self.aesthetic_backbone.forward(view)
    }

    /// The raw technical quality: the mean over all places.
    pub fn technical(&self, views: Tensor<5>) -> f64 {
        self.technical_head.mean(self.technical_features(views))
    }

    /// The raw aesthetic quality: the mean over all places.
    pub fn aesthetic(&self, view: Tensor<5>) -> f64 {
        self.aesthetic_head.mean(self.aesthetic_features(view))
    }

    /// The qualities of a clip.
    ///
    /// # Errors
    /// When the views lack a frame.
    pub fn scores(&self, views: &Views, device: &Device) -> Result<DoverScores> {
        Ok(DoverScores::from_raw(
            self.technical(views.technical(device)?),
            self.aesthetic(views.aesthetic(device)?),
        ))
    }
}

impl Head {
    /// The mean quality of features `[clips, channels, frames, rows, columns]`.
    fn mean(&self, features: Tensor<5>) -> f64 {
        let quality = self.fc_last.forward(gelu(self.fc_hid.forward(features)));
        let quality = to_f32(quality);
        quality.iter().map(|&q| f64::from(q)).sum::<f64>() / quality.len() as f64
    }
}
