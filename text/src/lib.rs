//! The two text encoders of HunyuanVideo (arXiv 2412.03603, section 4.2) as burn modules.
//!
//! A prompt reaches the diffusion transformer twice:
//!
//! | encoder | gives | where |
//! | --- | --- | --- |
//! | [`Llama`]: the language half of LLaVA-LLaMA-3-8B | one state for each token | the token refiner |
//! | [`Clip`]: the text half of CLIP-L | one pooled vector | the modulation |
//!
//! Both modules know token ids only. [`LlamaTextEncoder`] and [`ClipTextEncoder`] join them with a
//! [`Tokenizer`] and, for LLaMA, with the [`PromptTemplate`] that it was used with in training:
//!
//! ```no_run
//! use burn::tensor::Device;
//! use burn_hunyuan_text::{LlamaConfig, LlamaTextEncoder, PromptTemplate, Tokenizer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Device::default();
//! let llama = LlamaConfig::new().init(&device); // load the weights into it here
//! let tokenizer = Tokenizer::open("HunyuanVideo/tokenizer".as_ref())?;
//! let encoder = LlamaTextEncoder::new(tokenizer, llama, PromptTemplate::VIDEO)?;
//!
//! let prompt = encoder.encode("A cat walks on the grass, realistic style.")?;
//! println!("{:?}", prompt.states.dims()); // [1, tokens, 4096]
//! # Ok(())
//! # }
//! ```

mod clip;
mod encoder;
mod error;
mod llama;
mod mask;
mod template;
mod tokenizer;

pub use clip::{Activation, Clip, ClipConfig};
pub use encoder::{
    ClipTextEncoder, LlamaTextEncoder, PROMPT_TOKENS, PooledEmbedding, PromptEmbedding,
};
pub use error::Error;
pub use llama::{Llama, LlamaConfig, LlamaLayer};
pub use template::PromptTemplate;
pub use tokenizer::{Encoding, Tokenizer};
