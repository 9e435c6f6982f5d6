//! `burn-hunyuan train vae`.

use std::{ops::ControlFlow, path::Path};

use burn::tensor::{Device, FloatDType};
use burn_hunyuan_train::{
    data::SynthClips,
    loss::Lpips,
    vae::{LpipsWeights, ModelConfig, VaeData, VaeTask, VaeTraining, inflate, initialise},
};
use burn_hunyuan_vae::{Vae, VaeConfig};
use clap::Args;

use super::{super::print, TrainOptions};
use crate::{
    checkpoint::{Model, Weights, load_module},
    error::Result,
};

#[derive(Debug, Args)]
pub(super) struct TrainVae {
    #[command(flatten)]
    options: TrainOptions,
}

impl TrainVae {
    pub fn run(self) -> Result<()> {
        let options = &self.options;
        let config: VaeTraining = options.read()?;
        config.validate()?;
        let device = options.device()?;
        let clips = |held_out| SynthClips {
            seed: config.data.seed,
            held_out,
            scene_frames: config.data.scene_frames,
        };
        let data = VaeData {
            clips: Box::new(clips(false)),
            held_out: Box::new(clips(true)),
            lpips: lpips(&config.loss.lpips_weights()?, &device)?,
            export_to: options.folder().join("vae"),
        };
        let (sizes, vae) = start(&config.model, config.run.seed, &device.clone().autodiff())?;
        let mut task = VaeTask::new(vae, sizes, config.clone(), data, &device)?;
        options.train(&config.run, &config, &mut task)
    }
}

/// The model that the section `[model]` of a configuration describes.
fn start(config: &ModelConfig, seed: u64, device: &Device) -> Result<(VaeConfig, Vae)> {
    if config.weights == "random" {
        let sizes = config.vae();
        let vae = initialise(sizes.init(device), seed, config.initial_logvar);
        return Ok((sizes, vae));
    }
    let part = Model::open(&[&config.weights])?.vae()?;
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let vae = load_module(
        part.config.init(device),
        &part.weights,
        FloatDType::F32,
        go_on,
    )?;
    let vae = match config.inflate {
        true => inflate(vae),
        false => vae,
    };
    Ok((part.config, vae))
}

/// The network of the perceptual term; says where its weights are from.
fn lpips(weights: &LpipsWeights, device: &Device) -> Result<Option<Lpips>> {
    match weights {
        LpipsWeights::None => {
            print("no perceptual term: loss.lpips_vgg is \"none\"")?;
            Ok(None)
        }
        LpipsWeights::Random(seed) => {
            print(format!(
                "the perceptual term has random weights of seed {seed}, not the trained ones"
            ))?;
            Ok(Some(Lpips::random(*seed, device)))
        }
        LpipsWeights::Files(vgg, heads) => Ok(Some(load_lpips(vgg, heads, device)?)),
    }
}

/// LPIPS with the weights of torchvision's VGG-16 and of the `lpips` package, `.pth` or
/// safetensors.
fn load_lpips(vgg: &Path, heads: &Path, device: &Device) -> Result<Lpips> {
    let (vgg, heads) = (Weights::open(vgg)?, Weights::open(heads)?);
    let mut weights = Weights::new(vgg.origin());
    for (i, layer) in Lpips::torchvision_names().enumerate() {
        for field in ["weight", "bias"] {
            if let Some(tensor) = vgg.get(&format!("{layer}.{field}")) {
                weights.insert(format!("features.{i}.{field}"), tensor.clone());
            }
        }
    }
    for (name, tensor) in heads.iter() {
        let index = name
            .strip_prefix("lin")
            .and_then(|name| name.strip_suffix(".model.1.weight"));
        let flat = tensor.clone().reshaped(vec![tensor.elements()]);
        if let (Some(index), Some(tensor)) = (index, flat) {
            weights.insert(format!("heads.{index}"), tensor);
        }
    }
    let lpips = Lpips::new(device);
    Ok(load_module(
        lpips,
        &weights,
        FloatDType::F32,
        &mut |_, _| ControlFlow::Continue(()),
    )?)
}
