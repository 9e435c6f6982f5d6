//! Prompts to what conditions the transformer.

use burn::tensor::Tensor;

use super::{Pipeline, Stage, prompt_cache::PromptCache};
use crate::error::Result;

/// A prompt as both text encoders understand it.
#[derive(Debug, Clone)]
pub struct PromptCondition {
    /// LLaMA's states, `[1, tokens, hidden]`, without padding.
    pub states: Tensor<3>,
    /// CLIP's pooled state, `[1, hidden]`.
    pub pooled: Tensor<2>,
    /// The end of the prompt that LLaMA had no room for.
    pub dropped: Option<String>,
    /// The end of the prompt that CLIP had no room for.
    pub dropped_by_clip: Option<String>,
}

impl Pipeline {
    /// Encodes a prompt with both text encoders, which stay loaded until they are
    /// [freed](Self::free), or finds it among those that were encoded
    /// [before](Self::with_prompt_cache).
    ///
    /// # Errors
    /// Encoders that cannot be loaded, a prompt that cannot be told in tokens, an interruption.
    pub fn encode_prompt(&mut self, prompt: &str) -> Result<PromptCondition> {
        let Some(cache) = self.prompt_cache.clone() else {
            return self.encode_anew(prompt);
        };
        let path = cache.path(&self.model, &self.device, self.dtype, prompt)?;
        if let Some(known) = PromptCache::load(&path, &self.device, self.dtype) {
            self.report(Stage::EncodePrompt, 0, 1)?;
            self.report(Stage::EncodePrompt, 1, 1)?;
            return Ok(known);
        }
        let condition = self.encode_anew(prompt)?;
        if let Err(error) = cache.store(&path, &condition) {
            tracing::warn!("the encoded prompt is not kept: {error}");
        }
        Ok(condition)
    }

    fn encode_anew(&mut self, prompt: &str) -> Result<PromptCondition> {
        let llama = self.text_encoder()?;
        let clip = self.text_encoder_2()?;
        self.report(Stage::EncodePrompt, 0, 1)?;
        let prompted = llama.encode(prompt)?;
        let pooled = clip.encode(prompt)?;
        self.wait();
        self.report(Stage::EncodePrompt, 1, 1)?;
        Ok(PromptCondition {
            states: prompted.states,
            pooled: pooled.pooled,
            dropped: prompted.dropped,
            dropped_by_clip: pooled.dropped,
        })
    }
}
