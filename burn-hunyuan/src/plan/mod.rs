//! What a generation will take of memory, told from shapes before a weight is read.

mod architecture;
mod elements;

use std::fmt;

use burn::tensor::FloatDType;
use burn_hunyuan_vae::TilingMode;

pub use architecture::Architecture;

use crate::{
    checkpoint::Quantization,
    error::{Error, Result},
    pipeline::Offload,
};

/// How a generation is to be run.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Number format.
    pub dtype: FloatDType,
    /// Compression of the transformer's large weights.
    pub quantization: Option<Quantization>,
    /// Where blocks wait.
    pub offload: Offload,
    /// How the VAE cuts the clip.
    pub vae_tiling: TilingMode,
    /// Whether every component stays loaded.
    pub keep_loaded: bool,
    /// Whether the device's memory is the host's.
    pub is_host: bool,
}

/// Settings that leave nothing open, and the memory that a generation is predicted to take with them.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The settings: [`Offload::Auto`], which is the transformer's here, and [`TilingMode::Auto`] are
    /// decided.
    pub settings: Settings,
    /// Where LLaMA's layers wait.
    pub text_offload: Offload,
    /// Encoding the prompt, removing the noise, decoding.
    pub stages: [Memory; 3],
    /// The request's height, width and frames.
    size: [usize; 3],
    /// The transformer's compressed weights in the host's memory, in bytes.
    pub compressed: u64,
}

/// The device's memory at the peak of a stage, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Weights that are loaded at once.
    pub weights: u64,
    /// Everything else.
    pub work: u64,
}

impl Settings {
    /// Refuses what would gain nothing.
    ///
    /// # Errors
    /// [`Offload::None`] with a quantization on a CPU.
    pub fn check(&self) -> Result<()> {
        match (self.quantization, self.offload) {
            (Some(to), Offload::None) if self.is_host => Err(Error::Request(format!(
                "on a CPU, weights in {to} are decoded block by block while the model runs; \
                 decoding all of them before (--offload none) would lose precision and save \
                 nothing"
            ))),
            _ => Ok(()),
        }
    }
}

impl Plan {
    /// The largest stage, in bytes.
    pub fn peak(&self) -> u64 {
        self.stages.iter().map(Memory::sum).max().unwrap_or(0)
    }
}

impl Memory {
    /// All of it, in bytes.
    pub fn sum(&self) -> u64 {
        self.weights.saturating_add(self.work)
    }
}

fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / (1 << 30) as f64)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [height, width, frames] = self.size;
        let Settings {
            offload,
            vae_tiling,
            ..
        } = self.settings;
        writeln!(
            f,
            "{height}x{width}, {frames} frames: {} at the peak",
            gib(self.peak())
        )?;
        let names = ["prompt", "denoising", "decoding"];
        for (name, stage) in names.iter().zip(&self.stages) {
            let [weights, work, sum] = [stage.weights, stage.work, stage.sum()].map(gib);
            writeln!(f, "  {name:<10}{sum:>10}  weights {weights}, work {work}")?;
        }
        let offload = match (offload, self.text_offload) {
            (Offload::None, Offload::None) => "none: all blocks on the device",
            (Offload::None, _) => {
                "auto: the transformer's blocks on the device, LLaMA's layers two at a time"
            }
            _ => "blocks: two at a time on the device",
        };
        writeln!(f, "  --offload {offload}")?;
        write!(f, "  --vae-tiling {vae_tiling}")?;
        if self.compressed > 0 {
            let compressed = gib(self.compressed);
            write!(
                f,
                "\n  compressed weights in the host's memory: {compressed}"
            )?;
        }
        Ok(())
    }
}
