//! VAE training as a run takes it.

use std::path::{Path, PathBuf};

use burn::{
    module::Module,
    tensor::{DType, Device, Tensor, TensorData},
};
use burn_hunyuan_vae::{SPATIAL_COMPRESSION, TEMPORAL_COMPRESSION, Tiling, Vae, VaeConfig};
use rand::Rng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{
    Curriculum, DataConfig, Evaluation, SamplesConfig, VaeTraining, evaluate, export,
    parallel::{Lesson, Networks, Part, Replica},
    samples,
};
use crate::{
    data::{ClipRequest, Clips},
    error::{Error, Result},
    loss::{DiscriminatorConfig, Lpips},
    optimizer::{Gradients, Optimizer, OptimizerConfig},
    parallel::{caught, guarded, on_each},
    run::{Checkpoint, CheckpointWriter, Metrics, Task},
};

/// What a run of VAE training reads and writes beside its folder.
pub struct VaeData {
    /// The clips to train on.
    pub clips: Box<dyn Clips>,
    /// Clips that are not trained on.
    pub held_out: Box<dyn Clips>,
    /// The network of the perceptual term, without autodiff.
    pub lpips: Option<Lpips>,
    /// The folder that the averaged weights go to after every evaluation, and by
    /// [`export`](VaeTask::export).
    pub export_to: PathBuf,
}

/// A VAE, its critic, their data and optimizers.
pub struct VaeTask {
    config: VaeTraining,
    sizes: VaeConfig,
    data: VaeData,
    curriculum: Curriculum,
    networks: Networks,
    optimizer: Optimizer,
    /// The discriminator's, where there is one.
    critic_optimizer: Option<Optimizer>,
    /// Without autodiff.
    device: Device,
    /// What the first device is called in messages.
    device_name: String,
    /// The others.
    replicas: Vec<Replica>,
    pending: Option<Pending>,
    step: u64,
    /// The step whose weights were exported last.
    exported: Option<u64>,
}

/// Gradients, their norm, and the discriminator's, until it is decided whether to use them.
struct Pending {
    vae: (Gradients, f64),
    critic: Option<(Gradients, f64)>,
}

impl VaeTask {
    /// Trains `vae`, of these `sizes`, which is on `device` with autodiff.
    ///
    /// # Errors
    /// A configuration that cannot be carried out.
    pub fn new(
        vae: Vae,
        sizes: VaeConfig,
        config: VaeTraining,
        data: VaeData,
        device: &Device,
    ) -> Result<Self> {
        config.validate()?;
        let mut vae = vae.train().set_require_grad(true);
        if config.model.freeze_encoder {
            vae.encoder = vae.encoder.set_require_grad(false);
            vae.quant_conv = vae.quant_conv.set_require_grad(false);
        }
        let discriminator = (config.loss.adversarial > 0.0).then(|| {
            DiscriminatorConfig::new()
                .with_channels(config.loss.discriminator_channels)
                .init(&device.clone().autodiff(), config.run.seed)
        });
        let critic_options = OptimizerConfig {
            learning_rate: config.loss.discriminator_learning_rate,
            ema_decay: 0.0,
            ..config.optimizer.clone()
        };
        let steps = config.run.steps;
        let critic_optimizer = discriminator
            .as_ref()
            .map(|critic| Optimizer::new(&critic_options, critic, steps));
        Ok(Self {
            curriculum: Curriculum::new(config.stages.clone(), config.run.seed),
            optimizer: Optimizer::new(&config.optimizer, &vae, steps),
            critic_optimizer,
            networks: Networks {
                vae,
                discriminator,
                lpips: data.lpips.clone(),
            },
            device: device.clone().without_autodiff(),
            device_name: "of the model".into(),
            replicas: Vec::new(),
            pending: None,
            step: 0,
            exported: None,
            data,
            sizes,
            config,
        })
    }

    /// Trains on several devices at once, given with their names for messages; each has a batch of
    /// its own. The first is the one that the model is on; each of the others gets a copy.
    ///
    /// # Errors
    /// A device that fails.
    pub fn with_devices(mut self, devices: &[(String, Device)]) -> Result<Self> {
        let Some(((name, _), others)) = devices.split_first() else {
            return Ok(self);
        };
        self.device_name.clone_from(name);
        let copy =
            |(name, device): &(String, Device)| Replica::new(name.clone(), device, &self.networks);
        self.replicas = others.iter().map(copy).collect::<Result<_>>()?;
        Ok(self)
    }

    /// The VAE as it is.
    pub fn vae(&self) -> &Vae {
        &self.networks.vae
    }

    /// The VAE with the averaged weights, without autodiff.
    fn averaged(&self) -> Vae {
        self.optimizer.averaged(self.vae().clone()).valid()
    }

    /// Writes the averaged weights as a checkpoint that everything else loads, unless the latest
    /// evaluation has just done so.
    ///
    /// # Errors
    /// Clips that cannot be read; files that cannot be written.
    pub fn export(&mut self) -> Result<()> {
        match self.exported == Some(self.step) {
            true => Ok(()),
            false => self.evaluate().map(|_| ()),
        }
    }

    /// Measures the averaged weights and writes them with the scaling factor that gives the latents a
    /// mean square of 1; it stays as it was where the encoder is frozen. Where there are no
    /// evaluations, the clips are of those that are trained on.
    fn measure_and_export(&mut self) -> Result<Evaluation> {
        let vae = self.averaged();
        let request = self.held_out_request();
        let data = &mut self.data;
        let (clips, count) = match self.config.evaluates() {
            true => (&mut data.held_out, self.config.data.held_out),
            false => (&mut data.clips, DataConfig::default().held_out),
        };
        let lpips = self.networks.lpips.as_ref();
        let evaluation = evaluate(&vae, clips.as_mut(), &request, count, lpips, &self.device)?;
        let mut sizes = self.sizes.clone();
        if !self.config.model.freeze_encoder {
            sizes.scaling_factor = 1.0 / evaluation.latent_rms.max(1e-6);
        }
        export(&data.export_to, &sizes, &vae)?;
        self.exported = Some(self.step);
        Ok(evaluation)
    }

    /// Brings the latest weights to the other devices.
    fn update_replicas(&mut self) -> Result<()> {
        let vae = self.optimizer.weights();
        let discriminator = self.critic_optimizer.as_ref().map(Optimizer::weights);
        let mut replicas = self.replicas.iter_mut();
        replicas.try_for_each(|replica| replica.update(vae, discriminator))
    }

    /// A batch of `clips` for each device, with noise; the clips of a device follow those of the one
    /// before it.
    fn parts(
        &mut self,
        clips: &ClipRequest,
        adversarial: bool,
        rng: &mut ChaCha12Rng,
    ) -> Result<Vec<(String, Part)>> {
        let first = (&self.device_name, &self.device, &self.networks);
        let others = self.replicas.iter();
        let others = others.map(|r| (&r.name, &r.device, &r.networks));
        let mut request = *clips;
        let mut parts = Vec::new();
        for (name, device, networks) in std::iter::once(first).chain(others) {
            let device = device.clone().autodiff();
            let shape = latent_shape(&self.sizes, &request);
            let source = &mut self.data.clips;
            let (video, noise) = guarded(name, || {
                let video = source.batch(&request, &device)?;
                Ok::<_, Error>((video, standard_normal(shape, rng, &device)))
            })??;
            request.first += request.count as u64;
            let part = Part {
                networks: networks.clone(),
                video,
                noise,
                adversarial,
            };
            parts.push((name.clone(), part));
        }
        Ok(parts)
    }

    /// Held-out clips of the size of the stage that is under way.
    fn held_out_request(&self) -> ClipRequest {
        let stage = self.curriculum.stage(self.step);
        ClipRequest {
            first: 0,
            count: 1,
            frames: stage.frames,
            size: stage.size,
            frame_interval: 1,
        }
    }

    /// The tiling of a stage that trains with tiles: half of the clip along each axis, a quarter of
    /// that overlap, as inference has it.
    fn tiling(request: &ClipRequest) -> Result<Tiling> {
        let [height, width] = request.size;
        let tile = [request.frames, height, width].map(|length| (length / 2 / 32 * 32).max(32));
        let stride = tile.map(|length| length / 4 * 3);
        Tiling::new(tile, stride).map_err(|e| Error::Config(e.to_string()))
    }
}

impl Task for VaeTask {
    fn kind(&self) -> &'static str {
        "vae"
    }

    fn notes(&self) -> Vec<String> {
        let lpips = self.config.loss.lpips_weights();
        lpips.iter().map(ToString::to_string).collect()
    }

    fn gradients(&mut self, step: u64) -> Result<Metrics> {
        // Those of a step that was skipped are of no more use, and as large as the model.
        self.pending = None;
        self.step = step;
        let mut rng = self.curriculum.rng(step);
        let batch = self.curriculum.batch(step, &mut rng);
        let tiling = batch
            .tiled
            .then(|| Self::tiling(&batch.clips))
            .transpose()?;
        let has_critic = self.critic_optimizer.is_some();
        let adversarial = has_critic && step >= self.config.loss.adversarial_from;
        let parts = self.parts(&batch.clips, adversarial, &mut rng)?;
        let (weights, share) = (&self.config.loss, 1.0 / parts.len() as f64);
        let learn = |part: Part| part.learn(weights, tiling.as_ref(), share);
        let mut lesson = Lesson::default();
        for (name, part) in on_each(parts, learn)? {
            guarded(&name, || lesson.add(part, &self.device))?;
        }
        let norms = || [lesson.vae.norm(), lesson.discriminator.norm()];
        let [norm, critic_norm] = guarded(&self.device_name, norms)?;
        let mut metrics = Metrics::new(lesson.loss);
        metrics.terms = lesson.terms;
        metrics = metrics.with("grad_norm", norm);
        if adversarial {
            metrics = metrics.with("discriminator_grad_norm", critic_norm);
        }
        self.pending = Some(Pending {
            vae: (lesson.vae, norm),
            critic: adversarial.then_some((lesson.discriminator, critic_norm)),
        });
        Ok(metrics.with("learning_rate", self.optimizer.learning_rate()))
    }

    fn update(&mut self) -> Result<()> {
        let Some(Pending { vae, critic }) = self.pending.take() else {
            return Ok(());
        };
        guarded(&self.device_name, || {
            let Networks {
                vae: model,
                discriminator,
                ..
            } = &mut self.networks;
            let (gradients, norm) = vae;
            *model = self.optimizer.step(model.clone(), gradients, norm);
            if let (Some(model), Some(optimizer), Some((gradients, norm))) =
                (discriminator, &mut self.critic_optimizer, critic)
            {
                *model = optimizer.step(model.clone(), gradients, norm);
            }
        })?;
        self.update_replicas()
    }

    fn evaluate(&mut self) -> Result<Option<Metrics>> {
        let name = self.device_name.clone();
        let evaluation = guarded(&name, || self.measure_and_export())??;
        Ok(self.config.evaluates().then(|| evaluation.metrics()))
    }

    fn sample(&mut self, step: u64, folder: &Path) -> Result<bool> {
        let SamplesConfig { every, clips } = self.config.samples;
        let due = every > 0 && clips > 0 && step.is_multiple_of(every);
        if due {
            let write = || {
                let (vae, request) = (self.averaged(), self.held_out_request());
                let held_out = self.data.held_out.as_mut();
                samples(&vae, held_out, &request, clips, &self.device, folder)
            };
            caught(write).map_err(|reason| Error::file(folder, reason))??;
        }
        Ok(due)
    }

    fn save(&self, checkpoint: &mut CheckpointWriter) -> Result<()> {
        guarded(&self.device_name, || {
            if let Some(optimizer) = &self.critic_optimizer {
                optimizer.save(checkpoint, "discriminator")?;
            }
            self.optimizer.save(checkpoint, "vae")
        })?
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.step = checkpoint.state("step")?;
        guarded(&self.device_name, || {
            let Networks {
                vae, discriminator, ..
            } = &mut self.networks;
            // A run that had no adversarial term so far has no discriminator: it begins as new.
            if let (Some(model), Some(optimizer)) = (discriminator, &mut self.critic_optimizer)
                && Optimizer::is_in(checkpoint, "discriminator")
            {
                *model = optimizer.restore(checkpoint, "discriminator", model.clone())?;
            }
            *vae = self.optimizer.restore(checkpoint, "vae", vae.clone())?;
            Ok::<_, Error>(())
        })??;
        self.update_replicas()
    }
}

/// The extents of the latents of a batch.
fn latent_shape(sizes: &VaeConfig, clips: &ClipRequest) -> [usize; 5] {
    let [height, width] = clips.size.map(|side| side / SPATIAL_COMPRESSION);
    let frames = (clips.frames - 1) / TEMPORAL_COMPRESSION + 1;
    [clips.count, sizes.latent_channels, frames, height, width]
}

/// Standard normal values.
fn standard_normal(shape: [usize; 5], rng: &mut impl Rng, device: &Device) -> Tensor<5> {
    let count = shape.iter().product();
    let values: Vec<f32> = StandardNormal.sample_iter(rng).take(count).collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}
