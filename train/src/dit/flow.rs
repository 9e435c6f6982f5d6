//! Flow matching: the path from noise to data, the times on it, and the loss.

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_hunyuan_dit::{Condition, Dit};
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};

use crate::error::{Result, require};

/// Section `[flow]` of a configuration: at which times the transformer learns.
///
/// A time is drawn logit-normal, `u = sigmoid(mean + std · n)` for a normal `n`
/// (arXiv 2412.03603, "Model-pretraining"), and shifted towards the noise, `s·u / (1 + (s − 1)·u)`, the
/// more the larger the clip: `s = shift · √(tokens / shift_tokens)`, at least 1
/// (arXiv 2403.03206, section 5.3.2: more values need more noise to be hidden equally well).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowConfig {
    /// Mean of the logit of the time; above 0 is more noise.
    pub time_mean: f64,
    /// Standard deviation of the logit of the time.
    pub time_std: f64,
    /// The shift of clips of `shift_tokens` image tokens. The default is what sampling uses at
    /// 720×1280×129.
    pub shift: f64,
    /// Image tokens at which the shift is `shift`.
    pub shift_tokens: usize,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            time_mean: 0.0,
            time_std: 1.0,
            shift: 7.0,
            shift_tokens: 118_800,
        }
    }
}

impl FlowConfig {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with the field's name.
    pub fn validate(&self) -> Result<()> {
        let positive = |x: f64| x > 0.0 && x.is_finite();
        require(&[
            (
                self.time_mean.is_finite(),
                "flow.time_mean has to be finite",
            ),
            (positive(self.time_std), "flow.time_std has to be above 0"),
            (positive(self.shift), "flow.shift has to be above 0"),
            (self.shift_tokens > 0, "flow.shift_tokens has to be above 0"),
        ])
    }

    /// The shift for clips of `tokens` image tokens.
    pub fn shift_for(&self, tokens: usize) -> f64 {
        (self.shift * (tokens as f64 / self.shift_tokens as f64).sqrt()).max(1.0)
    }

    /// A time between 0 (data) and 1 (noise) for a clip of `tokens` image tokens.
    pub fn draw_time(&self, tokens: usize, rng: &mut ChaCha12Rng) -> f32 {
        let normal: f64 = StandardNormal.sample(rng);
        let u = 1.0 / (1.0 + (-self.time_mean - self.time_std * normal).exp());
        let shift = self.shift_for(tokens);
        (shift * u / (1.0 + (shift - 1.0) * u)) as f32
    }
}

/// A point on the path between noise and data, and the velocity there.
#[derive(Clone, Debug)]
pub struct PathPoint {
    /// `(1 − t) · data + t · noise`, `[batch, channels, frames, height, width]`.
    pub latents: Tensor<5>,
    /// The transformer's time, `1000 t`, f32 `[batch]`.
    pub timestep: Tensor<1>,
    /// `noise − data`, as `latents`.
    pub velocity: Tensor<5>,
}

impl PathPoint {
    /// The points at `times`, one for each sample of the batch.
    pub fn new(data: Tensor<5>, noise: Tensor<5>, times: &[f32]) -> Self {
        let times = Tensor::<1>::from_data(times, (&data.device(), DType::F32));
        let t = times.clone().reshape([-1, 1, 1, 1, 1]);
        let velocity = noise - data.clone();
        Self {
            latents: data + velocity.clone() * t,
            timestep: times * 1000.0,
            velocity,
        }
    }

    /// The mean squared error of the transformer's velocity, in f32.
    pub fn loss(&self, model: &Dit, condition: &Condition) -> Tensor<1> {
        let (latents, timestep) = (self.latents.clone(), self.timestep.clone());
        let velocity = model.forward(latents, timestep, condition);
        mean_squared_error(velocity, self.velocity.clone())
    }
}

/// The mean of the squared differences, in f32.
pub(super) fn mean_squared_error(ours: Tensor<5>, target: Tensor<5>) -> Tensor<1> {
    (ours.cast(DType::F32) - target.cast(DType::F32))
        .square()
        .mean()
}

/// Standard normal noise, drawn on the host so that it is the same on every device.
pub fn noise<const D: usize>(
    shape: [usize; D],
    rng: &mut ChaCha12Rng,
    device: &Device,
) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product())
        .map(|_| StandardNormal.sample(rng))
        .collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn the_path_leads_from_data_to_noise() {
        let (device, mut rng) = (Device::flex(), ChaCha12Rng::seed_from_u64(0));
        let data = noise([3, 2, 1, 2, 2], &mut rng, &device);
        let end = noise([3, 2, 1, 2, 2], &mut rng, &device);
        let point = PathPoint::new(data.clone(), end.clone(), &[0.0, 1.0, 0.25]);
        let of = |x: &Tensor<5>, i| x.clone().narrow(0, i, 1);
        let assert_is = |i, expected: Tensor<5>| {
            let error = (of(&point.latents, i) - expected).abs().max();
            assert!(error.into_scalar::<f32>() < 1e-6);
        };
        assert_is(0, of(&data, 0));
        assert_is(1, of(&end, 1));
        assert_is(2, of(&data, 2) * 0.75 + of(&end, 2) * 0.25);
        let timestep = point.timestep.to_data().try_to_vec::<f32>().unwrap();
        assert_eq!(timestep, [0.0, 1000.0, 250.0]);
    }

    /// The shift keeps the order, so it maps the median of the logit-normal, 1/2, to its own.
    #[test]
    fn times_are_logit_normal_and_larger_clips_get_later_ones() {
        let config = FlowConfig::default();
        assert_eq!(config.shift_for(118_800), 7.0);
        assert_eq!(config.shift_for(256), 1.0);
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for (tokens, median, quartile) in [
            // The upper quartile of a normal is 0.67449.
            (256, 0.5, 1.0 / (1.0 + (-0.674_49_f32).exp())),
            (118_800, 7.0 / 8.0, 0.932_163),
        ] {
            let mut times: Vec<f32> = (0..20_001)
                .map(|_| config.draw_time(tokens, &mut rng))
                .collect();
            times.sort_by(f32::total_cmp);
            assert!((times[10_000] - median).abs() < 0.01, "{}", times[10_000]);
            assert!((times[15_000] - quartile).abs() < 0.01, "{}", times[15_000]);
            assert!(times[0] > 0.0 && times[20_000] < 1.0);
        }
    }
}
