//! The exponential moving average of the weights.

use crate::parameters::Parameters;

/// The average of the weights over the latest steps, in f32: better than any single step's, and
/// what a run ends with.
///
/// The decay rises as `(1 + n) / (10 + n)` with the number of updates until it reaches its value,
/// so that the random start is soon forgotten (diffusers' `EMAModel`).
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    weights: Parameters,
    steps: u64,
}

impl Ema {
    /// An average that starts at `weights`.
    pub fn new(decay: f64, weights: &Parameters) -> Self {
        Self {
            decay,
            weights: weights.clone(),
            steps: 0,
        }
    }

    /// The averaged weights.
    pub fn weights(&self) -> &Parameters {
        &self.weights
    }

    /// The number of updates so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Goes on from a saved state.
    pub fn restore(&mut self, weights: Parameters, steps: u64) {
        self.weights = weights;
        self.steps = steps;
    }

    /// Takes in the weights after a step.
    pub fn update(&mut self, weights: &Parameters) {
        let done = self.steps as f64;
        let decay = self.decay.min((1.0 + done) / (10.0 + done));
        self.steps += 1;
        for (name, average) in &mut self.weights {
            if let Some(weight) = weights.get(name) {
                let old = average.values.clone();
                average.values = old * decay + weight.values.clone() * (1.0 - decay);
            }
        }
    }
}
