//! The perceptual distance against the `lpips` package (`tests/reference/train_vae.py`).

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_hunyuan_train::{
    loss::Lpips,
    parameters::{parameters, with_parameters},
};

use crate::common::{Fixture, assert_close, device};

/// The script's weights: values in ±`scale` about `shift`, a linear congruence on the index.
fn formula(count: usize, scale: f64, shift: f64) -> Vec<f32> {
    let value = |index: usize| {
        let residue = (index * 1_103_515_245 + 12_345) % 65_536;
        ((residue as f64 / 32_768.0 - 1.0) * scale + shift) as f32
    };
    (0..count).map(value).collect()
}

fn network(device: &Device) -> Lpips {
    let lpips = Lpips::new(device);
    let mut weights = parameters(&lpips);
    for (name, parameter) in &mut weights {
        let count = parameter.shape.iter().product();
        let values = match name.strip_prefix("heads.") {
            Some(stage) => formula(count, 0.5, 0.5 + 0.1 * stage.parse::<f64>().unwrap()),
            None if name.ends_with("bias") => formula(count, 0.1, 0.0),
            None => {
                let fan_in: usize = parameter.shape[1..].iter().product();
                formula(count, (6.0 / fan_in as f64).sqrt(), 0.0)
            }
        };
        let data = TensorData::new(values, [count]);
        *parameter = parameter.with_values(Tensor::from_data(data, (device, DType::F32)));
    }
    with_parameters(lpips, &weights)
}

#[test]
fn distance_and_gradient_are_lpipss() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("train/lpips.safetensors");
    let lpips = network(&device);
    let a = fixture.tensor::<4>("a", &device).autodiff().require_grad();
    let b = fixture.tensor::<4>("b", &device).autodiff();
    let distance = lpips.forward(a.clone(), b);
    let gradient = a.grad(&distance.backward()).unwrap();
    let expected = fixture.tensor::<1>("distance", &device);
    assert_close("distance", &distance.inner(), &expected, 1e-4);
    let expected = fixture.tensor::<4>("gradient", &device);
    assert_close("gradient", &gradient, &expected, 1e-4);
}
