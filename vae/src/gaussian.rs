//! What the encoder says about a video: a Gaussian for every latent.

use burn::tensor::Tensor;

/// Independent Gaussians, one for each latent.
///
/// diffusers' `DiagonalGaussianDistribution`.
#[derive(Clone, Debug)]
pub struct DiagonalGaussian {
    /// Means, `[batch, latent channels, frames, height, width]`.
    pub mean: Tensor<5>,
    /// Logarithms of the variances, of the same shape, within [−30, 20].
    pub logvar: Tensor<5>,
}

impl DiagonalGaussian {
    /// Splits the encoder's output into means and log-variances, and clamps the latter.
    ///
    /// # Shapes
    /// - `moments`: `[batch, 2 · latent channels, frames, height, width]`
    pub fn from_moments(moments: Tensor<5>) -> Self {
        let channels = moments.dims()[1] / 2;
        let mean = moments.clone().narrow(1, 0, channels);
        let logvar = moments.narrow(1, channels, channels).clamp(-30.0, 20.0);
        Self { mean, logvar }
    }

    /// A sample, `mean + exp(logvar / 2) · noise`.
    ///
    /// # Shapes
    /// - `noise`: standard normal values of the mean's shape
    pub fn sample(&self, noise: Tensor<5>) -> Tensor<5> {
        self.mean.clone() + (self.logvar.clone() * 0.5).exp() * noise
    }

    /// The most likely latents: the mean.
    pub fn mode(&self) -> Tensor<5> {
        self.mean.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device, Tolerance};

    #[test]
    fn log_variances_are_clamped_and_samples_scaled() {
        let device = Device::flex();
        let column = |values: [f32; 3]| {
            Tensor::<1>::from_data(values, (&device, DType::F32)).reshape([1, 3, 1, 1, 1])
        };
        let (mean, logvar) = ([1.0, 2.0, -3.0], [-50.0, 2.0 * 3f32.ln(), 90.0]);
        let posterior =
            DiagonalGaussian::from_moments(Tensor::cat(vec![column(mean), column(logvar)], 1));
        let flat = |x: Tensor<5>| x.flatten::<1>(0, 4).into_data();

        flat(posterior.mode()).assert_eq(&mean.into(), true);
        flat(posterior.logvar.clone()).assert_eq(&[-30.0, logvar[1], 20.0].into(), true);
        // Standard deviations: e^−15, 3, e^10.
        flat(posterior.sample(column([1.0, -1.0, 2.0]))).assert_approx_eq::<f32>(
            &[1.0 + (-15f32).exp(), -1.0, -3.0 + 2.0 * 10f32.exp()].into(),
            Tolerance::relative(1e-6),
        );
    }
}
