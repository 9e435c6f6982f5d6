//! LPIPS: how different two pictures look to a network.

use burn::{
    module::{Module, Param},
    nn::{
        PaddingConfig2d,
        conv::{Conv2d, Conv2dConfig},
    },
    tensor::{
        DType, Device, Tensor, TensorData, activation::relu, module::max_pool2d,
        ops::MaxPoolOptions,
    },
};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, Normal};

use crate::parameters::{parameters, with_parameters};

/// Convolutions of VGG-16's five stages: how many, and to how many channels.
const STAGES: [(usize, usize); 5] = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)];

/// What the `lpips` package subtracts from pictures in [−1, 1] and divides them by, by channel.
const SHIFT: [f32; 3] = [-0.030, -0.088, -0.188];
const SCALE: [f32; 3] = [0.458, 0.448, 0.450];

/// Added to the length of a feature vector.
const EPS: f64 = 1e-10;

/// The learned perceptual distance of arXiv 1801.03924 on VGG-16, version 0.1: the squared
/// differences of unit feature vectors after each of VGG's five stages, weighted by channel,
/// averaged over positions, added up over stages.
///
/// Its own convolutions are those of torchvision's VGG-16 in order; `heads.N` is lpips's
/// `linN.model.1.weight`, flat.
#[derive(Module, Debug)]
pub struct Lpips {
    /// VGG's convolutions.
    pub features: Vec<Conv2d>,
    /// The weights of the channels after each stage, `[channels]`.
    pub heads: Vec<Param<Tensor<1>>>,
}

impl Lpips {
    /// The network with arbitrary weights, to be loaded.
    pub fn new(device: &Device) -> Self {
        let mut input = 3;
        let mut features = Vec::new();
        for (count, channels) in STAGES {
            for _ in 0..count {
                let conv = Conv2dConfig::new([input, channels], [3, 3])
                    .with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
                features.push(conv.init(device));
                input = channels;
            }
        }
        let head = |(_, channels)| {
            let ones = Tensor::ones([channels], (device, DType::F32));
            Param::from_tensor(ones)
        };
        Self {
            features,
            heads: STAGES.map(head).into(),
        }
    }

    /// The network with random weights: no substitute for the trained one, but a distance that
    /// compares pictures at five scales. He initialisation (arXiv 1502.01852); every head averages.
    pub fn random(seed: u64, device: &Device) -> Self {
        let lpips = Self::new(device);
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut weights = parameters(&lpips);
        for (name, parameter) in &mut weights {
            let count: usize = parameter.shape.iter().product();
            let deviation = match parameter.shape.as_slice() {
                [_, inputs, ..] => (2.0 / (9 * inputs) as f32).sqrt(),
                _ => 0.0,
            };
            let mean = match name.starts_with("heads") {
                true => 1.0 / count as f32,
                false => 0.0,
            };
            // Finite and not negative, so the distribution exists.
            let Ok(normal) = Normal::new(mean, deviation) else {
                continue;
            };
            let values: Vec<f32> = normal.sample_iter(&mut rng).take(count).collect();
            let data = TensorData::new(values, [count]);
            *parameter = parameter.with_values(Tensor::from_data(data, (device, DType::F32)));
        }
        with_parameters(lpips, &weights)
    }

    /// The names of the convolutions in torchvision's file, in order.
    pub fn torchvision_names() -> impl Iterator<Item = String> {
        // Activations count as layers there, and a pooling layer follows each stage.
        let mut layer = 0;
        STAGES.into_iter().flat_map(move |(count, _)| {
            let first = layer;
            layer += 2 * count + 1;
            (0..count).map(move |i| format!("features.{}", first + 2 * i))
        })
    }

    /// The mean distance of two sets of pictures.
    ///
    /// # Shapes
    /// - `a`, `b`: `[pictures, 3, height, width]` in [−1, 1], at least 16 × 16
    pub fn forward(&self, a: Tensor<4>, b: Tensor<4>) -> Tensor<1> {
        let channels = |values: [f32; 3]| {
            let data = TensorData::new(values.to_vec(), [1, 3, 1, 1]);
            Tensor::<4>::from_data(data, (&a.device(), DType::F32))
        };
        let (shift, scale) = (channels(SHIFT), channels(SCALE));
        let scaled = |x: Tensor<4>| (x - shift.clone()) / scale.clone();
        let (mut a, mut b) = (scaled(a.clone()), scaled(b));
        let mut distance = None;
        let mut features = self.features.iter();
        for ((stage, (count, _)), head) in STAGES.into_iter().enumerate().zip(&self.heads) {
            if stage > 0 {
                (a, b) = (halved(a), halved(b));
            }
            for conv in features.by_ref().take(count) {
                (a, b) = (relu(conv.forward(a)), relu(conv.forward(b)));
            }
            let difference = (unit(a.clone()) - unit(b.clone())).square();
            let weighted = difference * head.val().reshape([1, -1, 1, 1]);
            let term = weighted.sum_dim(1).mean();
            distance = Some(match distance {
                None => term,
                Some(sum) => sum + term,
            });
        }
        distance.unwrap_or_else(|| a.mean() * 0.0)
    }

    /// As [`forward`](Self::forward), frame by frame, for clips `[batch, 3, frames, height, width]`.
    pub fn forward_clips(&self, a: Tensor<5>, b: Tensor<5>) -> Tensor<1> {
        let frames = |x: Tensor<5>| {
            let [batch, channels, frames, height, width] = x.dims();
            x.swap_dims(1, 2)
                .reshape([batch * frames, channels, height, width])
        };
        self.forward(frames(a), frames(b))
    }
}

/// The largest of every 2 × 2 values.
fn halved(x: Tensor<4>) -> Tensor<4> {
    max_pool2d(x, MaxPoolOptions::new([2, 2]))
}

/// Vectors over axis 1 divided by their lengths.
fn unit(x: Tensor<4>) -> Tensor<4> {
    let squares = x.clone().square().sum_dim(1);
    // The gradient of a root is not finite at zero, where no feature is active.
    let length = (squares + EPS * EPS).sqrt();
    x / (length + EPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_as_torchvision_does() {
        let names: Vec<String> = Lpips::torchvision_names().collect();
        let layers = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28];
        assert_eq!(names, layers.map(|i| format!("features.{i}")));
    }

    #[test]
    fn the_distance_is_zero_for_equal_pictures_and_grows() {
        let device = Device::flex();
        let lpips = Lpips::random(1, &device);
        let picture = |value: f32| {
            let data: Vec<f32> = (0..3 * 256)
                .map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * value)
                .collect();
            Tensor::<4>::from_data(TensorData::new(data, [1, 3, 16, 16]), (&device, DType::F32))
        };
        let distance = |a, b| lpips.forward(a, b).into_scalar::<f32>();
        assert_eq!(distance(picture(1.0), picture(1.0)), 0.0);
        let (near, far) = (
            distance(picture(1.0), picture(0.9)),
            distance(picture(1.0), picture(-0.5)),
        );
        assert!(0.0 < near && near < far, "{near} {far}");
    }
}
