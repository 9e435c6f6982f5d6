//! Samples: what the transformer draws as it learns.

use std::{
    error::Error as StdError,
    path::{Path, PathBuf},
};

use burn_hunyuan_dit::Dit;
use serde::{Deserialize, Serialize};

use crate::error::{Result, require};

/// Section `[samples]` of a configuration: clips generated from fixed prompts every so many steps,
/// from the same noise each time. They are shown at the model's rate: 24 frames a second, 8 for the
/// small model that is built in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplesConfig {
    /// A clip for each. None: no samples.
    pub prompts: Vec<String>,
    /// Generate every so many steps.
    pub every: u64,
    /// Where the text encoders and the VAE come from, as `generate --model` takes it; none for the
    /// small model that is built in.
    pub model: Vec<String>,
    /// Another VAE than that model's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vae: Option<PathBuf>,
    /// Denoising steps.
    pub steps: usize,
    /// Height and width in pixels, multiples of 16.
    pub size: [usize; 2],
    /// Frames, 4k+1.
    pub frames: usize,
    /// Decides the noise.
    pub seed: u64,
    /// The scale that a guidance embedding is told.
    pub guidance: f64,
    /// Scale of classifier-free guidance against the empty caption; 1 is none.
    pub cfg: f64,
}

impl Default for SamplesConfig {
    fn default() -> Self {
        Self {
            prompts: Vec::new(),
            every: 500,
            model: Vec::new(),
            vae: None,
            steps: 30,
            size: [256, 256],
            frames: 33,
            seed: 0,
            guidance: 6.0,
            cfg: 1.0,
        }
    }
}

impl SamplesConfig {
    /// Refuses values that cannot be meant. Sizes are left to whoever generates.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with the field's name.
    pub fn validate(&self) -> Result<()> {
        let scales = [self.guidance, self.cfg];
        require(&[
            (self.every > 0, "samples.every has to be above 0"),
            (self.steps > 0, "samples.steps has to be above 0"),
            (
                scales.iter().all(|scale| scale.is_finite()),
                "samples.guidance and samples.cfg have to be finite",
            ),
        ])
    }
}

/// Generates samples with a model and writes them to a folder, which exists.
pub type Sampler = Box<dyn FnMut(Dit, &Path) -> Result<(), Box<dyn StdError>>>;
