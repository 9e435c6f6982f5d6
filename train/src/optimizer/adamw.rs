//! AdamW.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::{Gradients, OptimizerConfig, muon};
use crate::parameters::Parameters;

/// Adam with decoupled weight decay (arXiv 1711.05101), as `torch.optim.AdamW` computes it; all
/// state in f32.
#[derive(Debug)]
pub struct AdamW {
    betas: [f64; 2],
    eps: f64,
    weight_decay: f64,
    muon: bool,
    weights: Parameters,
    /// Averages of the gradient and of its square. A parameter has them after its first gradient.
    moments: BTreeMap<String, [Tensor<1>; 2]>,
    steps: u64,
}

impl AdamW {
    /// An optimizer of `weights` that has seen no gradient.
    pub fn new(config: &OptimizerConfig, weights: Parameters) -> Self {
        Self {
            betas: config.betas,
            eps: config.eps,
            weight_decay: config.weight_decay,
            muon: config.muon,
            weights,
            moments: BTreeMap::new(),
            steps: 0,
        }
    }

    /// The weights.
    pub fn weights(&self) -> &Parameters {
        &self.weights
    }

    /// The number of updates so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Averages of the gradient and of its square.
    pub fn moments(&self) -> [Parameters; 2] {
        let moment = |i: usize| {
            let moments = self.weights.iter().map(|(name, weight)| {
                let values = match self.moments.get(name) {
                    Some(moments) => moments[i].clone(),
                    None => weight.values.zeros_like(),
                };
                (name.clone(), weight.with_values(values))
            });
            moments.collect()
        };
        [moment(0), moment(1)]
    }

    /// Goes on from a saved state.
    pub fn restore(&mut self, weights: Parameters, moments: [Parameters; 2], steps: u64) {
        let [first, mut second] = moments;
        self.moments = first
            .into_iter()
            .filter_map(|(name, first)| {
                let second = second.remove(&name)?;
                Some((name, [first.values, second.values]))
            })
            .collect();
        self.weights = weights;
        self.steps = steps;
    }

    /// Updates every weight that has a gradient.
    pub fn step(&mut self, gradients: &Gradients, learning_rate: f64) {
        self.steps += 1;
        let [beta1, beta2] = self.betas;
        let correction = |beta: f64| 1.0 - beta.powf(self.steps as f64);
        let step_size = learning_rate / correction(beta1);
        let root = correction(beta2).sqrt();
        for (name, gradient) in gradients.iter() {
            let Some(weight) = self.weights.get_mut(name) else {
                continue;
            };
            let [first, second] = self.moments.remove(name).unwrap_or_else(|| {
                let zeros = gradient.zeros_like();
                [zeros.clone(), zeros]
            });
            let first = first * beta1 + gradient.clone() * (1.0 - beta1);
            let second = second * beta2 + gradient.clone().square() * (1.0 - beta2);
            let update = if self.muon && muon::applies(name, weight) {
                let ahead = first.clone() * beta1 + gradient.clone() * (1.0 - beta1);
                muon::step(ahead, weight) * learning_rate
            } else {
                first.clone() / (second.clone().sqrt() / root + self.eps) * step_size
            };
            let kept = weight.values.clone() * (1.0 - learning_rate * self.weight_decay);
            weight.values = kept - update;
            self.moments.insert(name.clone(), [first, second]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Parameter;
    use burn::tensor::Device;

    /// With a constant gradient both corrected averages are exact, so every step moves each weight
    /// by the learning rate against the gradient's sign, after the decay.
    #[test]
    fn a_constant_gradient_moves_by_the_learning_rate() {
        let device = Device::flex();
        let weight = Parameter {
            values: Tensor::from_floats([1.0, -2.0], &device),
            shape: vec![2],
            transposed: false,
        };
        let config = OptimizerConfig {
            weight_decay: 0.5,
            ..OptimizerConfig::default()
        };
        let mut adamw = AdamW::new(&config, [("w".to_string(), weight)].into());
        let gradient = Tensor::from_floats([0.3, -20.0], &device);
        let gradients = [("w".to_string(), gradient)].into_iter().collect();
        let mut expected = [1.0, -2.0];
        for _ in 0..5 {
            adamw.step(&gradients, 0.1);
            expected = [expected[0] * 0.95 - 0.1, expected[1] * 0.95 + 0.1];
        }
        let values = adamw.weights()["w"].values.to_data();
        for (ours, expected) in values.try_to_vec::<f32>().unwrap().iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-5, "{ours} {expected}");
        }
    }
}
