//! The perceptual distance against the `lpips` package (`tests/reference/train_vae.py`).

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_hunyuan::checkpoint::load_lpips;
use burn_hunyuan_train::{
    loss::Lpips,
    parameters::{parameters, with_parameters},
};
use safetensors::{Dtype, serialize_to_file, tensor::TensorView};

use crate::{
    common::{Fixture, assert_close, device, fixture_path},
    toy::flex,
};

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

/// That a network with the script's weights says what it should.
fn check_distance(lpips: &Lpips, device: &Device) {
    let fixture = Fixture::open("train/lpips.safetensors");
    let [a, b] = ["a", "b"].map(|name| fixture.tensor::<4>(name, device));
    let expected = fixture.tensor::<1>("distance", device);
    assert_close("distance", &lpips.forward(a, b), &expected, 1e-4);
}

/// The names that users' files have: torchvision's network with its classifier, and lpips's `.pth`.
#[test]
fn weights_of_torchvision_and_of_lpips_are_read() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let vgg = folder.path().join("vgg16.safetensors");
    let network = parameters(&network(&device));
    let mut tensors = vec![("classifier.0.weight".to_string(), vec![4], vec![0; 16])];
    for (i, layer) in [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
        .iter()
        .enumerate()
    {
        for field in ["weight", "bias"] {
            let weights = &network[&format!("features.{i}.{field}")];
            let bytes = weights.to_file().bytes().to_vec();
            tensors.push((
                format!("features.{layer}.{field}"),
                weights.file_shape(),
                bytes,
            ));
        }
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        (
            name,
            TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap(),
        )
    });
    serialize_to_file(views, None, &vgg).unwrap();
    let heads = fixture_path("train/lpips_heads.pth");
    check_distance(&load_lpips(&vgg, &heads, &device).unwrap(), &device);

    let message = load_lpips(&heads, &vgg, &device).unwrap_err().to_string();
    assert!(message.contains("features.0.weight"), "{message}");
}

#[test]
#[ignore = "needs the file of 0.55 GB that `python tests/reference/train_vae.py official` writes"]
fn torchvisions_whole_file_is_read() {
    let device = flex();
    let [vgg, heads] =
        ["vgg16_official", "lpips_heads"].map(|name| fixture_path(&format!("train/{name}.pth")));
    check_distance(&load_lpips(&vgg, &heads, &device).unwrap(), &device);
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
