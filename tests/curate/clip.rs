//! CLIP and LAION's heads against transformers, Pillow and PyTorch (`tests/reference/clip.py`).

use std::{collections::HashMap, path::Path};

use burn::tensor::{Device, Tensor, TensorData};
use burn_hunyuan_curate::aesthetics::{
    clip::{ClipConfig, ClipEncoder, prepare},
    laion::LaionHead,
    resize::bicubic,
};
use image::RgbImage;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::common::{Fixture, assert_close, device, fixture_path, values};

const BOUND: f32 = 1e-4;
const PICTURES: [&str; 3] = ["wide", "tall", "small"];

/// A picture of a fixture: bytes `[height, width, 3]`.
fn picture(fixture: &str, key: &str) -> RgbImage {
    let bytes = std::fs::read(fixture_path(fixture)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let view = file.tensor(key).unwrap();
    let [height, width, _] = view.shape()[..] else {
        panic!("{key} is no picture");
    };
    RgbImage::from_raw(width as u32, height as u32, view.data().to_vec()).unwrap()
}

fn pictures() -> [RgbImage; 3] {
    PICTURES.map(|name| picture("clip.safetensors", &format!("picture.{name}")))
}

fn config() -> ClipConfig {
    let config = Fixture::open("clip.safetensors").config();
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    ClipConfig::new()
        .with_picture(number("image_size"))
        .with_patch(number("patch_size"))
        .with_hidden(number("hidden_size"))
        .with_intermediate(number("intermediate_size"))
        .with_layers(number("num_hidden_layers"))
        .with_heads(number("num_attention_heads"))
        .with_projection(number("projection"))
}

fn features(fixture: &Fixture, device: &Device) -> Tensor<2> {
    let features = fixture.tensor::<2>("features", device);
    let length = features.clone().square().sum_dim(1).sqrt();
    features / length
}

#[test]
fn scaling_gives_pillows_bytes() {
    for case in ["71x43", "33x58", "40x24", "9x200"] {
        let source = picture("clip_resize.safetensors", &format!("{case}.source"));
        let scaled = picture("clip_resize.safetensors", &format!("{case}.scaled"));
        let ours = bicubic(&source, scaled.width(), scaled.height());
        assert!(ours == scaled, "{case} differs");
    }
}

#[test]
fn pictures_are_prepared_as_in_the_reference() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("clip.safetensors");
    let prepared = prepare(&pictures().each_ref(), 30, &device);
    let expected = fixture.tensor::<4>("prepared", &device);
    assert_close("prepared pictures", &prepared, &expected, 1e-6);
}

/// Under the names of transformers and under those of OpenAI's code.
#[test]
fn features_are_the_references() {
    let Some(device) = device() else { return };
    for file in ["clip.safetensors", "clip_openai.safetensors"] {
        let fixture = Fixture::open(file);
        let encoder = ClipEncoder::open_as(&config(), fixture.path(), &device).unwrap();
        let ours = encoder.encode(&pictures().each_ref());
        let ours = TensorData::new(ours, [3, encoder.width()]);
        let ours = Tensor::<2>::from_data(ours, &device);
        assert_close(file, &ours, &features(&fixture, &device), BOUND);
    }
}

#[test]
fn heads_give_the_references_scores() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("clip.safetensors");
    let features = values(&features(&fixture, &device));
    for head in ["linear", "mlp"] {
        let path = fixture_path(&format!("laion_{head}.pth"));
        let ours = LaionHead::open(&path, 20, &device)
            .unwrap()
            .scores(&features);
        let ours = Tensor::<1>::from_floats(&ours[..], &device);
        let expected = fixture.tensor::<1>(&format!("scores.{head}"), &device);
        assert_close(head, &ours, &expected, BOUND);
    }
}

/// The fixture with one tensor left out or replaced by another shape.
fn damaged(name: &str, shape: Option<[usize; 1]>, to: &Path) {
    let bytes = std::fs::read(fixture_path("clip.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut views: HashMap<_, _> = file.tensors().into_iter().collect();
    views.remove(name).unwrap();
    let zeros = vec![0; 4 * shape.map_or(0, |[extent]| extent)];
    if let Some(shape) = shape {
        let view = TensorView::new(Dtype::F32, shape.to_vec(), &zeros).unwrap();
        views.insert(name.to_string(), view);
    }
    safetensors::serialize_to_file(views, None, to).unwrap();
}

#[test]
fn unfit_files_are_refused_by_the_name_of_the_tensor() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.safetensors");
    let cases = [
        ("vision_model.encoder.layers.1.layer_norm2.weight", None),
        ("vision_model.encoder.layers.0.mlp.fc1.weight", None),
        ("vision_model.post_layernorm.bias", Some([7])),
    ];
    for (name, shape) in cases {
        damaged(name, shape, &path);
        let error = ClipEncoder::open_as(&config(), &path, &device).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(&format!("`{name}`")), "{message}");
        assert!(message.contains("clip.safetensors"), "{message}");
    }

    std::fs::write(&path, b"not weights").unwrap();
    assert!(ClipEncoder::open_as(&config(), &path, &device).is_err());
    let missing = folder.path().join("missing.pth");
    assert!(LaionHead::open(&missing, 20, &device).is_err());
    let head = fixture_path("laion_mlp.pth");
    let error = LaionHead::open(&head, 768, &device).unwrap_err();
    assert!(error.to_string().contains("768 features"), "{error}");
}
