//! `burn-hunyuan lora`.

use std::path::PathBuf;

use burn::tensor::FloatDType;
use clap::{Args, Subcommand, ValueEnum};

use super::{
    options::{Dtype, LoraArgument, ModelOptions, add_loras, safetensors_file},
    watch,
};
use crate::{
    checkpoint::{Lora, LoraFormat, save_transformer},
    device,
    error::Result,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Write a LoRA file in another format
    Convert(Convert),
    /// Write a transformer with LoRAs added to its weights
    Merge(Merge),
}

impl Command {
    pub fn run(self) -> Result<()> {
        match self {
            Self::Convert(command) => command.run(),
            Self::Merge(command) => command.run(),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Convert {
    /// The LoRA, in any format that is read
    file: PathBuf,
    /// Format of the LoRA file
    #[arg(long, value_name = "FORMAT")]
    to: Format,
    /// The safetensors file to write
    #[arg(long, short, value_name = "FILE", value_parser = safetensors_file())]
    output: PathBuf,
}

/// A format of LoRA files.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Format {
    /// kohya and musubi-tuner
    Kohya,
    /// diffusers and PEFT
    Diffusers,
    /// Tencent's layer names, as diffusion-pipe and ComfyUI have them
    Original,
}

impl From<Format> for LoraFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Kohya => Self::Kohya,
            Format::Diffusers => Self::Diffusers,
            Format::Original => Self::Original,
        }
    }
}

impl Convert {
    fn run(self) -> Result<()> {
        Lora::open(&self.file)?.save(&self.output, self.to.into())
    }
}

#[derive(Debug, Args)]
pub(super) struct Merge {
    /// A LoRA to add, with a strength other than 1 if given; repeatable
    #[arg(long, required = true, value_name = "FILE[:STRENGTH]")]
    lora: Vec<LoraArgument>,
    /// The safetensors file to write, in diffusers' layout
    #[arg(long, short, value_name = "FILE", value_parser = safetensors_file())]
    output: PathBuf,
    /// Number format to write [default: as the transformer is stored]
    #[arg(long)]
    dtype: Option<Dtype>,
    /// Device to compute on: auto, or BACKEND[:INDEX] as `burn-hunyuan devices` lists them
    #[arg(long, default_value = "auto", value_name = "NAME")]
    device: String,
    /// Show no progress
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    model: ModelOptions,
}

impl Merge {
    fn run(self) -> Result<()> {
        let device = device::open(&self.device)?;
        let mut model = self.model.open(&device, self.quiet)?;
        add_loras(&mut model, &self.lora)?;
        let stored = model.transformer()?.weights.main_dtype();
        let dtype = self.dtype.map_or(stored, FloatDType::from);
        watch::catch_interrupts();
        let bar = watch::byte_bar("Merging", self.quiet);
        save_transformer(&model, &self.output, dtype, &device, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
            watch::interrupted()
        })
    }
}
