//! What training minimises, each term by its name.

mod adversarial;
mod kl;
mod lpips;

pub use adversarial::{Discriminator, DiscriminatorConfig, adversarial, discriminator};
pub use kl::kl;
pub use lpips::Lpips;

use burn::tensor::Tensor;

/// Mean absolute difference of two tensors.
pub fn l1<const D: usize>(a: Tensor<D>, b: Tensor<D>) -> Tensor<1> {
    (a - b).abs().mean()
}
