//! `burn-hunyuan plan`.

use burn::tensor::FloatDType;
use clap::Args;

use super::{
    memory::MemoryOptions,
    options::{LoraArgument, ModelOptions, RunOptions, Size, add_loras},
    print,
};
use crate::{
    checkpoint::Model,
    device,
    error::{Error, Result},
    pipeline::{Request, run_dtype},
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
    /// Plan for this true classifier-free guidance scale, with a negative prompt
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    cfg: f64,
    /// Plan for a first-block cache of this threshold
    #[arg(long, value_name = "X")]
    cache_threshold: Option<f64>,
    /// Plan with a LoRA, as `generate` takes it; repeatable
    #[arg(long, value_name = "FILE[:STRENGTH]", help_heading = "Model")]
    lora: Vec<LoraArgument>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    memory: MemoryOptions,
}

impl Plan {
    pub fn run(self) -> Result<()> {
        let request = Request {
            frames: self.frames,
            cfg: self.cfg,
            negative_prompt: Some(String::new()),
            cache_threshold: self.cache_threshold,
            ..Request::new("planned").with_size(self.size.height, self.size.width)
        };
        request.validate()?;
        let device = device::open(&self.run.device)?;
        let paths = self.model.paths(self.run.quiet)?;
        let (architecture, stored) = if paths.is_empty() && self.lora.is_empty() {
            (Architecture::official(&device), FloatDType::BF16)
        } else {
            let mut model = match self.model.is_tiny() {
                true => Model::open(&paths)?,
                false => self.model.open(&device, self.run.quiet)?,
            };
            add_loras(&mut model, &self.lora)?;
            let transformer = model.transformer();
            let stored = transformer.map_or(FloatDType::BF16, |part| part.weights.main_dtype());
            (Architecture::of(&model, &device)?, stored)
        };
        let settings = Settings {
            dtype: run_dtype(&device, self.run.dtype.map(FloatDType::from), stored)?,
            quantization: self.memory.quantize,
            offload: self.memory.offload(),
            vae_tiling: self.run.vae_tiling,
            keep_loaded: self.run.keep_loaded,
            is_host: device::is_host(&device),
        };
        settings.check()?;
        let limit = self.memory.vram_limit.map(|limit| limit.0);
        let Some(limit) = limit.or_else(|| device::memory(&device)) else {
            let message = "this device does not tell its memory; give --vram-limit, as 24GiB";
            return Err(Error::Request(message.into()));
        };
        print(architecture.plan(&request, settings, limit)?)
    }
}
