//! Weights to start from.

use burn::{
    module::Module,
    tensor::{DType, Tensor, TensorData},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::parameters::{parameters, with_parameters};

/// `model` with the weights that training from nothing starts from, the same for a seed on every
/// device.
///
/// Matrices are Xavier-uniform, biases zero, norms one. Modulations and the last projection are
/// zero, so that every block starts as the identity and the velocity as zero (adaLN-Zero,
/// arXiv 2212.09748).
pub fn initialise<M: Module>(model: M, seed: u64) -> M {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let mut weights = parameters(&model);
    for (name, parameter) in &mut weights {
        let shape = &parameter.shape;
        let elements: usize = shape.iter().product();
        let values = match shape.as_slice() {
            [_] if name.ends_with("weight") => vec![1.0; elements],
            [_] => vec![0.0; elements],
            _ if starts_at_zero(name) => vec![0.0; elements],
            // Convolutions are [out, in, kernel..], linear weights [in, out]: the sum is the same.
            [a, b, kernel @ ..] => {
                let fan = (a + b) * kernel.iter().product::<usize>();
                let limit = (6.0 / fan as f32).sqrt();
                (0..elements)
                    .map(|_| rng.random_range(-limit..limit))
                    .collect()
            }
            [] => continue,
        };
        let device = parameter.values.device();
        let data = TensorData::new(values, [elements]);
        parameter.values = Tensor::from_data(data, (&device, DType::F32));
    }
    with_parameters(model, &weights)
}

fn starts_at_zero(name: &str) -> bool {
    name.contains("modulation.") || name.starts_with("final_layer.proj.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;
    use burn_hunyuan_dit::{Condition, DitConfig};

    #[test]
    fn the_velocity_starts_at_zero_and_the_seed_decides() {
        let device = Device::flex();
        let config = DitConfig::new()
            .with_in_channels(2)
            .with_out_channels(2)
            .with_heads(2)
            .with_head_dim(8)
            .with_dual_blocks(1)
            .with_single_blocks(1)
            .with_refiner_blocks(1)
            .with_guidance(false)
            .with_text_dim(6)
            .with_pooled_dim(4)
            .with_rope_axes([2, 2, 4]);
        let model = initialise(config.init(&device), 1);
        let options = (&device, DType::F32);
        let condition = Condition {
            text: Tensor::ones([1, 3, 6], options),
            text_lengths: vec![3],
            pooled: Tensor::ones([1, 4], options),
            guidance: None,
        };
        let latents = Tensor::ones([1, 2, 1, 4, 4], options);
        let velocity = model.forward(latents, Tensor::ones([1], options) * 500.0, &condition);
        assert_eq!(velocity.abs().max().into_scalar::<f32>(), 0.0);

        let q = |model: burn_hunyuan_dit::Dit| model.single_blocks[0].q.weight.val().to_data();
        let again = initialise(config.init(&device), 1);
        let other = initialise(config.init(&device), 2);
        assert_eq!(q(model.clone()), q(again));
        assert_ne!(q(model), q(other));
    }
}
