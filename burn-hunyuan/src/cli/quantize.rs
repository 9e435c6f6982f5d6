//! `burn-hunyuan quantize`.

use std::path::PathBuf;

use clap::Args;

use super::{
    options::{LoraArgument, ModelOptions, add_loras, safetensors_file},
    watch,
};
use crate::{
    checkpoint::{Quantization, save_quantized},
    device,
    error::Result,
};

#[derive(Debug, Args)]
pub(super) struct Quantize {
    /// The format of the blocks' large weights: int8, int4 or fp8
    #[arg(long, value_name = "FORMAT")]
    to: Quantization,
    /// The safetensors file to write, which `generate --transformer` reads
    #[arg(long, short, value_name = "FILE", value_parser = safetensors_file())]
    output: PathBuf,
    /// Add a LoRA first, with a strength other than 1 if given; repeatable
    #[arg(long, value_name = "FILE[:STRENGTH]")]
    lora: Vec<LoraArgument>,
    /// Device to compute LoRAs on: auto, or BACKEND[:INDEX] as `burn-hunyuan devices` lists them
    #[arg(long, default_value = "auto", value_name = "NAME")]
    device: String,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    model: ModelOptions,
}

impl Quantize {
    pub fn run(self) -> Result<()> {
        let device = device::open(&self.device)?;
        let mut model = self.model.open(&device, self.quiet)?;
        add_loras(&mut model, &self.lora)?;
        watch::catch_interrupts();
        let bar = watch::byte_bar("Quantizing", self.quiet);
        save_quantized(
            &model,
            &self.output,
            self.to,
            &device,
            &mut |done, total| {
                bar.set_length(total);
                bar.set_position(done);
                watch::interrupted()
            },
        )
    }
}
