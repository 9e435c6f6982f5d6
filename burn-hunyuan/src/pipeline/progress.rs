//! What a pipeline is doing, for progress bars and cancellation.

use std::ops::ControlFlow;

/// A part of the way from a prompt to a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Reading LLaMA's weights; counted in bytes.
    LoadTextEncoder,
    /// Reading CLIP's weights; counted in bytes.
    LoadTextEncoder2,
    /// Encoding the prompts; counted in prompts.
    EncodePrompt,
    /// Reading the transformer's weights; counted in bytes.
    LoadTransformer,
    /// Removing the noise; counted in steps.
    Denoise,
    /// Reading the VAE's weights; counted in bytes.
    LoadVae,
    /// Encoding a video; counted in tiles.
    Encode,
    /// Decoding the latents; counted in tiles.
    Decode,
}

impl Stage {
    /// What the stage is called in front of a person.
    pub fn label(self) -> &'static str {
        match self {
            Self::LoadTextEncoder => "Loading LLaMA",
            Self::LoadTextEncoder2 => "Loading CLIP",
            Self::EncodePrompt => "Encoding the prompt",
            Self::LoadTransformer => "Loading the transformer",
            Self::Denoise => "Denoising",
            Self::LoadVae => "Loading the VAE",
            Self::Encode => "Encoding",
            Self::Decode => "Decoding",
        }
    }

    /// Whether the stage is counted in bytes.
    pub fn counts_bytes(self) -> bool {
        use Stage::{LoadTextEncoder, LoadTextEncoder2, LoadTransformer, LoadVae};
        matches!(
            self,
            LoadTextEncoder | LoadTextEncoder2 | LoadTransformer | LoadVae
        )
    }
}

/// How far a stage has come. A stage reports `done == 0` when it begins and `done == total` when
/// it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// Bytes, steps or tiles done.
    pub done: u64,
    /// Bytes, steps or tiles in all.
    pub total: u64,
}

/// Hears of progress; breaking stops the pipeline with [`Error::Cancelled`](crate::Error::Cancelled).
pub type Observer = Box<dyn FnMut(Progress) -> ControlFlow<()> + Send>;
