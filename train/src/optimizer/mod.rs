//! From gradients to weights: accumulation, clipping, the learning rate, AdamW, the average.

mod adamw;
mod ema;
mod gradients;
mod muon;
mod schedule;

use burn::module::Module;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Result, require},
    parameters::{Parameters, trainable, with_parameters},
    run::{Checkpoint, CheckpointWriter},
};

pub use adamw::AdamW;
pub use ema::Ema;
pub use gradients::Gradients;
pub use schedule::{Decay, Schedule};

/// Section `[optimizer]` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The learning rate after warm-up.
    pub learning_rate: f64,
    /// Move the matrices and convolutions of the blocks by Muon's steps (arXiv 2502.16982), everything else by
    /// AdamW's. Both take the same learning rate.
    pub muon: bool,
    /// Decay of AdamW's averages of the gradient and of its square.
    pub betas: [f64; 2],
    /// Added to the root of the second average.
    pub eps: f64,
    /// Share of a weight that a step takes away, in learning rates.
    pub weight_decay: f64,
    /// Longest gradient, over all parameters together; a longer one is scaled down. 0: no limit.
    pub max_norm: f64,
    /// Steps over which the learning rate rises from zero.
    pub warmup_steps: u64,
    /// What the learning rate does after warm-up: `constant` or `cosine`.
    pub decay: Decay,
    /// Where cosine decay ends, as a share of the learning rate.
    pub final_ratio: f64,
    /// Decay of the average of the weights, which is what is kept in the end. 0: no average.
    pub ema_decay: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            learning_rate: 1e-4,
            muon: false,
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.01,
            max_norm: 1.0,
            warmup_steps: 0,
            decay: Decay::Constant,
            final_ratio: 0.0,
            ema_decay: 0.9999,
        }
    }
}

impl OptimizerConfig {
    /// Refuses values that cannot be meant.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) with the field's name.
    pub fn validate(&self) -> Result<()> {
        let share = |x: f64| (0.0..1.0).contains(&x);
        let positive = |x: f64| x > 0.0 && x.is_finite();
        require(&[
            (
                positive(self.learning_rate),
                "optimizer.learning_rate has to be above 0",
            ),
            (
                self.betas.into_iter().all(share),
                "optimizer.betas have to be from 0 to below 1",
            ),
            (positive(self.eps), "optimizer.eps has to be above 0"),
            (
                self.weight_decay >= 0.0,
                "optimizer.weight_decay has to be 0 or more",
            ),
            (
                self.max_norm >= 0.0,
                "optimizer.max_norm has to be 0 or more",
            ),
            (
                (0.0..=1.0).contains(&self.final_ratio),
                "optimizer.final_ratio has to be from 0 to 1",
            ),
            (
                share(self.ema_decay),
                "optimizer.ema_decay has to be from 0 to below 1",
            ),
        ])
    }
}

/// Turns gradients into updates of one module.
///
/// The weights that are updated are f32, whatever the module computes in: the module holds them
/// rounded to its own dtype ("mixed precision", arXiv 1710.03740).
#[derive(Debug)]
pub struct Optimizer {
    max_norm: f64,
    schedule: Schedule,
    adamw: AdamW,
    ema: Option<Ema>,
}

impl Optimizer {
    /// An optimizer of the weights of `module` that want a gradient, for a run of `steps` steps.
    pub fn new<M: Module>(config: &OptimizerConfig, module: &M, steps: u64) -> Self {
        let weights = trainable(module);
        Self {
            max_norm: config.max_norm,
            schedule: Schedule::new(config, steps),
            ema: (config.ema_decay > 0.0).then(|| Ema::new(config.ema_decay, &weights)),
            adamw: AdamW::new(config, weights),
        }
    }

    /// Updates the weights and returns `module` with them. `norm` is the gradients'
    /// [norm](Gradients::norm).
    pub fn step<M: Module>(&mut self, module: M, mut gradients: Gradients, norm: f64) -> M {
        if self.max_norm > 0.0 {
            gradients.clip(self.max_norm, norm);
        }
        let learning_rate = self.learning_rate();
        self.adamw.step(&gradients, learning_rate);
        if let Some(ema) = &mut self.ema {
            ema.update(self.adamw.weights());
        }
        with_parameters(module, self.adamw.weights())
    }

    /// The latest weights, f32.
    pub fn weights(&self) -> &Parameters {
        self.adamw.weights()
    }

    /// The learning rate of the next step.
    pub fn learning_rate(&self) -> f64 {
        self.schedule.learning_rate(self.adamw.steps())
    }

    /// The averaged weights, or the latest where no average is kept.
    pub fn average(&self) -> &Parameters {
        match &self.ema {
            Some(ema) => ema.weights(),
            None => self.adamw.weights(),
        }
    }

    /// `module` with the [average](Self::average) of its weights.
    pub fn averaged<M: Module>(&self, module: M) -> M {
        with_parameters(module, self.average())
    }

    /// Saves `NAME.safetensors` (the f32 weights), `NAME_ema`, and AdamW's averages of the gradient
    /// and of its square, `NAME_moment1` and `NAME_moment2`; all by the parameters' names.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, writer: &mut CheckpointWriter, name: &str) -> Result<()> {
        writer.tensors(name, self.adamw.weights())?;
        if let Some(ema) = &self.ema {
            writer.tensors(&format!("{name}_ema"), ema.weights())?;
            writer.state(&format!("{name}_ema_steps"), ema.steps())?;
        }
        let [first, second] = self.adamw.moments();
        writer.tensors(&format!("{name}_moment1"), &first)?;
        writer.tensors(&format!("{name}_moment2"), &second)?;
        writer.state(&format!("{name}_steps"), self.adamw.steps())
    }

    /// Whether `checkpoint` holds what [`save`](Self::save) writes by this name.
    pub fn is_in(checkpoint: &Checkpoint, name: &str) -> bool {
        checkpoint.has_state(&format!("{name}_steps"))
    }

    /// Takes up what [`save`](Self::save) wrote and returns `module` with the weights. An average
    /// that the run did not keep so far begins at them.
    ///
    /// # Errors
    /// A file that cannot be read or does not fit the module.
    pub fn restore<M: Module>(
        &mut self,
        checkpoint: &Checkpoint,
        name: &str,
        module: M,
    ) -> Result<M> {
        let weights = checkpoint.tensors(name, self.adamw.weights())?;
        if let Some(ema) = &mut self.ema {
            let [average, steps] = ["ema", "ema_steps"].map(|what| format!("{name}_{what}"));
            match checkpoint.has_state(&steps) {
                true => ema.restore(
                    checkpoint.tensors(&average, &weights)?,
                    checkpoint.state(&steps)?,
                ),
                false => ema.restore(weights.clone(), 0),
            }
        }
        let first = checkpoint.tensors(&format!("{name}_moment1"), &weights)?;
        let second = checkpoint.tensors(&format!("{name}_moment2"), &weights)?;
        let steps = checkpoint.state(&format!("{name}_steps"))?;
        self.adamw.restore(weights, [first, second], steps);
        Ok(with_parameters(module, self.adamw.weights()))
    }
}
