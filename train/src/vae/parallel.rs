//! Parts of a batch on several devices at once.

use burn::{
    module::Module,
    tensor::{Device, Tensor},
};
use burn_hunyuan_vae::{Tiling, Vae};

use super::{LossConfig, Losses, losses};
use crate::{
    error::Result,
    loss::{self, Discriminator, Lpips},
    optimizer::Gradients,
    parallel::{copy, guarded},
    parameters::{Parameters, with_parameters},
};

/// A device that takes part of every batch, with copies of all networks.
pub(super) struct Replica {
    /// What the device is called in messages.
    pub name: String,
    /// Without autodiff.
    pub device: Device,
    pub networks: Networks,
}

/// What a batch goes through, all of it on one device.
#[derive(Clone)]
pub(super) struct Networks {
    pub vae: Vae,
    /// Where there is an adversarial term.
    pub discriminator: Option<Discriminator>,
    /// Without autodiff, where there is a perceptual term.
    pub lpips: Option<Lpips>,
}

impl Replica {
    /// Copies `networks` to `device`.
    ///
    /// # Errors
    /// A device that is gone.
    pub fn new(name: String, device: &Device, networks: &Networks) -> Result<Self> {
        let copies = || Networks {
            vae: copy(&networks.vae, device),
            discriminator: networks.discriminator.as_ref().map(|d| copy(d, device)),
            lpips: networks.lpips.clone().map(|lpips| lpips.fork(device)),
        };
        Ok(Self {
            networks: guarded(&name, copies)?,
            name,
            device: device.clone().without_autodiff(),
        })
    }

    /// Takes over new weights.
    ///
    /// # Errors
    /// A device that is gone.
    pub fn update(&mut self, vae: &Parameters, discriminator: Option<&Parameters>) -> Result<()> {
        let Networks {
            vae: old,
            discriminator: critic,
            ..
        } = self.networks.clone();
        guarded(&self.name, || {
            self.networks.vae = with_parameters(old, vae);
            if let (Some(critic), Some(weights)) = (critic, discriminator) {
                self.networks.discriminator = Some(with_parameters(critic, weights));
            }
        })
    }
}

/// A part of a batch, and what it goes through, on the same device.
pub(super) struct Part {
    pub networks: Networks,
    /// `[batch, 3, frames, height, width]` in [−1, 1]
    pub video: Tensor<5>,
    /// Standard normal values of the latents' shape.
    pub noise: Tensor<5>,
    /// Whether the discriminator takes part yet.
    pub adversarial: bool,
}

/// What parts of a batch amount to: the losses, and their gradients by the networks.
#[derive(Default)]
pub(super) struct Lesson {
    /// What the VAE minimises.
    pub loss: f64,
    /// The losses by name, the discriminator's among them.
    pub terms: Vec<(&'static str, f64)>,
    pub vae: Gradients,
    /// None before the discriminator takes part.
    pub discriminator: Gradients,
}

impl Part {
    /// The losses and gradients of this part, multiplied by its `share` of the batch.
    pub fn learn(self, weights: &LossConfig, tiling: Option<&Tiling>, share: f64) -> Lesson {
        let Networks {
            vae,
            discriminator,
            lpips,
        } = self.networks;
        let critic = discriminator.filter(|_| self.adversarial);
        let losses = losses(
            &vae,
            self.video.clone(),
            self.noise,
            tiling,
            lpips.as_ref(),
            critic.as_ref(),
        );
        let total = losses.total(weights) * share;
        let gradients = Gradients::of(&vae, &mut total.backward());
        let named = [
            ("l1", Some(&losses.l1)),
            ("lpips", losses.lpips.as_ref()),
            ("adversarial", losses.adversarial.as_ref()),
            ("kl", Some(&losses.kl)),
        ];
        let terms = named.into_iter();
        let terms = terms.filter_map(|(name, term)| Some((name, scalar(term?.clone()) * share)));
        let mut lesson = Lesson {
            loss: scalar(total),
            terms: terms.collect(),
            vae: gradients,
            discriminator: Gradients::default(),
        };
        if let Some(critic) = critic {
            let loss = criticise(&critic, self.video, &losses) * share;
            lesson.discriminator = Gradients::of(&critic, &mut loss.backward());
            lesson.terms.push(("discriminator", scalar(loss)));
        }
        lesson
    }
}

/// The discriminator's loss on a clip and its reconstruction.
fn criticise(critic: &Discriminator, video: Tensor<5>, losses: &Losses) -> Tensor<1> {
    let fake = losses.reconstruction.clone().detach();
    loss::discriminator(critic.forward(video), critic.forward(fake))
}

impl Lesson {
    /// Adds another part of the batch, whose gradients come to `device`.
    pub fn add(&mut self, part: Self, device: &Device) {
        self.loss += part.loss;
        if self.terms.is_empty() {
            self.terms = part.terms;
        } else {
            for (sum, term) in self.terms.iter_mut().zip(part.terms) {
                sum.1 += term.1;
            }
        }
        self.vae.add(part.vae.to_device(device));
        self.discriminator.add(part.discriminator.to_device(device));
    }
}

/// A scalar on the host.
fn scalar(x: Tensor<1>) -> f64 {
    f64::from(x.into_scalar::<f32>())
}
