//! `burn-hunyuan plan`.

use burn::tensor::FloatDType;
use clap::Args;

use super::{
    memory::MemoryOptions,
    options::{ModelOptions, RunOptions, Size},
    print,
};
use crate::{
    checkpoint::Model,
    device,
    error::{Error, Result},
    pipeline::Request,
    plan::{Architecture, Settings},
};

/// Other commands take the built-in model, which always fits.
const MODEL_HELP: &str = "A pipeline folder, the original ckpts folder, files of the components, or \
     a hub id (owner/name[@revision]); the published model in bf16 if absent";

#[derive(Debug, Args)]
#[command(mut_arg("model", |argument| argument.help(MODEL_HELP)))]
pub(super) struct Plan {
    /// Height and width in pixels, multiples of 16
    #[arg(long, default_value = "720x1280", value_name = "HxW")]
    size: Size,
    /// Number of frames, 4k+1
    #[arg(long, default_value_t = 129)]
    frames: usize,
    /// Plan for a first-block cache of this threshold
    #[arg(long, value_name = "X")]
    cache_threshold: Option<f64>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    memory: MemoryOptions,
}

impl Plan {
    pub fn run(self) -> Result<()> {
        let mut request = Request::new("planned").with_size(self.size.height, self.size.width);
        (request.frames, request.cache_threshold) = (self.frames, self.cache_threshold);
        request.validate()?;
        let device = device::open(&self.run.device)?;
        let paths = self.model.paths(self.run.quiet)?;
        let (architecture, stored) = if paths.is_empty() {
            (Architecture::official(&device), FloatDType::BF16)
        } else {
            let model = match self.model.is_tiny() {
                true => Model::open(&paths)?,
                false => self.model.open(&device, self.run.quiet)?,
            };
            let transformer = model.transformer();
            let stored = transformer.map_or(FloatDType::BF16, |part| part.weights.main_dtype());
            (Architecture::of(&model, &device)?, stored)
        };
        let settings = Settings {
            dtype: self.run.dtype.map_or(stored, FloatDType::from),
            quantization: self.memory.quantize,
            offload: self.memory.offload(),
            vae_tiling: self.run.vae_tiling,
            keep_loaded: self.run.keep_loaded,
            is_host: device::is_host(&device),
        };
        let limit = self.memory.vram_limit.map(|limit| limit.0);
        let Some(limit) = limit.or_else(|| device::memory(&device)) else {
            let message = "this device does not tell its memory; give --vram-limit, as 24GiB";
            return Err(Error::Request(message.into()));
        };
        print(architecture.plan(&request, settings, limit)?)
    }
}
