//! `burn-hunyuan train`.

mod clips;
mod dashboard;
mod dit;
mod lora;
mod samples;
mod vae;

use std::{
    fmt::Display,
    io::{IsTerminal, stdout},
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use burn_hunyuan_train::{
    config, report,
    run::{Event, Outcome, Run, RunConfig, Task},
};
use clap::{Args, Subcommand};
use serde::{Serialize, de::DeserializeOwned};

use super::{print, watch};
use crate::{
    device,
    error::{Error, Result},
};
use dashboard::Dashboard;

#[derive(Debug, Args)]
pub(super) struct Train {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Train the VAE, from nothing or from weights
    Vae(vae::TrainVae),
    /// Train the diffusion transformer by flow matching
    Dit(dit::TrainDit),
    /// Train a LoRA: small matrices beside the frozen weights of a transformer
    Lora(lora::TrainLora),
    /// Distil guidance into a transformer with a guidance embedding
    Distill(dit::TrainDistill),
    /// Write a run's curves and samples as one HTML page into its folder
    Report {
        /// The run's folder
        #[arg(value_name = "RUN")]
        run: PathBuf,
    },
}

impl Train {
    pub fn run(self) -> Result<()> {
        match self.what {
            What::Vae(command) => command.run(),
            What::Dit(command) => command.run(),
            What::Lora(command) => command.run(),
            What::Distill(command) => command.run(),
            What::Report { run } => print(report::write(&run)?.display()),
        }
    }
}

/// What every kind of training takes.
#[derive(Debug, Args)]
struct TrainOptions {
    /// The configuration, TOML
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The run's folder [default: `runs/` and the configuration's name]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Continue the run in the folder
    #[arg(long)]
    resume: bool,
    /// The device; see `burn-hunyuan devices`. Repeat it to share the work among several, as the
    /// configuration's `split` says [default: the configuration's, else auto]
    #[arg(long = "device", value_name = "DEVICE")]
    devices: Vec<String>,
    /// Override a field of the configuration, for example `run.steps=100`; repeatable
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print log lines instead of a dashboard (automatic when output is not a terminal)
    #[arg(long)]
    plain: bool,
}

impl TrainOptions {
    /// The devices by name, at least one: those of the command line, else those that are
    /// `configured`, which is brought up to date.
    fn devices(&self, configured: &mut Vec<String>) -> Result<Vec<(String, Device)>> {
        if !self.devices.is_empty() {
            configured.clone_from(&self.devices);
        }
        if configured.is_empty() {
            configured.push("auto".into());
        }
        let open = |name: &String| Ok((name.clone(), device::open(name)?));
        configured.iter().map(open).collect()
    }

    fn read<C: DeserializeOwned>(&self) -> Result<C> {
        Ok(config::read(&self.config, &self.set)?)
    }

    fn folder(&self) -> PathBuf {
        let name = self.config.file_stem().unwrap_or_default();
        let default = || PathBuf::from("runs").join(name);
        self.output.clone().unwrap_or_else(default)
    }

    /// Trains `task` in the run's folder until it is finished or a signal asks to stop. Either way
    /// `save` then writes what came of it to `result`.
    fn train<T: Task>(
        &self,
        run: &RunConfig,
        config: &impl Serialize,
        task: &mut T,
        result: &Path,
        save: impl FnOnce(&mut T) -> Result<()>,
    ) -> Result<()> {
        let resolved = config::resolved(config)?;
        let steps = run.steps;
        let run = Run::open(&self.folder(), run, &resolved, self.resume)?;
        let dashboard = (!self.plain && stdout().is_terminal()).then(|| Dashboard::open(steps));
        let run = match dashboard.transpose().unwrap_or_default() {
            Some(mut dashboard) => run.on_event(move |event| dashboard.show(event)),
            None => run.on_event(plain),
        };
        watch::stop_on_interrupt(run.stop_flag());
        let outcome = run.train(task)?;
        save(task)?;
        let result = result.display();
        match outcome {
            Outcome::Finished => print(format_args!("finished: {result}")),
            Outcome::Stopped(_) => print(format_args!("so far: {result}; give --resume to go on")),
        }
    }
}

/// For `map_err`: names the field of the configuration that something is wrong with.
fn of_field<E: Display>(field: &'static str) -> impl FnOnce(E) -> Error {
    move |error| Error::Unusable(format!("{field}: {error}"))
}

/// Prints the lines; a reader that has gone does not end the run.
fn plain(event: Event) {
    if let Event::Line(line) = event {
        let _ = print(line);
    }
}
