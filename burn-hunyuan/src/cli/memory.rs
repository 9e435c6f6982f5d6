//! Options that decide how much memory a generation takes.

use clap::{Args, ValueEnum};

use crate::{
    checkpoint::Quantization,
    error::Result,
    pipeline::{Offload, Pipeline},
};

/// What of the model is where, and how small.
#[derive(Debug, Args)]
#[command(next_help_heading = "Device and memory")]
pub(super) struct MemoryOptions {
    /// Compress the large weights of the transformer's blocks as they are loaded: int8, int4 or fp8.
    /// They are decoded as they are used
    #[arg(long, value_name = "FORMAT")]
    pub quantize: Option<Quantization>,
    /// Where the blocks of the transformer and the layers of LLaMA wait until they run: `blocks`
    /// keeps them in the file, or compressed in the host's memory; `none` keeps them all on the device
    /// [default: blocks if they do not all fit, and for compressed weights on a CPU; else none]
    #[arg(long, value_name = "WHAT")]
    offload: Option<OffloadArgument>,
    /// Memory limit; chooses --offload and --vae-tiling unless you set them, and fails if nothing fits
    /// [default: what the device reports; none on wgpu]
    #[arg(long, value_name = "SIZE")]
    pub vram_limit: Option<ByteSize>,
}

/// What stays off the device.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum OffloadArgument {
    Blocks,
    None,
}

impl MemoryOptions {
    /// Where blocks are to wait.
    pub fn offload(&self) -> Offload {
        match self.offload {
            None => Offload::Auto,
            Some(OffloadArgument::Blocks) => Offload::Blocks,
            Some(OffloadArgument::None) => Offload::None,
        }
    }

    /// The pipeline with these options.
    pub fn apply(&self, pipeline: Pipeline) -> Result<Pipeline> {
        let limit = self.vram_limit.map(|limit| limit.0);
        Ok(pipeline
            .with_quantization(self.quantize)?
            .with_offload(self.offload())?
            .with_memory_limit(limit))
    }
}

/// A number of bytes, written `24GiB`, `6000MB` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSize(pub u64);

impl std::str::FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        const UNITS: [(&str, f64); 6] = [
            ("TiB", (1_u64 << 40) as f64),
            ("GiB", (1 << 30) as f64),
            ("MiB", (1 << 20) as f64),
            ("TB", 1e12),
            ("GB", 1e9),
            ("MB", 1e6),
        ];
        let parsed = UNITS.iter().find_map(|(unit, bytes)| {
            let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
            (number.is_finite() && number > 0.0).then_some(Self((number * bytes) as u64))
        });
        parsed.ok_or_else(|| format!("`{text}` is not a size, as 24GiB or 6000MB"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!("24GiB".parse(), Ok(ByteSize(24 << 30)));
        assert_eq!("1.5 GB".parse(), Ok(ByteSize(1_500_000_000)));
        for wrong in ["24", "GiB", "-1GiB", "nanGB", "24 gallons"] {
            assert!(wrong.parse::<ByteSize>().unwrap_err().contains("24GiB"));
        }
    }
}
