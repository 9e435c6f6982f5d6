//! VAE training as a run takes it.

use std::path::{Path, PathBuf};

use burn::{
    module::Module,
    tensor::{DType, Device, Tensor, TensorData},
};
use burn_hunyuan_vae::{Tiling, Vae, VaeConfig};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{Curriculum, Losses, SamplesConfig, VaeTraining, evaluate, export, losses, samples};
use crate::{
    data::{ClipRequest, Clips},
    error::{Error, Result},
    loss::{self, Discriminator, DiscriminatorConfig, Lpips},
    optimizer::{Gradients, Optimizer, OptimizerConfig},
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
    /// The folder that the averaged weights go to after every evaluation.
    pub export_to: PathBuf,
}

/// A VAE, its critic, their data and optimizers.
pub struct VaeTask {
    config: VaeTraining,
    sizes: VaeConfig,
    data: VaeData,
    curriculum: Curriculum,
    vae: Vae,
    optimizer: Optimizer,
    critic: Option<Critic>,
    device: Device,
    pending: Option<Pending>,
    step: u64,
}

/// The discriminator with an optimizer of its own.
struct Critic {
    model: Discriminator,
    optimizer: Optimizer,
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
        device.seed(config.run.seed); // For the discriminator.
        let device = device.clone().autodiff();
        let steps = config.run.steps;
        let critic = (config.loss.adversarial > 0.0).then(|| {
            let model = DiscriminatorConfig::new()
                .with_channels(config.loss.discriminator_channels)
                .init(&device);
            let optimizer = OptimizerConfig {
                learning_rate: config.loss.discriminator_learning_rate,
                ema_decay: 0.0,
                ..config.optimizer.clone()
            };
            let optimizer = Optimizer::new(&optimizer, &model, steps);
            Critic { model, optimizer }
        });
        Ok(Self {
            curriculum: Curriculum::new(config.stages.clone(), config.run.seed),
            optimizer: Optimizer::new(&config.optimizer, &vae, steps),
            vae,
            critic,
            device,
            pending: None,
            step: 0,
            data,
            sizes,
            config,
        })
    }

    /// The VAE as it is.
    pub fn vae(&self) -> &Vae {
        &self.vae
    }

    /// The VAE with the averaged weights, without autodiff.
    fn averaged(&self) -> Vae {
        self.optimizer.averaged(self.vae.clone()).valid()
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

    /// The discriminator's loss and gradients on a clip and its reconstruction.
    fn criticise(critic: &Critic, video: Tensor<5>, losses: &Losses) -> (f64, Gradients) {
        let fake = losses.reconstruction.clone().detach();
        let loss = loss::discriminator(critic.model.forward(video), critic.model.forward(fake));
        let gradients = Gradients::of(&critic.model, &mut loss.backward());
        (scalar(loss), gradients)
    }
}

impl Task for VaeTask {
    fn gradients(&mut self, step: u64) -> Result<Metrics> {
        self.step = step;
        let mut rng = self.curriculum.rng(step);
        let batch = self.curriculum.batch(step, &mut rng);
        let video = self.data.clips.batch(&batch.clips, &self.device)?;
        let tiling = batch
            .tiled
            .then(|| Self::tiling(&batch.clips))
            .transpose()?;
        let active = step >= self.config.loss.adversarial_from;
        let critic = self.critic.as_ref().filter(|_| active);
        let losses = losses(
            &self.vae,
            video.clone(),
            |shape| standard_normal(shape, &mut rng, &self.device),
            tiling.as_ref(),
            self.data.lpips.as_ref(),
            critic.map(|critic| &critic.model),
        );
        let total = losses.total(&self.config.loss);
        let gradients = Gradients::of(&self.vae, &mut total.backward());
        let norm = gradients.norm();

        let mut metrics = Metrics::new(scalar(total)).with("l1", scalar(losses.l1.clone()));
        let optional = [
            ("lpips", &losses.lpips),
            ("adversarial", &losses.adversarial),
        ];
        for (name, term) in optional {
            if let Some(term) = term {
                metrics = metrics.with(name, scalar(term.clone()));
            }
        }
        metrics = metrics
            .with("kl", scalar(losses.kl.clone()))
            .with("grad_norm", norm)
            .with("learning_rate", self.optimizer.learning_rate());
        let critic = critic.map(|critic| {
            let (loss, gradients) = Self::criticise(critic, video, &losses);
            metrics.terms.push(("discriminator", loss));
            let norm = gradients.norm();
            (gradients, norm)
        });
        self.pending = Some(Pending {
            vae: (gradients, norm),
            critic,
        });
        Ok(metrics)
    }

    fn update(&mut self) -> Result<()> {
        let Some(Pending { vae, critic }) = self.pending.take() else {
            return Ok(());
        };
        let (gradients, norm) = vae;
        self.vae = self.optimizer.step(self.vae.clone(), gradients, norm);
        if let (Some(Critic { model, optimizer }), Some((gradients, norm))) =
            (&mut self.critic, critic)
        {
            *model = optimizer.step(model.clone(), gradients, norm);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<Option<Metrics>> {
        let vae = self.averaged();
        let request = self.held_out_request();
        let evaluation = evaluate(
            &vae,
            self.data.held_out.as_mut(),
            &request,
            self.config.data.held_out,
            self.data.lpips.as_ref(),
            &self.device.clone().without_autodiff(),
        )?;
        let mut sizes = self.sizes.clone();
        if !self.config.model.freeze_encoder {
            sizes.scaling_factor = 1.0 / evaluation.latent_rms.max(1e-6);
        }
        export(&self.data.export_to, &sizes, &vae)?;
        Ok(Some(evaluation.metrics()))
    }

    fn sample(&mut self, step: u64, folder: &Path) -> Result<bool> {
        let SamplesConfig { every, clips } = self.config.samples;
        let due = every > 0 && clips > 0 && step.is_multiple_of(every);
        if due {
            let (vae, request) = (self.averaged(), self.held_out_request());
            let device = self.device.clone().without_autodiff();
            let held_out = self.data.held_out.as_mut();
            samples(&vae, held_out, &request, clips, &device, folder)?;
        }
        Ok(due)
    }

    fn save(&self, checkpoint: &mut CheckpointWriter) -> Result<()> {
        if let Some(critic) = &self.critic {
            critic.optimizer.save(checkpoint, "discriminator")?;
        }
        self.optimizer.save(checkpoint, "vae")
    }

    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        if let Some(Critic { model, optimizer }) = &mut self.critic {
            *model = optimizer.restore(checkpoint, "discriminator", model.clone())?;
        }
        let vae = self.vae.clone();
        self.vae = self.optimizer.restore(checkpoint, "vae", vae)?;
        Ok(())
    }
}

/// Standard normal values.
fn standard_normal(shape: [usize; 5], rng: &mut impl Rng, device: &Device) -> Tensor<5> {
    let count = shape.iter().product();
    let values: Vec<f32> = StandardNormal.sample_iter(rng).take(count).collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// A scalar on the host.
fn scalar(x: Tensor<1>) -> f64 {
    f64::from(x.into_scalar::<f32>())
}
