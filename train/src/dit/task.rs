//! The transformer's steps.

use std::{fs, path::Path};

use burn::{
    module::Module,
    tensor::{DType, Device, Tensor},
};
use burn_hunyuan_dit::{Condition, Dit, DitConfig};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use super::{
    Batches, Part, PathPoint, Position, Recipe, Sampler, Shards, Teacher, gradients,
    gradients_by_block, gradients_in_parallel, noise, parallel::Replica,
};
use crate::{
    error::{Error, Result},
    optimizer::{Gradients, Optimizer},
    parallel::{caught, guarded},
    parameters::Parameters,
    run::{Checkpoint, CheckpointWriter, Metrics, Task},
};

/// What checkpoints call the weights of a LoRA.
const LORA: &str = "lora";

/// What hears of the averaged weights at every evaluation.
type Listener = Box<dyn FnMut(&Parameters) -> Result<()>>;

/// A transformer in training: by flow matching or from a teacher, whole or beside a LoRA.
pub struct DitTask {
    /// What checkpoints call the weights.
    name: &'static str,
    model: Dit,
    guidance: bool,
    patch: [usize; 3],
    optimizer: Optimizer,
    /// Gradients that wait for the run's decision, and their norm.
    pending: Option<(Gradients, f64)>,
    teacher: Option<Teacher>,
    shards: Shards,
    batches: Batches,
    position: Position,
    recipe: Recipe,
    /// What the first device is called in messages.
    device_name: String,
    /// The others, where each has batches of its own.
    replicas: Vec<Replica>,
    sampler: Option<Sampler>,
    device: Device,
    on_evaluation: Option<Listener>,
}

impl DitTask {
    /// Trains `model` on `shards`, with a `teacher` for guidance distillation. The model is where
    /// it is to be trained.
    ///
    /// # Errors
    /// A configuration that cannot be meant; clips that do not fit the model.
    pub fn new(
        model: Dit,
        config: &DitConfig,
        teacher: Option<Teacher>,
        shards: Shards,
        recipe: &Recipe,
    ) -> Result<Self> {
        if teacher.is_some() && !config.guidance {
            let message = "a student needs a guidance embedding; this model has none";
            return Err(Error::Config(message.into()));
        }
        let model = model.train().set_require_grad(true);
        let task = Self::start("transformer", model, config, shards, recipe)?;
        Ok(Self { teacher, ..task })
    }

    /// Trains the LoRA that `recipe.lora` describes on `shards`. The weights of `model` stay as they
    /// are.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn lora(model: Dit, config: &DitConfig, shards: Shards, recipe: &Recipe) -> Result<Self> {
        let model = recipe.lora.attach(model.train(), recipe.run.seed);
        Self::start(LORA, model, config, shards, recipe)
    }

    /// Trains what of `model` wants a gradient.
    fn start(
        name: &'static str,
        model: Dit,
        config: &DitConfig,
        shards: Shards,
        recipe: &Recipe,
    ) -> Result<Self> {
        recipe.validate()?;
        check(config, &shards)?;
        let held_out = recipe.batch.held_out;
        let clips = shards.numbers().skip_while(|clip| *clip < held_out);
        let clips = clips.map(|clip| (clip, shards.latent_shape(clip), shards.weight(clip)));
        let text = shards.longest_text();
        let tokens = |shape| image_tokens(config.patch, shape) + text;
        let batches = Batches::new(&recipe.batch, recipe.run.seed, clips, tokens)?;
        Ok(Self {
            name,
            device: model.image_in.weight.device().without_autodiff(),
            optimizer: Optimizer::new(&recipe.optimizer, &model, recipe.run.steps),
            model,
            guidance: config.guidance,
            patch: config.patch,
            pending: None,
            teacher: None,
            shards,
            batches,
            position: Position::new(),
            recipe: recipe.clone(),
            sampler: None,
            on_evaluation: None,
            device_name: "of the model".into(),
            replicas: Vec::new(),
        })
    }

    /// Shows `listener` the [average](Self::average) at every evaluation.
    pub fn on_evaluation(
        mut self,
        listener: impl FnMut(&Parameters) -> Result<()> + 'static,
    ) -> Self {
        self.on_evaluation = Some(Box::new(listener));
        self
    }

    /// The averaged weights of what is trained.
    pub fn average(&self) -> &Parameters {
        self.optimizer.average()
    }

    /// Trains on several devices at once, given with their names for messages. The first is the one
    /// that the model is on; each of the others gets a copy.
    ///
    /// # Errors
    /// A device that fails.
    pub fn with_devices(mut self, devices: &[(String, Device)]) -> Result<Self> {
        let Some(((name, _), others)) = devices.split_first() else {
            return Ok(self);
        };
        self.device_name.clone_from(name);
        let copy = |(name, device): &(String, Device)| {
            Replica::new(name.clone(), device, &self.model, self.teacher.as_ref())
        };
        self.replicas = others.iter().map(copy).collect::<Result<_>>()?;
        Ok(self)
    }

    /// Generates samples with `sampler`, as often as the configuration says.
    pub fn with_sampler(mut self, sampler: Sampler) -> Self {
        self.sampler = Some(sampler);
        self
    }

    /// The model with the averaged weights.
    pub fn averaged(&self) -> Dit {
        self.optimizer.averaged(self.model.valid())
    }

    /// Latents of clips of one size: `[batch, channels, frames, height, width]`.
    fn latents(&self, clips: &[usize], device: &Device) -> Result<Tensor<5>> {
        let latents = clips.iter().map(|&clip| self.shards.latents(clip, device));
        Ok(Tensor::stack(
            latents.collect::<Result<Vec<Tensor<4>>>>()?,
            0,
        ))
    }

    /// One caption of each clip, padded to the longest of them. `None` is the empty one. Scale 1
    /// is no guidance.
    fn condition(&self, captions: &[(usize, Option<usize>)], device: &Device) -> Result<Condition> {
        let caption = |&(clip, caption)| self.shards.caption(clip, caption, device);
        let captions = captions.iter().map(caption).collect::<Result<Vec<_>>>()?;
        let text_lengths: Vec<usize> = captions
            .iter()
            .map(|(states, _)| states.dims()[0])
            .collect();
        let longest = text_lengths.iter().copied().max().unwrap_or(0);
        let (states, pooled): (Vec<_>, Vec<_>) = captions.into_iter().unzip();
        let padded = states.into_iter().map(|states| {
            let [tokens, channels] = states.dims();
            if tokens == longest {
                return states;
            }
            let padding = Tensor::zeros([longest - tokens, channels], (device, DType::F32));
            Tensor::cat(vec![states, padding], 0)
        });
        let options = (device, DType::F32);
        let guidance = Tensor::full([text_lengths.len()], 1000.0, options);
        Ok(Condition {
            text: Tensor::stack(padded.collect(), 0),
            text_lengths,
            pooled: Tensor::stack(pooled, 0),
            guidance: self.guidance.then_some(guidance),
        })
    }

    /// Brings the latest weights to the other devices.
    fn update_replicas(&mut self) -> Result<()> {
        let weights = self.optimizer.weights();
        let mut replicas = self.replicas.iter_mut();
        replicas.try_for_each(|replica| replica.update(weights))
    }

    /// Noise and times for clips.
    fn point(&self, clips: &[usize], rng: &mut ChaCha12Rng, device: &Device) -> Result<PathPoint> {
        let latents = self.latents(clips, device)?;
        let [batch, channels, frames, height, width] = latents.dims();
        let tokens = image_tokens(self.patch, [channels, frames, height, width]);
        let noise = noise(latents.dims(), rng, device);
        let draw = |_| self.recipe.flow.draw_time(tokens, rng);
        let times: Vec<f32> = (0..batch).map(draw).collect();
        Ok(PathPoint::new(latents, noise, &times))
    }

    /// The next batches, one for each device.
    fn parts(&mut self, rng: &mut ChaCha12Rng) -> Result<Vec<Part>> {
        let (device, model, name) = (&self.device, &self.model, &self.device_name);
        let first = (device, model, self.teacher.as_ref(), name);
        let others = self.replicas.iter();
        let others = others.map(|r| (&r.device, &r.model, r.teacher.as_ref(), &r.name));
        let mut position = self.position.clone();
        let parts = std::iter::once(first)
            .chain(others)
            .map(|(device, model, teacher, name)| {
                let clips = self.batches.next(&mut position, rng);
                let batch = guarded(name, || self.batch(&clips, rng, device, teacher))?;
                let (point, condition) = batch?;
                Ok(Part {
                    name: name.clone(),
                    model: model.clone(),
                    point,
                    condition,
                })
            });
        let parts = parts.collect();
        self.position = position;
        parts
    }

    /// A batch on a device: what the transformer sees, and the velocity it should see there.
    fn batch(
        &self,
        clips: &[usize],
        rng: &mut ChaCha12Rng,
        device: &Device,
        teacher: Option<&Teacher>,
    ) -> Result<(PathPoint, Condition)> {
        let mut point = self.point(clips, rng, device)?;
        let dropout = self.recipe.batch.caption_dropout;
        let captions: Vec<_> = clips
            .iter()
            .map(|&clip| {
                let told = rng.random_range(0..self.shards.captions(clip));
                (clip, (rng.random::<f64>() >= dropout).then_some(told))
            })
            .collect();
        let mut condition = self.condition(&captions, device)?;
        if let Some(teacher) = teacher {
            let scales = self.recipe.distill.draw_scales(clips.len(), rng);
            let untold: Vec<_> = clips.iter().map(|&clip| (clip, None)).collect();
            let empty = self.condition(&untold, device)?;
            point.velocity = teacher.guided_velocity(&point, &condition, &empty, &scales);
            let scales = Tensor::<1>::from_data(scales.as_slice(), (device, DType::F32));
            condition.guidance = Some(scales * 1000.0);
        }
        Ok((point, condition))
    }
}

impl Task for DitTask {
    fn kind(&self) -> &'static str {
        match (&self.teacher, self.name) {
            (Some(_), _) => "distill",
            (None, LORA) => "lora",
            (None, _) => "dit",
        }
    }

    fn gradients(&mut self, step: u64) -> Result<Metrics> {
        // All that a step draws follows from the seed and its number; nothing has to be saved.
        let mut rng = ChaCha12Rng::seed_from_u64(self.recipe.run.seed);
        rng.set_stream(step);
        let rounds = self.recipe.batch.accumulate;
        let share = 1.0 / (rounds * (1 + self.replicas.len())) as f64;
        let of = match self.recipe.model.recompute {
            true => gradients_by_block,
            false => gradients,
        };
        // Those of a step that was skipped are of no more use, and as large as the model.
        self.pending = None;
        let (mut loss, mut sum) = (0.0, Gradients::default());
        for _ in 0..rounds {
            let (part, gradients) = gradients_in_parallel(self.parts(&mut rng)?, share, of)?;
            loss += part;
            sum.add(gradients);
        }
        let norm = guarded(&self.device_name, || sum.norm())?;
        self.pending = Some((sum, norm));
        let learning_rate = self.optimizer.learning_rate();
        Ok(Metrics::new(loss)
            .with("grad_norm", norm)
            .with("learning_rate", learning_rate))
    }

    fn update(&mut self) -> Result<()> {
        if let Some((gradients, norm)) = self.pending.take() {
            let (optimizer, model) = (&mut self.optimizer, self.model.clone());
            self.model = guarded(&self.device_name, || optimizer.step(model, gradients, norm))?;
        }
        self.update_replicas()
    }

    /// The averaged weights' loss on the held-out clips, at noise and times that never change.
    fn evaluate(&mut self) -> Result<Option<Metrics>> {
        if let Some(listener) = &mut self.on_evaluation {
            let average = self.optimizer.average();
            guarded(&self.device_name, || listener(average))??;
        }
        let numbers = self.shards.numbers();
        let numbers = numbers.take_while(|clip| *clip < self.recipe.batch.held_out);
        let held_out: Vec<usize> = numbers.collect();
        if held_out.is_empty() {
            return Ok(None);
        }
        let loss = || {
            let (model, mut sum) = (self.averaged(), 0.0);
            for &clip in &held_out {
                let mut rng = ChaCha12Rng::seed_from_u64(clip as u64);
                let point = self.point(&[clip], &mut rng, &self.device)?;
                let condition = self.condition(&[(clip, Some(0))], &self.device)?;
                sum += f64::from(point.loss(&model, &condition).into_scalar::<f32>());
            }
            Ok::<_, Error>(sum / held_out.len() as f64)
        };
        let loss = guarded(&self.device_name, loss)??;
        Ok(Some(Metrics::new(loss)))
    }

    fn sample(&mut self, step: u64, folder: &Path) -> Result<bool> {
        let due = step.is_multiple_of(self.recipe.samples.every);
        let Some(mut sampler) = self.sampler.take_if(|_| due) else {
            return Ok(false);
        };
        let write = || {
            fs::create_dir_all(folder)?;
            sampler(self.averaged(), folder)
        };
        let written = caught(write).map_err(Box::from).flatten();
        self.sampler = Some(sampler);
        written.map_err(|e| Error::file(folder, e))?;
        Ok(true)
    }

    fn save(&self, checkpoint: &mut CheckpointWriter) -> Result<()> {
        let save = || self.optimizer.save(checkpoint, self.name);
        guarded(&self.device_name, save)??;
        checkpoint.state("position", &self.position)
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let model = self.model.clone();
        let restore = || self.optimizer.restore(checkpoint, self.name, model);
        self.model = guarded(&self.device_name, restore)??;
        self.position = checkpoint.state("position")?;
        self.update_replicas()
    }
}

/// Image tokens of latents `[channels, frames, height, width]`.
fn image_tokens(patch: [usize; 3], [_, frames, height, width]: [usize; 4]) -> usize {
    (frames / patch[0]) * (height / patch[1]) * (width / patch[2])
}

/// Refuses clips that the model cannot take.
fn check(config: &DitConfig, shards: &Shards) -> Result<()> {
    let [text, pooled] = shards.text_dims();
    if [text, pooled] != [config.text_dim, config.pooled_dim] {
        return Err(Error::Data(format!(
            "these shards' captions have {text} and {pooled} channels, but the transformer takes \
             {} and {}; cache them with the text encoders of the same model",
            config.text_dim, config.pooled_dim
        )));
    }
    for clip in shards.numbers() {
        let shape @ [channels, frames, height, width] = shards.latent_shape(clip);
        let [pt, ph, pw] = config.patch;
        let whole = frames % pt == 0 && height % ph == 0 && width % pw == 0;
        if channels != config.in_channels || !whole {
            return Err(Error::Data(format!(
                "clip {clip} has latents {shape:?}, but the transformer takes {} channels and \
                 multiples of {:?}",
                config.in_channels, config.patch
            )));
        }
    }
    Ok(())
}
