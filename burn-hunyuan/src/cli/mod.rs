//! The command line: thin, over the library.

mod bench;
#[cfg(feature = "train")]
mod cache;
#[cfg(feature = "train")]
mod clips;
#[cfg(feature = "curate")]
mod curate;
mod devices;
mod generate;
mod inspect;
mod lora;
mod memory;
mod options;
mod plan;
mod quantize;
mod reconstruct;
#[cfg(feature = "curate")]
mod scenes;
#[cfg(feature = "train")]
mod synth;
#[cfg(feature = "train")]
mod train;
mod watch;
#[cfg(feature = "remote")]
mod worker;

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};

/// HunyuanVideo in pure Rust: text in, video out.
#[derive(Debug, Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Generate a video from a prompt
    Generate(Box<generate::Generate>),
    /// Encode a video and decode it again; prints PSNR and SSIM
    Reconstruct(reconstruct::Reconstruct),
    /// List a checkpoint's contents and check that it is complete, without loading it
    Inspect(inspect::Inspect),
    /// Draw captioned clips to train on
    #[cfg(feature = "train")]
    Synth(synth::Synth),
    /// Encode clips and captions into shards that `train dit` reads
    #[cfg(feature = "train")]
    Cache(Box<cache::Cache>),
    /// Train a model
    #[cfg(feature = "train")]
    Train(train::Train),
    /// Convert LoRA files between formats, or merge them into a transformer
    #[command(subcommand)]
    Lora(lora::Command),
    /// Predict the memory a generation needs, before anything is loaded
    Plan(Box<plan::Plan>),
    /// Write a transformer with its large weights in fewer bits
    Quantize(quantize::Quantize),
    /// Serve a device of this machine to runs on others
    #[cfg(feature = "remote")]
    Worker(worker::Worker),
    /// List the devices that this build can see
    Devices,
    /// Time a component with random weights; prints JSON
    Bench(bench::Bench),
    /// Turn raw videos and images into training sets
    #[cfg(feature = "curate")]
    Curate(curate::Curate),
    /// Find the scenes of videos: where they cut
    #[cfg(feature = "curate")]
    Scenes(scenes::Scenes),
}

/// Runs the program with the arguments of the process.
///
/// Exits with 0, with 1 for a failure, with 2 for bad usage.
pub fn run() -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::WARN)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .without_time()
        .with_target(false)
        .init();
    let result = match Arguments::parse().command {
        Command::Generate(command) => command.run(),
        Command::Reconstruct(command) => command.run(),
        Command::Inspect(command) => command.run(),
        #[cfg(feature = "train")]
        Command::Synth(command) => command.run(),
        #[cfg(feature = "train")]
        Command::Cache(command) => command.run(),
        #[cfg(feature = "train")]
        Command::Train(command) => command.run(),
        Command::Lora(command) => command.run(),
        Command::Plan(command) => command.run(),
        Command::Quantize(command) => command.run(),
        #[cfg(feature = "remote")]
        Command::Worker(command) => command.run(),
        Command::Devices => devices::run(),
        Command::Bench(command) => command.run(),
        #[cfg(feature = "curate")]
        Command::Curate(command) => command.run(),
        #[cfg(feature = "curate")]
        Command::Scenes(command) => command.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            match error {
                Error::Request(_) | Error::Device(_) | Error::Dtype { .. } => ExitCode::from(2),
                #[cfg(feature = "curate")]
                Error::Curate(burn_hunyuan_curate::Error::Request(_)) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// Prints a result to the standard output. A reader that has heard enough (`| head`) is no failure.
fn print(text: impl Display) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let message = format!("cannot write to the standard output: {error}");
            Err(Error::Unusable(message))
        }
        _ => Ok(()),
    }
}
