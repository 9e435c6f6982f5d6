//! What a run of VAE training is configured by.

use std::{fmt, path::PathBuf};

use burn_hunyuan_vae::VaeConfig;
use serde::{Deserialize, Serialize};

use super::{SamplesConfig, Stage};
use crate::{
    error::{Error, Result},
    optimizer::OptimizerConfig,
    run::RunConfig,
};

/// A configuration file of `train vae`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VaeTraining {
    /// The devices to train on, as `--device` takes them, which comes first; none: `auto`. Each has
    /// the whole model and a batch of its own: a step has as many batches as there are devices.
    pub devices: Vec<String>,
    /// Steps, checkpoints, logs.
    pub run: RunConfig,
    /// What is trained.
    pub model: ModelConfig,
    /// The data.
    pub data: DataConfig,
    /// The losses.
    pub loss: LossConfig,
    /// AdamW, learning rate, averages.
    pub optimizer: OptimizerConfig,
    /// Pictures of held-out clips and their reconstructions.
    pub samples: SamplesConfig,
    /// The curriculum, from low resolution and short to high and long. The last stage goes on to
    /// the end of the run.
    pub stages: Vec<Stage>,
}

impl VaeTraining {
    /// Whether there are evaluations, which need held-out clips.
    pub fn evaluates(&self) -> bool {
        self.run.evaluate_every > 0 && self.data.held_out > 0
    }

    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// [`Error::Config`] with the field's name.
    pub fn validate(&self) -> Result<()> {
        self.run.validate()?;
        self.optimizer.validate()?;
        self.loss.validate()?;
        if !(0.0..1.0).contains(&self.data.held_out_share) {
            let message = "data.held_out_share has to be from 0 to below 1";
            return Err(Error::Config(message.into()));
        }
        if self.stages.is_empty() {
            let message = "there is no [[stages]] section; a run needs at least one";
            return Err(Error::Config(message.into()));
        }
        for (i, stage) in self.stages.iter().enumerate() {
            stage.validate(i)?;
        }
        let groups = self.model.norm_num_groups;
        let mut channels = self.model.block_out_channels.iter();
        match channels.find(|channels| groups == 0 || !channels.is_multiple_of(groups)) {
            None => Ok(()),
            Some(channels) => Err(Error::Config(format!(
                "model.block_out_channels: {channels} is no multiple of norm_num_groups, {groups}"
            ))),
        }
    }
}

/// Section `[model]`: the sizes of a model that starts from nothing, by the names of the reference's
/// `config.json`; the defaults are the published model's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A file or folder of weights to start from, as `--vae` takes it, with its own sizes; `random`
    /// to start from nothing.
    pub weights: String,
    /// Whether `weights` were trained on images only and now see clips: moves every convolution to
    /// the present frame, see [`inflate`](super::inflate()).
    pub inflate: bool,
    /// Whether only the decoder learns. The latents stay as they are, and with them every
    /// transformer that was trained on them.
    pub freeze_encoder: bool,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels of the resolution levels, finest first.
    pub block_out_channels: [usize; 4],
    /// Residual blocks in a level of the encoder; the decoder has one more.
    pub layers_per_block: usize,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
    /// Logarithm of the latents' variances before training. Well below 0, latents tell something
    /// from the first step on, and training need not first learn to be certain.
    pub initial_logvar: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        let published = VaeConfig::new();
        Self {
            weights: "random".into(),
            inflate: false,
            freeze_encoder: false,
            latent_channels: published.latent_channels,
            block_out_channels: published.block_out_channels,
            layers_per_block: published.layers_per_block,
            norm_num_groups: published.norm_num_groups,
            initial_logvar: 0.0,
        }
    }
}

impl ModelConfig {
    /// The sizes of a model that starts from nothing.
    pub fn vae(&self) -> VaeConfig {
        VaeConfig::new()
            .with_latent_channels(self.latent_channels)
            .with_block_out_channels(self.block_out_channels)
            .with_layers_per_block(self.layers_per_block)
            .with_norm_num_groups(self.norm_num_groups)
    }
}

/// Section `[data]`: a dataset, or clips drawn as they are needed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// What to train on: a folder of videos and images, or a manifest that `curate` wrote. Without
    /// it, procedural clips.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dataset: Option<PathBuf>,
    /// Share of the dataset that is not trained on but evaluated; the files' names decide which.
    pub held_out_share: f64,
    /// Decides the procedural scenes, or the order of the dataset.
    pub seed: u64,
    /// Frames in which a procedural scene completes its motion.
    pub scene_frames: usize,
    /// Held-out clips in an evaluation.
    pub held_out: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            dataset: None,
            held_out_share: 0.02,
            seed: 1,
            scene_frames: 17,
            held_out: 16,
        }
    }
}

/// Section `[loss]`: what each term is multiplied by, and what two of them need. The defaults are
/// the paper's weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LossConfig {
    /// Mean absolute error.
    pub l1: f64,
    /// Perceptual distance.
    pub lpips: f64,
    /// How convincing the reconstruction is to the discriminator.
    pub adversarial: f64,
    /// Divergence of the latents from a standard normal, per value of the video.
    pub kl: f64,
    /// Weights of the perceptual distance: a file of torchvision's VGG-16 (`.pth` or safetensors),
    /// `random:SEED`, or `none`.
    pub lpips_vgg: String,
    /// With a file of VGG-16: lpips's own weights, version 0.1 for VGG.
    pub lpips_heads: PathBuf,
    /// The step with which the adversarial term begins; the discriminator begins with it.
    pub adversarial_from: u64,
    /// Channels of the discriminator's first level.
    pub discriminator_channels: usize,
    /// Learning rate of the discriminator.
    pub discriminator_learning_rate: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self {
            l1: 1.0,
            lpips: 0.1,
            adversarial: 0.05,
            kl: 1e-6,
            lpips_vgg: "none".into(),
            lpips_heads: PathBuf::new(),
            adversarial_from: 0,
            discriminator_channels: 64,
            discriminator_learning_rate: 1e-4,
        }
    }
}

/// Where the perceptual distance has its weights from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LpipsWeights {
    /// There are none, and no perceptual term.
    None,
    /// Random ones of this seed.
    Random(u64),
    /// The files of VGG-16 and of the heads.
    Files(PathBuf, PathBuf),
}

/// The line that a run shows.
impl fmt::Display for LpipsWeights {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::None => write!(f, "no perceptual term: loss.lpips_vgg is \"none\""),
            Self::Random(seed) => write!(
                f,
                "the perceptual term has random weights of seed {seed}, not the trained ones"
            ),
            Self::Files(vgg, heads) => write!(
                f,
                "the perceptual term has the weights of {} and {}",
                vgg.display(),
                heads.display()
            ),
        }
    }
}

impl LossConfig {
    /// What `lpips_vgg` asks for.
    ///
    /// # Errors
    /// A seed that is no number; a file of VGG-16 without one of the heads.
    pub fn lpips_weights(&self) -> Result<LpipsWeights> {
        match self.lpips_vgg.as_str() {
            "none" => Ok(LpipsWeights::None),
            text if text.starts_with("random:") => match text["random:".len()..].parse() {
                Ok(seed) => Ok(LpipsWeights::Random(seed)),
                Err(_) => Err(Error::Config(format!(
                    "loss.lpips_vgg is {text:?}; write for example \"random:1\""
                ))),
            },
            _ if self.lpips_heads.as_os_str().is_empty() => Err(Error::Config(
                "loss.lpips_vgg is a file, so loss.lpips_heads has to be one too: lpips's own \
                 weights, version 0.1 for VGG"
                    .into(),
            )),
            file => Ok(LpipsWeights::Files(file.into(), self.lpips_heads.clone())),
        }
    }

    fn validate(&self) -> Result<()> {
        self.lpips_weights()?;
        let weights = [self.l1, self.lpips, self.adversarial, self.kl];
        if weights
            .iter()
            .any(|weight| !(0.0..f64::INFINITY).contains(weight))
        {
            let message = "the weights of the section [loss] have to be 0 or more";
            return Err(Error::Config(message.into()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_the_perceptual_weights() {
        let weights = |vgg: &str, heads: &str| {
            let config = LossConfig {
                lpips_vgg: vgg.into(),
                lpips_heads: heads.into(),
                ..LossConfig::default()
            };
            config.lpips_weights()
        };
        assert_eq!(weights("none", "").unwrap(), LpipsWeights::None);
        assert_eq!(weights("random:7", "").unwrap(), LpipsWeights::Random(7));
        let files = LpipsWeights::Files("vgg16.pth".into(), "vgg.pth".into());
        assert_eq!(weights("vgg16.pth", "vgg.pth").unwrap(), files);
        assert!(
            weights("random:x", "")
                .unwrap_err()
                .to_string()
                .contains("random:1")
        );
        assert!(
            weights("vgg16.pth", "")
                .unwrap_err()
                .to_string()
                .contains("lpips_heads")
        );
    }

    #[test]
    fn the_configurations_that_ship_are_understood() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let mut found = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().ends_with("-vae.toml") {
                let config: VaeTraining = crate::config::read(&path, &[]).unwrap();
                config.validate().unwrap();
                found += 1;
            }
        }
        assert!(found >= 4, "{found}");
    }

    #[test]
    fn what_cannot_be_trained_is_refused() {
        let refused = |config: VaeTraining| config.validate().unwrap_err().to_string();
        assert!(refused(VaeTraining::default()).contains("[[stages]]"));
    }
}
