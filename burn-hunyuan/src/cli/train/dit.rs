//! `burn-hunyuan train dit` and `burn-hunyuan train distill`.

use std::{ops::ControlFlow, path::Path};

use burn::tensor::{Device, FloatDType};
use burn_hunyuan_dit::{Dit, DitConfig};
use burn_hunyuan_train::{
    dit::{DitTask, ModelConfig, Recipe, Shards, Split, Teacher, initialise, student},
    parameters::cast,
};
use clap::Args;

use super::{TrainOptions, of_field, samples::sampler};
use crate::{
    checkpoint::{Model, load_module, save_trained, transformer_config},
    error::{Error, Result},
};

#[derive(Debug, Args)]
pub(super) struct TrainDit {
    #[command(flatten)]
    options: TrainOptions,
}

#[derive(Debug, Args)]
pub(super) struct TrainDistill {
    #[command(flatten)]
    options: TrainOptions,
}

impl TrainDit {
    pub fn run(self) -> Result<()> {
        train(&self.options, |recipe, devices| {
            let (config, model) = start(&recipe.model, recipe.run.seed, devices)?;
            Ok((config, model, None))
        })
    }
}

impl TrainDistill {
    pub fn run(self) -> Result<()> {
        train(&self.options, |recipe, devices| {
            if recipe.model.weights == "random" {
                let message = "a student learns from a teacher's weights; name them in \
                               model.weights";
                return Err(Error::Unusable(message.into()));
            }
            let (config, teacher) = start(&recipe.model, recipe.run.seed, devices)?;
            if config.guidance {
                let weights = &recipe.model.weights;
                return Err(Error::Unusable(format!(
                    "{weights} has a guidance embedding, so it is distilled already; a teacher \
                     has none"
                )));
            }
            let config = config.with_guidance(true);
            let dtype = dtype(&recipe.model.dtype)?;
            let model = student(
                config.init(&devices[0]).split(devices),
                &teacher,
                recipe.run.seed,
            );
            Ok((config, cast(model, dtype), Some(Teacher::new(&teacher))))
        })
    }
}

/// What a run begins with: the sizes, the model, and who teaches it.
type Start = (DitConfig, Dit, Option<Teacher>);

/// Runs a configuration. However it ends, the averaged weights are in the folder `transformer` of
/// the run.
fn train(
    options: &TrainOptions,
    start: impl FnOnce(&Recipe, &[Device]) -> Result<Start>,
) -> Result<()> {
    let mut recipe: Recipe = options.read()?;
    recipe.validate()?;
    let shards = shards(&recipe)?;
    let devices = options.devices(&mut recipe.devices)?;
    let (config, model, teacher) = start(&recipe, &of_the_model(&recipe, &devices))?;
    let task = DitTask::new(model, &config, teacher, shards, &recipe)?;
    let mut task = equip(task, &recipe, &config, &devices)?;
    let folder = options.folder().join("transformer");
    options.train(&recipe.run, &recipe, &mut task, &folder, |task| {
        save_trained(&folder, &config, task.average())
    })
}

/// The shards that a configuration names.
pub(super) fn shards(recipe: &Recipe) -> Result<Shards> {
    let folders = &recipe.shards;
    let reason = if folders.is_empty() {
        "the configuration does not name them; give the folder that `burn-hunyuan cache` wrote"
            .into()
    } else if let Some(absent) = folders.iter().find(|folder| !folder.is_dir()) {
        format!(
            "there is no folder {}; `burn-hunyuan cache` writes it",
            absent.display()
        )
    } else {
        return Ok(Shards::open_all(folders)?);
    };
    Err(of_field("shards")(reason))
}

/// The devices that the model is on: the first, or all where they share its blocks.
pub(super) fn of_the_model(recipe: &Recipe, devices: &[(String, Device)]) -> Vec<Device> {
    let devices = devices.iter().map(|(_, device)| device.clone().autodiff());
    match recipe.split {
        Split::Batch => devices.take(1).collect(),
        Split::Blocks => devices.collect(),
    }
}

/// `task` with all devices that have batches of their own, and with what generates its samples.
pub(super) fn equip(
    mut task: DitTask,
    recipe: &Recipe,
    config: &DitConfig,
    devices: &[(String, Device)],
) -> Result<DitTask> {
    if recipe.split == Split::Batch {
        task = task.with_devices(devices)?;
    }
    Ok(match sampler(&recipe.samples, config, &devices[0].1)? {
        Some(sampler) => task.with_sampler(sampler),
        None => task,
    })
}

/// The model that the section `[model]` of a configuration describes, its blocks on `devices`.
pub(super) fn start(
    recipe: &ModelConfig,
    seed: u64,
    devices: &[Device],
) -> Result<(DitConfig, Dit)> {
    let device = &devices[0];
    let dtype = dtype(&recipe.dtype)?;
    if recipe.weights != "random" {
        let part = Model::open(&[&recipe.weights]).and_then(|model| model.transformer());
        let part = part.map_err(of_field("model.weights"))?;
        let model = part.config.init(device).split(devices);
        let go_on = &mut |_, _| ControlFlow::Continue(());
        let model = load_module(model, &part.weights, dtype, go_on)?;
        return Ok((part.config, model));
    }
    let config = match recipe.sizes.as_str() {
        "tiny" => Model::tiny(device)?.transformer()?.config,
        "13b" => DitConfig::new(),
        folder => transformer_config(Path::new(folder))?,
    };
    let config = config.with_guidance(recipe.guidance);
    let model = initialise(config.init(device).split(devices), seed);
    Ok((config, cast(model, dtype)))
}

/// A number format by its name in a configuration.
fn dtype(name: &str) -> Result<FloatDType> {
    match name {
        "f32" => Ok(FloatDType::F32),
        "bf16" => Ok(FloatDType::BF16),
        "f16" => Ok(FloatDType::F16),
        _ => Err(Error::Unusable(format!(
            "model.dtype is `{name}`; it can be f32, bf16 or f16"
        ))),
    }
}
