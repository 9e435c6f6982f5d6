//! LLaMA whose layers are all on the device, or come there one after the other.

use std::{borrow::Cow, sync::Arc};

use burn::tensor::{Device, FloatDType};
use burn_hunyuan_text::{LlamaConfig, LlamaLayer, LlamaTextEncoder, PromptEmbedding};

use super::stored::Stored;
use crate::checkpoint::{Error, Part};

/// LLaMA, ready to run.
pub(super) struct Llama {
    encoder: LlamaTextEncoder,
    /// The layers that `encoder` lacks.
    stored: Option<Arc<Stored<LlamaConfig>>>,
}

/// Takes the layers out of a LLaMA that is to be loaded.
pub(super) fn take_layers(
    part: &mut Part<LlamaConfig>,
    device: &Device,
    dtype: FloatDType,
) -> Stored<LlamaConfig> {
    let layers = 0..part.config.layers;
    let prefixes: Vec<_> = layers.map(|i| format!("layers.{i}.")).collect();
    let stored = Stored::take(part, &prefixes, device, dtype);
    part.config.layers = 0;
    stored
}

fn load_layer(
    stored: &Stored<LlamaConfig>,
    index: usize,
) -> Result<Cow<'static, LlamaLayer>, Error> {
    let layer = stored.config.init_layer(&stored.device);
    stored.load(layer, index).map(Cow::Owned)
}

impl Llama {
    /// `encoder` with the layers that it lacks, if it lacks them.
    pub fn new(encoder: LlamaTextEncoder, layers: Option<Stored<LlamaConfig>>) -> Self {
        let stored = layers.map(Arc::new);
        Self { encoder, stored }
    }

    /// Encodes a prompt: see [`LlamaTextEncoder::encode`].
    ///
    /// # Errors
    /// Its own, and layers that cannot be read.
    pub fn encode(&self, prompt: &str) -> crate::Result<PromptEmbedding> {
        match &self.stored {
            None => Ok(self.encoder.encode(prompt)?),
            Some(stored) => {
                let layers = stored.stream(load_layer);
                let layers = layers.map(|layer| layer.map_err(crate::Error::from));
                self.encoder.encode_through(layers, prompt)
            }
        }
    }
}
