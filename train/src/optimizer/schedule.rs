//! The learning rate over a run.

use serde::{Deserialize, Serialize};

use super::OptimizerConfig;

/// What the learning rate does after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Stays.
    Constant,
    /// Falls along half a cosine to [`OptimizerConfig::final_ratio`] at the end of the run.
    Cosine,
}

/// Linear warm-up, then constant or along a cosine.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    learning_rate: f64,
    warmup: u64,
    decay: Decay,
    final_ratio: f64,
    steps: u64,
}

impl Schedule {
    /// The schedule of a run of `steps` steps.
    pub fn new(config: &OptimizerConfig, steps: u64) -> Self {
        Self {
            learning_rate: config.learning_rate,
            warmup: config.warmup_steps,
            decay: config.decay,
            final_ratio: config.final_ratio,
            steps,
        }
    }

    /// The learning rate of the step after `done` steps.
    pub fn learning_rate(&self, done: u64) -> f64 {
        if done < self.warmup {
            return self.learning_rate * (done + 1) as f64 / self.warmup as f64;
        }
        match self.decay {
            Decay::Constant => self.learning_rate,
            Decay::Cosine => {
                let after = self.steps.saturating_sub(self.warmup).max(1);
                let passed = ((done - self.warmup) as f64 / after as f64).min(1.0);
                let cosine = 0.5 * (1.0 + (std::f64::consts::PI * passed).cos());
                let ratio = self.final_ratio + (1.0 - self.final_ratio) * cosine;
                self.learning_rate * ratio
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rises_then_falls_to_the_final_ratio() {
        let config = OptimizerConfig {
            learning_rate: 2.0,
            warmup_steps: 4,
            decay: Decay::Cosine,
            final_ratio: 0.1,
            ..OptimizerConfig::default()
        };
        let schedule = Schedule::new(&config, 14);
        let rates: Vec<f64> = [0, 3, 4, 9, 14, 99]
            .map(|done| schedule.learning_rate(done))
            .to_vec();
        let expected = [0.5, 2.0, 2.0, 1.1, 0.2, 0.2];
        for (rate, expected) in rates.iter().zip(expected) {
            assert!((rate - expected).abs() < 1e-12, "{rates:?}");
        }
    }
}
