//! The weights that training begins with.

use burn::tensor::{DType, Tensor, TensorData};
use burn_hunyuan_vae::Vae;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::parameters::{Parameter, parameters, with_parameters};

/// `vae` with random weights that follow from the seed, the same on every device.
///
/// Every convolution keeps the variance of what it is given, and the branches of the residual
/// blocks end in zeros (arXiv 1706.02677, section 5.1), so the untrained model is linear. Group
/// norms take away how bright and colourful a clip is as a whole; with the usual initialisation
/// their branches drown the rest, and hundreds of steps pass before colours come through.
///
/// `logvar` is what the logarithms of the latents' variances begin around.
pub fn initialise(vae: Vae, seed: u64, logvar: f64) -> Vae {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let mut weights = parameters(&vae);
    for (name, parameter) in &mut weights {
        let count: usize = parameter.shape.iter().product();
        let values: Vec<f32> = match kind(name, parameter) {
            Kind::Norm => continue,
            Kind::Zero => vec![0.0; count],
            Kind::Moments => {
                // Means, then log-variances.
                let half = count / 2;
                let values = (0..count).map(|i| if i < half { 0.0 } else { logvar as f32 });
                values.collect()
            }
            Kind::Linear { inputs } => {
                let bound = (3.0 / inputs as f32).sqrt();
                (0..count)
                    .map(|_| rng.random_range(-bound..bound))
                    .collect()
            }
        };
        let data = TensorData::new(values, [count]);
        let device = parameter.values.device();
        *parameter = parameter.with_values(Tensor::from_data(data, (&device, DType::F32)));
    }
    with_parameters(vae, &weights)
}

/// What a parameter begins as.
enum Kind {
    /// As burn has it: scale one, shift zero.
    Norm,
    /// Zero: biases, and the ends of residual branches.
    Zero,
    /// The bias of the moments.
    Moments,
    /// A linear map of so many values.
    Linear { inputs: usize },
}

fn kind(name: &str, parameter: &Parameter) -> Kind {
    let ends_a_branch = name.contains(".conv2.") || name.contains(".to_out.");
    match parameter.shape.as_slice() {
        _ if name == "quant_conv.bias" => Kind::Moments,
        _ if name.contains("norm") => Kind::Norm,
        [_] => Kind::Zero,
        _ if ends_a_branch => Kind::Zero,
        // Linear layers have their inputs first, convolutions second.
        [inputs, _] => Kind::Linear { inputs: *inputs },
        [_, rest @ ..] => Kind::Linear {
            inputs: rest.iter().product(),
        },
        [] => Kind::Zero,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Device, Distribution};
    use burn_hunyuan_vae::VaeConfig;

    #[test]
    fn the_encoder_passes_colours_on_and_latents_begin_certain() {
        let device = Device::flex();
        let vae = VaeConfig::new()
            .with_latent_channels(4)
            .with_block_out_channels([8, 8, 12, 12])
            .with_layers_per_block(1)
            .with_norm_num_groups(1)
            .init(&device);
        let vae = initialise(vae, 1, -4.0);
        let x = Tensor::random(
            [1, 8, 1, 6, 6],
            Distribution::Normal(0.0, 1.0),
            (&device, DType::F32),
        );
        let resnet = &vae.encoder.down_blocks[0].resnets[0];
        resnet
            .forward(x.clone())
            .into_data()
            .assert_eq(&x.into_data(), true);

        let video = Tensor::random(
            [1, 3, 1, 16, 16],
            Distribution::Uniform(-1.0, 1.0),
            (&device, DType::F32),
        );
        let posterior = vae.encode(video);
        let spread = (posterior.logvar + 4.0).abs().mean().into_scalar::<f32>();
        assert!(spread < 2.0, "{spread}");
        let rms = posterior.mean.square().mean().into_scalar::<f32>().sqrt();
        assert!((0.1..4.0).contains(&rms), "{rms}");
    }
}
