//! `burn-hunyuan train vae`.

use std::sync::Arc;

use burn::tensor::Device;
use burn_hunyuan_train::{
    data::{Clips, Entry, SynthClips, list},
    loss::Lpips,
    vae::{LpipsWeights, ModelConfig, VaeData, VaeTask, VaeTraining, inflate, initialise},
};
use burn_hunyuan_vae::{Vae, VaeConfig};
use clap::Args;

use super::{
    TrainOptions,
    clips::{DatasetClips, Skipped},
    of_field,
};
use crate::{
    checkpoint::{Model, load_lpips},
    error::Result,
};

#[derive(Debug, Args)]
pub(super) struct TrainVae {
    #[command(flatten)]
    options: TrainOptions,
}

impl TrainVae {
    /// After every evaluation, and however the run ends, the averaged weights are in `RUN/vae`.
    pub fn run(self) -> Result<()> {
        let options = &self.options;
        let mut config: VaeTraining = options.read()?;
        config.validate()?;
        let devices = options.devices(&mut config.devices)?;
        let device = &devices[0].1;
        let [clips, held_out] = self.clips(&config)?;
        let folder = options.folder().join("vae");
        let data = VaeData {
            clips,
            held_out,
            lpips: lpips(&config.loss.lpips_weights()?, device)?,
            export_to: folder.clone(),
        };
        let (sizes, vae) = start(&config.model, config.run.seed, &device.clone().autodiff())?;
        let task = VaeTask::new(vae, sizes, config.clone(), data, device)?;
        let mut task = task.with_devices(&devices)?;
        options.train(&config.run, &config, &mut task, &folder, |task| {
            Ok(task.export()?)
        })
    }

    /// What is trained on, and what is held out.
    fn clips(&self, config: &VaeTraining) -> Result<[Box<dyn Clips>; 2]> {
        let data = &config.data;
        let Some(dataset) = &data.dataset else {
            return Ok([false, true].map(|held_out| -> Box<dyn Clips> {
                Box::new(SynthClips {
                    seed: data.seed,
                    held_out,
                    scene_frames: data.scene_frames,
                })
            }));
        };
        let skipped = Arc::new(Skipped::open(self.options.folder().join("skipped.txt")));
        let share = data.held_out_share;
        let (held_out, clips): (Vec<Entry>, _) = list(dataset)
            .map_err(of_field("data.dataset"))?
            .into_iter()
            .partition(|entry| entry.is_held_out(share));
        let open = |entries, used: bool| -> Result<Box<dyn Clips>> {
            let clips = DatasetClips::new(entries, data.seed, skipped.clone());
            for stage in config.stages.iter().filter(|_| used) {
                clips.check(stage.frames)?;
            }
            Ok(Box::new(clips))
        };
        Ok([open(clips, true)?, open(held_out, config.evaluates())?])
    }
}

/// The model that the section `[model]` of a configuration describes.
fn start(config: &ModelConfig, seed: u64, device: &Device) -> Result<(VaeConfig, Vae)> {
    if config.weights == "random" {
        let sizes = config.vae();
        let vae = initialise(sizes.init(device), seed, config.initial_logvar);
        return Ok((sizes, vae));
    }
    let part = Model::open(&[&config.weights]).and_then(|model| model.vae());
    let part = part.map_err(of_field("model.weights"))?;
    let vae = part.load(device)?;
    let vae = match config.inflate {
        true => inflate(vae),
        false => vae,
    };
    Ok((part.config, vae))
}

/// The network of the perceptual term.
fn lpips(weights: &LpipsWeights, device: &Device) -> Result<Option<Lpips>> {
    Ok(match weights {
        LpipsWeights::None => None,
        LpipsWeights::Random(seed) => Some(Lpips::random(*seed, device)),
        LpipsWeights::Files(vgg, heads) => Some(load_lpips(vgg, heads, device)?),
    })
}
