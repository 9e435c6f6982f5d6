//! How far the latents' distribution is from a standard normal.

use burn::tensor::Tensor;
use burn_hunyuan_vae::DiagonalGaussian;

/// Kullback-Leibler divergence of `posterior` from the standard normal, summed over all latents and
/// divided by `values`, the number of the video's values.
///
/// The reference of a KL term at weight 1e-6 is latent diffusion (arXiv 2112.10752), which sums both
/// this and the reconstruction error; dividing both by the same number keeps their balance at every
/// size and makes the reconstruction error a mean.
pub fn kl(posterior: &DiagonalGaussian, values: usize) -> Tensor<1> {
    let DiagonalGaussian { mean, logvar } = posterior;
    let twice = mean.clone().square() + logvar.clone().exp() - logvar.clone() - 1.0;
    twice.sum() * (0.5 / values as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    #[test]
    fn kl_of_two_gaussians_in_closed_form() {
        let device = Device::flex();
        let moments = |mean: [f32; 2], logvar: [f32; 2]| DiagonalGaussian {
            mean: Tensor::<1>::from_data(mean, (&device, DType::F32)).reshape([1, 2, 1, 1, 1]),
            logvar: Tensor::<1>::from_data(logvar, (&device, DType::F32)).reshape([1, 2, 1, 1, 1]),
        };
        let value = |posterior| kl(&posterior, 4).into_scalar::<f32>();
        assert_eq!(value(moments([0.0; 2], [0.0; 2])), 0.0);
        // (m² + s² − ln s² − 1) / 2 for each of m = 3, s² = 1 and m = 0, s² = 4.
        let expected = (4.5 + (4.0 - 4.0_f32.ln() - 1.0) / 2.0) / 4.0;
        let measured = value(moments([3.0, 0.0], [0.0, 4.0_f32.ln()]));
        assert!((measured - expected).abs() < 1e-6, "{measured} {expected}");
    }
}
