//! The configuration of a run that trains the transformer.

use std::path::PathBuf;

use serde::{Deserialize, Deserializer, Serialize};

use super::{BatchConfig, DistillConfig, FlowConfig, LoraConfig, SamplesConfig};
use crate::{error::Result, optimizer::OptimizerConfig, run::RunConfig};

/// A configuration file of `burn-hunyuan train dit`, `distill` or `lora`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recipe {
    /// What `burn-hunyuan cache` wrote: a folder, or a list of folders whose clips are mixed.
    #[serde(deserialize_with = "one_or_more")]
    pub shards: Vec<PathBuf>,
    /// The devices to train on, as `--device` takes them, which comes first; none: `auto`.
    pub devices: Vec<String>,
    /// What is divided among several devices.
    pub split: Split,
    /// What is trained.
    pub model: ModelConfig,
    /// How long, and what is kept.
    pub run: RunConfig,
    /// From gradients to weights.
    pub optimizer: OptimizerConfig,
    /// At which times the transformer learns.
    pub flow: FlowConfig,
    /// What makes a batch.
    pub batch: BatchConfig,
    /// What is generated on the way, to be looked at.
    pub samples: SamplesConfig,
    /// Guidance distillation; only `train distill` looks at it.
    pub distill: DistillConfig,
    /// The low-rank updates; only `train lora` looks at it.
    pub lora: LoraConfig,
}

fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a folder, or a list of folders")]
    enum Folders {
        One(PathBuf),
        More(Vec<PathBuf>),
    }
    Ok(match Folders::deserialize(deserializer)? {
        Folders::One(folder) if folder.as_os_str().is_empty() => Vec::new(),
        Folders::One(folder) => vec![folder],
        Folders::More(folders) => folders,
    })
}

/// How several devices share the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// Each has the whole model and batches of its own: a step has as many batches as there are
    /// devices, times `batch.accumulate`.
    #[default]
    Batch,
    /// Each has a range of the model's blocks, for a model that is larger than one device.
    Blocks,
}

/// Section `[model]` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// A file or folder of weights to start from, as `--transformer` takes it; `random` to start
    /// from nothing. For `distill` it is the teacher.
    pub weights: String,
    /// Sizes of a model that starts from nothing: `tiny`, `13b`, or a folder with a transformer's
    /// `config.json` as diffusers has it.
    pub sizes: String,
    /// Whether a model that starts from nothing has a guidance embedding. One that is to be
    /// distilled needs none.
    pub guidance: bool,
    /// What the transformer computes in: `f32`, `bf16` or `f16`. The weights that are updated are
    /// f32 in any case.
    pub dtype: String,
    /// Whether blocks are computed again in the backward pass instead of kept: the memory of
    /// activations grows with the number of blocks' inputs only, for a third more time.
    pub recompute: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            weights: "random".into(),
            sizes: "13b".into(),
            guidance: false,
            dtype: "f32".into(),
            recompute: true,
        }
    }
}

impl Recipe {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with the field's name.
    pub fn validate(&self) -> Result<()> {
        self.run.validate()?;
        self.optimizer.validate()?;
        self.flow.validate()?;
        self.batch.validate()?;
        self.samples.validate()?;
        self.distill.validate()?;
        self.lora.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// Every configuration that ships is a recipe; those of other kinds are named here.
    #[test]
    fn the_configurations_that_ship_are_understood() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let mut found = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.to_string_lossy().ends_with("-vae.toml") {
                continue;
            }
            let recipe: Recipe = config::read(&path, &[]).unwrap();
            recipe.validate().unwrap();
            found += 1;
        }
        assert!(found >= 9, "{found}");
    }
}
