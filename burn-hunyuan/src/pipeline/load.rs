//! Components in and out of memory.

use burn::module::Module;
use burn_hunyuan_dit::Dit;
use burn_hunyuan_text::{ClipTextEncoder, LlamaTextEncoder};
use burn_hunyuan_vae::Vae;

use super::{Pipeline, Progress, Stage};
use crate::{
    checkpoint::{Component, Weights, load_module},
    error::Result,
};

impl Pipeline {
    /// Streams weights into `module`.
    fn load<M: Module>(&mut self, stage: Stage, module: M, weights: &Weights) -> Result<M> {
        self.report(stage, 0, 0)?;
        let observer = &mut self.observer;
        let mut report = |done, total| observer(Progress { stage, done, total });
        let module = load_module(module, weights, self.dtype, &mut report)?;
        self.wait();
        Ok(module)
    }

    /// LLaMA, loaded if it is not.
    pub(super) fn text_encoder(&mut self) -> Result<LlamaTextEncoder> {
        if let Some(encoder) = self.text_encoder.take() {
            return Ok(encoder);
        }
        let part = self.model.text_encoder()?;
        let tokenizer = self.model.tokenizer(Component::TextEncoder)?;
        let module = part.config.init(&self.device);
        let module = self.load(Stage::LoadTextEncoder, module, &part.weights)?;
        Ok(LlamaTextEncoder::new(
            tokenizer,
            module,
            self.model.prompt_template(),
        )?)
    }

    /// CLIP, loaded if it is not.
    pub(super) fn text_encoder_2(&mut self) -> Result<ClipTextEncoder> {
        if let Some(encoder) = self.text_encoder_2.take() {
            return Ok(encoder);
        }
        let part = self.model.text_encoder_2()?;
        let tokenizer = self.model.tokenizer(Component::TextEncoder2)?;
        let module = part.config.init(&self.device);
        let module = self.load(Stage::LoadTextEncoder2, module, &part.weights)?;
        Ok(ClipTextEncoder::new(tokenizer, module)?)
    }

    /// The transformer, loaded if it is not.
    pub(super) fn transformer(&mut self) -> Result<Dit> {
        if let Some(transformer) = self.transformer.take() {
            return Ok(transformer);
        }
        let part = self.model.transformer()?;
        let module = part.config.init(&self.device);
        self.load(Stage::LoadTransformer, module, &part.weights)
    }

    /// The VAE, loaded if it is not.
    pub(super) fn vae(&mut self) -> Result<Vae> {
        if let Some(vae) = self.vae.take() {
            return Ok(vae);
        }
        let part = self.model.vae()?;
        let module = part.config.init(&self.device);
        self.load(Stage::LoadVae, module, &part.weights)
    }

    /// Uses `transformer`, which is on the pipeline's device and has no autodiff, until it is
    /// [freed](Self::free).
    pub fn set_transformer(&mut self, transformer: Dit) {
        self.transformer = Some(transformer);
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
