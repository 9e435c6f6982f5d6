//! `burn-hunyuan train lora`.

use std::path::Path;

use burn_hunyuan_train::{
    Error as TrainError,
    dit::{DitTask, Recipe},
    parameters::Parameters,
};
use clap::Args;

use super::{super::lora::Format, TrainOptions, dit};
use crate::{
    checkpoint::{Lora, LoraFormat},
    error::{Error, Result},
};

#[derive(Debug, Args)]
pub(super) struct TrainLora {
    #[command(flatten)]
    options: TrainOptions,
    /// Format of the LoRA file
    #[arg(long, value_name = "FORMAT", default_value = "kohya")]
    format: Format,
}

impl TrainLora {
    /// After every evaluation, and however the run ends, the averaged LoRA is in
    /// `RUN/lora.safetensors`.
    pub fn run(self) -> Result<()> {
        let mut recipe: Recipe = self.options.read()?;
        recipe.validate()?;
        if recipe.model.weights == "random" {
            let message = "a LoRA is trained beside a transformer's weights; name them in \
                           model.weights";
            return Err(Error::Unusable(message.into()));
        }
        let shards = dit::shards(&recipe)?;
        let devices = self.options.devices(&mut recipe.devices)?;
        let of_the_model = dit::of_the_model(&recipe, &devices);
        let (config, model) = dit::start(&recipe.model, recipe.run.seed, &of_the_model)?;
        let task = DitTask::lora(model, &config, shards, &recipe)?;
        let task = dit::equip(task, &recipe, &config, &devices)?;

        let path = self.options.folder().join("lora.safetensors");
        let (alpha, format) = (recipe.lora.alpha, LoraFormat::from(self.format));
        let mlp_ratio = config.mlp_ratio;
        let save = move |path: &Path, weights: &Parameters| -> Result<()> {
            let tensors = weights.iter().map(|(name, p)| (name.clone(), p.to_file()));
            let lora = Lora::from_tensors(path, tensors, alpha)?;
            lora.with_mlp_ratio(mlp_ratio).save(path, format)
        };
        let evaluated = path.clone();
        let mut task = task.on_evaluation(move |average| {
            save(&evaluated, average).map_err(|e| TrainError::file(&evaluated, e))
        });
        self.options
            .train(&recipe.run, &recipe, &mut task, &path, |task| {
                save(&path, task.average())
            })
    }
}
