//! Flow-matching sampling: the noise schedule, the Euler step and the initial noise.
//!
//! HunyuanVideo (arXiv 2412.03603, section 4.3) learns the velocity `noise − data` along the
//! straight path between them; sampling integrates it from σ = 1 (noise) to σ = 0 (data).

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

/// The times at which the velocity is evaluated.
///
/// `σ = s·u / (1 + (s − 1)·u)` for `u` evenly spaced from 1 to 0 and the flow shift `s`: a shift
/// above 1 spends more steps near the noise. In f32, as the reference's
/// `FlowMatchEulerDiscreteScheduler`.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    sigmas: Vec<f32>,
}

impl Schedule {
    /// A schedule of `steps` steps with the flow shift `shift`.
    pub fn new(steps: usize, shift: f64) -> Self {
        let (shift, slope) = (shift as f32, (shift - 1.0) as f32);
        let sigma = |step: usize| {
            let u = (1.0 - step as f64 / steps as f64) as f32;
            shift * u / (1.0 + slope * u)
        };
        let mut sigmas: Vec<f32> = (0..steps).map(sigma).collect();
        sigmas.push(0.0);
        Self { sigmas }
    }

    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.sigmas.len() - 1
    }

    /// The noise level before step `step`, and after the last one for `step == steps()`.
    pub fn sigma(&self, step: usize) -> f32 {
        self.sigmas[step]
    }

    /// The model's time at `step`, 1000 σ.
    pub fn timestep(&self, step: usize) -> f32 {
        self.sigmas[step] * 1000.0
    }

    /// One Euler step: moves `latents` along `velocity` from σ of `step` to that of the next, in
    /// f32. Both of any one shape.
    pub fn step<const D: usize>(
        &self,
        step: usize,
        latents: Tensor<D>,
        velocity: Tensor<D>,
    ) -> Tensor<D> {
        latents + velocity.cast(DType::F32) * (self.sigmas[step + 1] - self.sigmas[step])
    }
}

/// Standard normal noise of the given shape in f32, the same for a seed on every device: it is
/// drawn on the host from ChaCha12.
pub fn noise<const D: usize>(shape: [usize; D], seed: u64, device: &Device) -> Tensor<D> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| StandardNormal.sample(&mut rng))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values printed by the reference's scheduler for `sigmas=linspace(1, 0, 5)[:-1]`, shift 7.
    #[test]
    fn schedule_is_the_references() {
        let schedule = Schedule::new(4, 7.0);
        let expected = [1.0, 0.954_545_44, 0.875, 0.7, 0.0];
        for (step, sigma) in expected.into_iter().enumerate() {
            assert!(
                (schedule.sigma(step) - sigma).abs() < 1e-7,
                "{step}: {schedule:?}"
            );
        }
        assert_eq!(schedule.timestep(0), 1000.0);
        assert_eq!(schedule.steps(), 4);
    }

    /// With the exact velocity of a straight path, any schedule ends at the data.
    #[test]
    fn euler_integrates_a_straight_path_exactly() {
        let device = crate::device::open("flex").unwrap();
        let data = noise([2, 3], 1, &device);
        let start = noise([2, 3], 2, &device);
        let schedule = Schedule::new(7, 3.0);
        let velocity = start.clone() - data.clone();
        let mut latents = start;
        for step in 0..schedule.steps() {
            latents = schedule.step(step, latents, velocity.clone());
        }
        let error = (latents - data).abs().max().into_scalar::<f32>();
        assert!(error < 1e-5, "{error}");
    }

    #[test]
    fn noise_is_normal_and_follows_the_seed() {
        let device = crate::device::open("flex").unwrap();
        let a = noise([1 << 16], 7, &device);
        let mean = a.clone().mean().into_scalar::<f32>();
        let variance = (a.clone() * a.clone()).mean().into_scalar::<f32>();
        assert!(
            mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02,
            "{mean} {variance}"
        );
        assert_eq!(a.to_data(), noise([1 << 16], 7, &device).to_data());
        assert_ne!(a.to_data(), noise([1 << 16], 8, &device).to_data());
    }
}
