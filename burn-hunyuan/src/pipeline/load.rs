//! Components in and out of memory.

use std::{ops::ControlFlow, sync::Arc};

use burn::{
    module::Module,
    tensor::{Device, FloatDType},
};
use burn_hunyuan_dit::Dit;
use burn_hunyuan_text::{ClipTextEncoder, LlamaTextEncoder};
use burn_hunyuan_vae::Vae;

use super::{
    Offload, Pipeline, Progress, Stage,
    llama::{Llama, take_layers},
    transformer::{Transformer, take_blocks, take_modulation},
};
use crate::{
    checkpoint::{self, Component, Weights, load_compressed, load_module, quantize},
    device,
    error::Result,
};

/// Streams weights into `module`, which is on `device`. An accelerator keeps those compressed that it
/// can decode; on a CPU nothing would be gained.
pub(super) fn load_onto<M: Module>(
    device: &Device,
    module: M,
    weights: &Weights,
    dtype: FloatDType,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> std::result::Result<M, checkpoint::Error> {
    match device::is_host(device) {
        true => load_module(module, weights, dtype, progress),
        false => load_compressed(module, weights, dtype, progress),
    }
}

impl Pipeline {
    /// Streams weights into `module`.
    fn load<M: Module>(&mut self, stage: Stage, module: M, weights: &Weights) -> Result<M> {
        self.report(stage, 0, 0)?;
        let observer = &mut self.observer;
        let mut report = |done, total| observer(Progress { stage, done, total });
        let module = load_onto(&self.device, module, weights, self.dtype, &mut report)?;
        self.wait();
        Ok(module)
    }

    /// LLaMA, loaded if it is not.
    pub(super) fn text_encoder(&mut self) -> Result<Arc<Llama>> {
        if let Some(encoder) = &self.text_encoder {
            return Ok(encoder.clone());
        }
        let mut part = self.model.text_encoder()?;
        let tokenizer = self.model.tokenizer(Component::TextEncoder)?;
        let planned = self.plan.as_ref().map(|plan| plan.text_offload);
        let layers = self
            .waits(&part.weights, planned)
            .then(|| take_layers(&mut part, &self.device, self.dtype));
        let module = part.config.init(&self.device);
        let module = self.load(Stage::LoadTextEncoder, module, &part.weights)?;
        let template = self.model.prompt_template();
        let encoder = LlamaTextEncoder::new(tokenizer, module, template)?;
        let llama = Arc::new(Llama::new(encoder, layers));
        Ok(self.text_encoder.insert(llama).clone())
    }

    /// CLIP, loaded if it is not.
    pub(super) fn text_encoder_2(&mut self) -> Result<Arc<ClipTextEncoder>> {
        if let Some(encoder) = &self.text_encoder_2 {
            return Ok(encoder.clone());
        }
        let part = self.model.text_encoder_2()?;
        let tokenizer = self.model.tokenizer(Component::TextEncoder2)?;
        let module = part.config.init(&self.device);
        let module = self.load(Stage::LoadTextEncoder2, module, &part.weights)?;
        let clip = Arc::new(ClipTextEncoder::new(tokenizer, module)?);
        Ok(self.text_encoder_2.insert(clip).clone())
    }

    /// The transformer, loaded if it is not.
    pub(super) fn transformer(&mut self) -> Result<Arc<Transformer>> {
        if let Some(transformer) = &self.transformer {
            return Ok(transformer.clone());
        }
        let mut part = self.model.transformer()?;
        if let Some(to) = self.quantization {
            let stage = Stage::LoadTransformer;
            let observer = &mut self.observer;
            let mut report = |done, total| observer(Progress { stage, done, total });
            part.weights = quantize(&part.weights, to, &self.device, &mut report)?;
        }
        let planned = self.plan.as_ref().map(|plan| plan.settings.offload);
        let waits = self.waits(&part.weights, planned);
        // A model that stays for many prompts keeps what it needs once for each.
        let keeps_modulation = self.keep_loaded && !waits;
        let (device, dtype) = (self.device.clone(), self.dtype);
        let modulation = (!keeps_modulation).then(|| take_modulation(&mut part, &device, dtype));
        let blocks = waits.then(|| take_blocks(&mut part, &device, dtype));
        let mut module = part.config.init(&device);
        if modulation.is_some() {
            module = module.without_modulation();
        }
        let dit = self.load(Stage::LoadTransformer, module, &part.weights)?;
        let transformer = Arc::new(Transformer::new(dit, modulation, blocks));
        Ok(self.transformer.insert(transformer).clone())
    }

    /// Whether blocks or layers wait outside of the device and are loaded when they run.
    fn waits(&self, weights: &Weights, planned: Option<Offload>) -> bool {
        let offload = match self.offload {
            Offload::Auto => planned.unwrap_or_default(),
            decided => decided,
        };
        match offload {
            Offload::Auto => {
                let stays_small = !device::is_host(&self.device) && weights.is_decoded_by_devices();
                weights.is_compressed() && !stays_small
            }
            Offload::Blocks => true,
            Offload::None => false,
        }
    }

    /// The VAE, loaded if it is not.
    pub(super) fn vae(&mut self) -> Result<Arc<Vae>> {
        if let Some(vae) = &self.vae {
            return Ok(vae.clone());
        }
        let part = self.model.vae()?;
        let module = part.config.init(&self.device);
        let vae = Arc::new(self.load(Stage::LoadVae, module, &part.weights)?);
        Ok(self.vae.insert(vae).clone())
    }

    /// Uses `transformer`, which is on the pipeline's device and has no autodiff, until it is
    /// [freed](Self::free).
    pub fn set_transformer(&mut self, transformer: Dit) {
        self.transformer = Some(Arc::new(transformer.into()));
    }

    /// Frees a component, unless components are to be kept loaded. It is loaded again when it is
    /// needed again.
    pub fn free(&mut self, component: Component) {
        if self.keep_loaded {
            return;
        }
        match component {
            Component::TextEncoder => self.text_encoder = None,
            Component::TextEncoder2 => self.text_encoder_2 = None,
            Component::Transformer => self.transformer = None,
            Component::Vae => self.vae = None,
        }
        // The device's allocator would keep the memory for later otherwise.
        self.wait();
        self.device.memory_cleanup();
    }
}
