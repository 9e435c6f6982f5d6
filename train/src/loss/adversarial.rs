//! The adversarial term: a network that learns to tell reconstructions from clips.

use burn::{
    config::Config,
    module::Module,
    nn::{
        PaddingConfig3d,
        conv::{Conv3d, Conv3dConfig},
    },
    tensor::{
        DType, Device, Tensor, TensorData,
        activation::{leaky_relu, relu},
    },
};
use burn_hunyuan_kernels::{GroupNorm, GroupNormConfig};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::parameters::{parameters, with_parameters};

/// Slope of the activations below zero.
const SLOPE: f64 = 0.2;
/// Standard deviation of the weights at the beginning.
const SPREAD: f32 = 0.02;

/// Configuration of a [`Discriminator`].
#[derive(Config, Debug)]
pub struct DiscriminatorConfig {
    /// Channels of the first level; each of the next two has twice as many.
    #[config(default = 64)]
    pub channels: usize,
    /// Groups of the norms; divides `2 · channels`.
    #[config(default = 8)]
    pub groups: usize,
}

/// A patch discriminator over (time, height, width): for every patch of a clip, how much it looks
/// like one of the data. Three strided levels, as pix2pix's (arXiv 1611.07004) with one axis more
/// and group norms, which do not depend on the batch.
#[derive(Module, Debug)]
pub struct Discriminator {
    /// Halves height and width.
    pub conv_in: Conv3d,
    /// Each halves all three axes.
    pub convs: Vec<Conv3d>,
    /// After each of `convs`.
    pub norms: Vec<GroupNorm>,
    /// To one value for each patch.
    pub conv_out: Conv3d,
}

impl DiscriminatorConfig {
    /// Creates the discriminator with random weights that follow from the seed, the same on every
    /// device: as pix2pix's (arXiv 1611.07004, section 6.2), biases zero.
    pub fn init(&self, device: &Device, seed: u64) -> Discriminator {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let critic = self.layers(device);
        let mut weights = parameters(&critic);
        for (name, parameter) in &mut weights {
            let count = parameter.shape.iter().product();
            let values: Vec<f32> = match parameter.shape.as_slice() {
                _ if name.contains("norm") => continue,
                [_] => vec![0.0; count],
                _ => (0..count)
                    .map(|_| SPREAD * Distribution::<f32>::sample(&StandardNormal, &mut rng))
                    .collect(),
            };
            let options = (&parameter.values.device(), DType::F32);
            let values = Tensor::from_data(TensorData::new(values, [count]), options);
            *parameter = parameter.with_values(values);
        }
        with_parameters(critic, &weights)
    }

    fn layers(&self, device: &Device) -> Discriminator {
        let conv = |channels: [usize; 2], stride: [usize; 3]| {
            Conv3dConfig::new(channels, [3, 3, 3])
                .with_stride(stride)
                .with_padding(PaddingConfig3d::Explicit(1, 1, 1))
                .init(device)
        };
        let widths = [self.channels, 2 * self.channels, 4 * self.channels];
        let levels = [[widths[0], widths[1]], [widths[1], widths[2]]];
        Discriminator {
            conv_in: conv([3, widths[0]], [1, 2, 2]),
            convs: levels.map(|channels| conv(channels, [2, 2, 2])).into(),
            norms: levels
                .map(|[_, out]| GroupNormConfig::new(self.groups, out).init(device))
                .into(),
            conv_out: conv([widths[2], 1], [1, 1, 1]),
        }
    }
}

impl Discriminator {
    /// A value for every patch, above zero for what looks like data.
    ///
    /// # Shapes
    /// - `clips`: `[batch, 3, frames, height, width]`, 1 frame or more
    /// - output: `[batch, 1, frames/4, height/8, width/8]`, rounded up
    pub fn forward(&self, clips: Tensor<5>) -> Tensor<5> {
        let x = leaky_relu(self.conv_in.forward(clips), SLOPE);
        let levels = self.convs.iter().zip(&self.norms);
        let x = levels.fold(x, |x, (conv, norm)| {
            leaky_relu(norm.forward(conv.forward(x)), SLOPE)
        });
        self.conv_out.forward(x)
    }
}

/// What the discriminator minimises, the hinge loss (arXiv 1705.02894):
/// `mean(max(0, 1 − real)) / 2 + mean(max(0, 1 + fake)) / 2`.
pub fn discriminator(real: Tensor<5>, fake: Tensor<5>) -> Tensor<1> {
    (relu(-real + 1.0).mean() + relu(fake + 1.0).mean()) * 0.5
}

/// What the VAE minimises against it: `−mean(fake)`.
pub fn adversarial(fake: Tensor<5>) -> Tensor<1> {
    -fake.mean()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hinge_losses_in_closed_form() {
        let device = Device::flex();
        let values = |values: [f32; 2]| {
            Tensor::<1>::from_data(values, (&device, DType::F32)).reshape([1, 1, 1, 1, 2])
        };
        let (real, fake) = (values([0.5, 3.0]), values([-2.0, 1.0]));
        let loss = discriminator(real, fake.clone()).into_scalar::<f32>();
        assert_eq!(loss, (0.25 + 1.0) / 2.0);
        assert_eq!(adversarial(fake).into_scalar::<f32>(), 0.5);
    }

    #[test]
    fn weights_follow_from_the_seed() {
        let device = Device::flex();
        let weights = |seed| {
            let critic = DiscriminatorConfig::new().init(&device, seed);
            critic.convs[0].weight.val().into_data()
        };
        assert_eq!(weights(1), weights(1));
        assert_ne!(weights(1), weights(2));
        let rms = Tensor::<5>::from_data(weights(1), &device).square().mean();
        assert!((rms.into_scalar::<f32>().sqrt() - SPREAD).abs() < 0.01 * SPREAD);
    }

    #[test]
    fn patches_of_clips_and_images() {
        let device = Device::flex();
        let discriminator = DiscriminatorConfig::new().with_channels(4).init(&device, 1);
        for (frames, patches) in [(1, 1), (5, 2), (17, 5)] {
            let clips = Tensor::zeros([2, 3, frames, 24, 16], (&device, DType::F32));
            assert_eq!(discriminator.forward(clips).dims(), [2, 1, patches, 3, 2]);
        }
    }
}
