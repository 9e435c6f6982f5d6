//! The losses of a step.

use burn::tensor::Tensor;
use burn_hunyuan_vae::{DiagonalGaussian, Tiling, Vae};

use super::LossConfig;
use crate::loss::{self, Discriminator, Lpips};

/// The terms of a step's loss, each a scalar, and the reconstruction that they are about.
#[derive(Clone, Debug)]
pub struct Losses {
    /// Mean absolute error of the reconstruction.
    pub l1: Tensor<1>,
    /// Its perceptual distance, where there is a network that tells.
    pub lpips: Option<Tensor<1>>,
    /// How little it convinces the discriminator, where there is one.
    pub adversarial: Option<Tensor<1>>,
    /// Divergence of the latents from a standard normal.
    pub kl: Tensor<1>,
    /// `[batch, 3, frames, height, width]`
    pub reconstruction: Tensor<5>,
}

impl Losses {
    /// The weighted sum.
    pub fn total(&self, weights: &LossConfig) -> Tensor<1> {
        let mut total = self.l1.clone() * weights.l1 + self.kl.clone() * weights.kl;
        let optional = [
            (&self.lpips, weights.lpips),
            (&self.adversarial, weights.adversarial),
        ];
        for (term, weight) in optional {
            if let Some(term) = term {
                total = total + term.clone() * weight;
            }
        }
        total
    }
}

/// Encodes `video`, samples latents with `noise`, decodes them, and compares.
///
/// With a `tiling` both passes are cut into tiles as inference does it.
///
/// # Shapes
/// - `video`: `[batch, 3, frames, height, width]` in [−1, 1]
/// - `noise`: standard normal values of the latents' shape
pub fn losses(
    vae: &Vae,
    video: Tensor<5>,
    noise: Tensor<5>,
    tiling: Option<&Tiling>,
    lpips: Option<&Lpips>,
    discriminator: Option<&Discriminator>,
) -> Losses {
    let posterior = match tiling {
        None => vae.encode(video.clone()),
        Some(tiling) => {
            let moments = vae.encode_tiles(video.clone(), tiling).flatten();
            DiagonalGaussian::from_moments(Tensor::cat(moments.collect(), 2))
        }
    };
    let latents = posterior.sample(noise);
    let reconstruction = match tiling {
        None => vae.decode(latents),
        Some(tiling) => Tensor::cat(vae.decode_tiles(latents, tiling).flatten().collect(), 2),
    };
    Losses {
        kl: loss::kl(&posterior, video.dims().iter().product()),
        lpips: lpips.map(|lpips| lpips.forward_clips(reconstruction.clone(), video.clone())),
        adversarial: discriminator
            .map(|critic| loss::adversarial(critic.forward(reconstruction.clone()))),
        l1: loss::l1(reconstruction.clone(), video),
        reconstruction,
    }
}
