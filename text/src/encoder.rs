//! From a prompt to what conditions the diffusion transformer.

use std::borrow::Cow;

use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use crate::{Clip, Error, Llama, LlamaLayer, PromptTemplate, Tokenizer};

/// States of a prompt that LLaMA gives at most with the video template. The reference pads to as many.
pub const PROMPT_TOKENS: usize = 256;

/// Tokens that LLaMA reads, with either template.
const LLAMA_TOKENS: usize = PROMPT_TOKENS + PromptTemplate::VIDEO.crop;

/// LLaMA runs over a multiple of as many tokens. On GPUs kernels are chosen for each shape, so prompts
/// should come in few; and rows of attention's scores that are not aligned are slow to read.
const RUN_UNIT: usize = 64;

/// Tokens that CLIP reads.
const CLIP_TOKENS: usize = 77;

/// LLaMA with its tokenizer and template: one state for each token of a prompt.
#[derive(Debug)]
pub struct LlamaTextEncoder {
    tokenizer: Tokenizer,
    model: Llama,
    template: PromptTemplate,
}

/// A prompt as LLaMA understands it.
#[derive(Clone, Debug)]
pub struct PromptEmbedding {
    /// `[1, tokens, hidden]`, without padding; at most 256 tokens with the video template.
    pub states: Tensor<3>,
    /// The end of the prompt that had no room, if there is one.
    pub dropped: Option<String>,
}

impl LlamaTextEncoder {
    /// Joins the parts.
    ///
    /// # Errors
    /// If the tokenizer is not the model's.
    pub fn new(
        tokenizer: Tokenizer,
        model: Llama,
        template: PromptTemplate,
    ) -> Result<Self, Error> {
        let embedding = model.embed_tokens.weight.val();
        let tokenizer = fit(tokenizer, embedding.dims()[0], LLAMA_TOKENS)?;
        Ok(Self {
            tokenizer,
            model,
            template,
        })
    }

    /// Encodes a prompt, which may be empty.
    ///
    /// Reference: `_get_llama_prompt_embeds` of diffusers' `HunyuanVideoPipeline`.
    ///
    /// # Errors
    /// A prompt that the tokenizer refuses, a tokenizer that is not the template's.
    pub fn encode(&self, prompt: &str) -> Result<PromptEmbedding, Error> {
        self.encode_through(self.model.layers().map(Ok), prompt)
    }

    /// As [`encode`](Self::encode), through `layers` instead of the model's own: see
    /// [`Llama::forward_through`].
    ///
    /// # Errors
    /// [`encode`](Self::encode)'s, and the first of `layers`.
    pub fn encode_through<'a, E: From<Error>>(
        &self,
        layers: impl IntoIterator<Item = Result<Cow<'a, LlamaLayer>, E>>,
        prompt: &str,
    ) -> Result<PromptEmbedding, E> {
        let PromptTemplate { prefix, crop, .. } = self.template;
        let encoding = self.tokenizer.encode(&self.template.render(prompt))?;
        if encoding.length <= crop {
            let message = format!(
                "with its template it has {} tokens, of which the first {crop} are cut; this is \
                 not LLaMA-3's tokenizer",
                encoding.length
            );
            return Err(Error::Prompt(message).into());
        }
        let device = self.model.embed_tokens.weight.val().device();
        let run = encoding.length.next_multiple_of(RUN_UNIT);
        let tokens = token_tensor(&encoding.ids[..run.min(LLAMA_TOKENS)], &device);
        let states = self.model.forward_through(layers, tokens)?;
        // The template's own tail is cut first, which loses nothing of the prompt.
        let dropped_from = encoding
            .dropped_from
            .map(|at| at.saturating_sub(prefix.len()));
        Ok(PromptEmbedding {
            states: states.narrow(1, crop, encoding.length - crop),
            dropped: dropped_text(prompt, dropped_from),
        })
    }
}

/// CLIP with its tokenizer: one vector for a prompt.
#[derive(Debug)]
pub struct ClipTextEncoder {
    tokenizer: Tokenizer,
    model: Clip,
}

/// A prompt as CLIP understands it.
#[derive(Clone, Debug)]
pub struct PooledEmbedding {
    /// `[1, hidden]`.
    pub pooled: Tensor<2>,
    /// The end of the prompt that had no room, if there is one.
    pub dropped: Option<String>,
}

impl ClipTextEncoder {
    /// Joins the parts.
    ///
    /// # Errors
    /// If the tokenizer is not the model's, or the model has fewer than 77 positions.
    pub fn new(tokenizer: Tokenizer, model: Clip) -> Result<Self, Error> {
        let [vocabulary, _] = model.embeddings.token_embedding.weight.val().dims();
        let [positions, _] = model.embeddings.position_embedding.weight.val().dims();
        if positions < CLIP_TOKENS {
            return Err(Error::Positions {
                positions,
                tokens: CLIP_TOKENS,
            });
        }
        let tokenizer = fit(tokenizer, vocabulary, CLIP_TOKENS)?;
        Ok(Self { tokenizer, model })
    }

    /// Encodes a prompt, which may be empty.
    ///
    /// Reference: `_get_clip_prompt_embeds` of diffusers' `HunyuanVideoPipeline`.
    ///
    /// # Errors
    /// A prompt that the tokenizer refuses.
    pub fn encode(&self, prompt: &str) -> Result<PooledEmbedding, Error> {
        let encoding = self.tokenizer.encode(prompt)?;
        let device = self.model.embeddings.token_embedding.weight.val().device();
        Ok(PooledEmbedding {
            pooled: self.model.forward(token_tensor(&encoding.ids, &device)),
            dropped: dropped_text(prompt, encoding.dropped_from),
        })
    }
}

/// The tokenizer, set to `tokens`, if a model that embeds `embedded` tokens can read its ids.
fn fit(tokenizer: Tokenizer, embedded: usize, tokens: usize) -> Result<Tokenizer, Error> {
    let highest = tokenizer.highest_id();
    if highest as usize >= embedded {
        return Err(Error::Vocabulary { highest, embedded });
    }
    tokenizer.with_length(tokens)
}

/// The ids as a batch of one.
fn token_tensor(ids: &[u32], device: &Device) -> Tensor<2, Int> {
    let ids: Vec<i32> = ids.iter().map(|&id| id as i32).collect();
    let shape = [1, ids.len()];
    Tensor::from_data(TensorData::new(ids, shape), (device, DType::I32))
}

/// The end of the prompt from a byte position, unless nothing but spaces is there.
fn dropped_text(prompt: &str, from: Option<usize>) -> Option<String> {
    let text = prompt.get(from?..)?.trim();
    (!text.is_empty()).then(|| text.into())
}
