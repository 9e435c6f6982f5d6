//! Noise to latents.

use burn::tensor::{DType, Tensor};
use burn_hunyuan_dit::{Condition, FirstBlockCache};

use super::{Pipeline, PromptCondition, Request, Stage, ensure_finite};
use crate::{
    error::{Error, Result},
    sampler::{Schedule, noise},
};

/// Steps that the transformer is guided through at once: more than any usual number, and so few that
/// their modulation takes little memory.
pub(crate) const GUIDED_STEPS: usize = 100;

impl Pipeline {
    /// Removes the noise: integrates the velocity from noise (or
    /// [`Request::init_latents`]) to data.
    ///
    /// Gives f32 latents as the transformer knows them: `[1, channels, frames, height, width]`.
    /// The latents stay f32 between steps, whatever the transformer computes in. The transformer
    /// stays loaded until it is [freed](Self::free).
    ///
    /// # Errors
    /// A request that the model cannot satisfy, a transformer that cannot be loaded, latents that
    /// are not finite after a step, [`Error::Cancelled`].
    pub fn denoise(
        &mut self,
        request: &Request,
        condition: &PromptCondition,
        negative: Option<&PromptCondition>,
    ) -> Result<Tensor<5>> {
        request.validate()?;
        let shape = self.latent_shape(request)?;
        let mut latents = match &request.init_latents {
            Some(latents) => latents.clone().to_device(&self.device).cast(DType::F32),
            None => noise(shape, request.seed, &self.device),
        };

        let transformer = self.transformer()?;
        let shift = request.flow_shift.unwrap_or(self.model.shift());
        let schedule = Schedule::new(request.steps, shift);
        let cache = || request.cache_threshold.map(FirstBlockCache::new);
        let (mut cache, mut negative_cache) = (cache(), cache());
        self.report(Stage::Denoise, 0, request.steps as u64)?;
        for first in (0..schedule.steps()).step_by(GUIDED_STEPS) {
            let steps = first..schedule.steps().min(first + GUIDED_STEPS);
            let timesteps: Vec<_> = steps.clone().map(|step| schedule.timestep(step)).collect();
            let guide = |prompt: &PromptCondition| {
                let condition = self.dit_condition(prompt, request.guidance);
                transformer.guide(&condition, &timesteps, shape)
            };
            let (guide, negative) = (guide(condition)?, negative.map(guide).transpose()?);
            for step in steps {
                let at = |guide, cache: &mut Option<FirstBlockCache>| {
                    transformer.velocity(latents.clone(), step - first, guide, cache.as_mut())
                };
                let mut velocity = at(&guide, &mut cache)?;
                if let Some(negative) = &negative {
                    let away = at(negative, &mut negative_cache)?;
                    velocity = away.clone() + (velocity - away) * request.cfg;
                }
                latents = schedule.step(step, latents, velocity);
                self.wait();
                ensure_finite(&latents, || {
                    format!("latents after step {} of {}", step + 1, request.steps)
                })?;
                self.report(Stage::Denoise, step as u64 + 1, request.steps as u64)?;
            }
        }
        Ok(latents)
    }

    /// The shape of a request's latents.
    ///
    /// # Errors
    /// Initial latents of another one.
    pub(super) fn latent_shape(&self, request: &Request) -> Result<[usize; 5]> {
        let shape = request.latent_shape(self.model.vae()?.config.latent_channels);
        match request.init_latents.as_ref().map(Tensor::dims) {
            Some(given) if given != shape => Err(Error::Request(format!(
                "the initial latents are {given:?}; this size and number of frames needs {shape:?}"
            ))),
            _ => Ok(shape),
        }
    }

    /// What the transformer is told at every step.
    fn dit_condition(&self, prompt: &PromptCondition, guidance: f64) -> Condition {
        // The reference multiplies in the transformer's number format: 6.0 becomes 6016 in bf16.
        let guidance =
            Tensor::<1>::from_data([guidance], (&self.device, DType::from(self.dtype))) * 1000.0;
        Condition {
            text: prompt.states.clone(),
            text_lengths: vec![prompt.states.dims()[1]],
            pooled: prompt.pooled.clone(),
            guidance: Some(guidance),
        }
    }
}
