//! Bad files: an error that says what is wrong, never a panic.

use std::path::Path;

use burn::tensor::FloatDType;
use burn_hunyuan::checkpoint::{Error, Weights, inspect};
use safetensors::{Dtype, tensor::TensorView};

use crate::{
    common::{device, supports},
    fixture,
    toy::{TOY, load, toy_tensors, write},
};

#[test]
fn refuses_values_that_are_not_finite() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    for (bad, dtype) in [
        (f32::NAN, FloatDType::F32),
        (f32::NAN, FloatDType::BF16),
        (f32::INFINITY, FloatDType::F32),
        (1e6, FloatDType::F16),
    ] {
        if !supports(&device, dtype) {
            continue;
        }
        let mut tensors = toy_tensors();
        tensors[3].2[7] = bad;
        write(&path, Dtype::F32, &tensors);
        let error = load(&Weights::open(&path).unwrap(), dtype, &device).unwrap_err();
        assert!(matches!(&error, Error::NotFinite { name, .. } if name == "layers.1.weight"));
    }
}

#[test]
fn a_truncated_file_is_named_as_such_and_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    write(&path, Dtype::F32, &toy_tensors());
    let whole = std::fs::read(&path).unwrap();
    for len in 0..whole.len() {
        std::fs::write(&path, &whole[..len]).unwrap();
        let error = Weights::open(&path).unwrap_err();
        assert!(
            len <= 8 || matches!(error, Error::Truncated { .. }),
            "{len}: {error}"
        );
    }
    std::fs::write(&path, b"<!DOCTYPE html><html>not found</html>").unwrap();
    assert!(matches!(Weights::open(&path), Err(Error::Malformed { .. })));
}

#[test]
fn integers_are_refused_by_name() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let views = TOY.iter().map(|(name, shape)| {
        let bytes = &[0; 16][..shape.iter().product()];
        (
            *name,
            TensorView::new(Dtype::I8, shape.to_vec(), bytes).unwrap(),
        )
    });
    safetensors::serialize_to_file(views, None, &path).unwrap();
    let error = load(&Weights::open(&path).unwrap(), FloatDType::F32, &device)
        .unwrap_err()
        .to_string();
    assert!(error.contains("I8") && error.contains("BF16"), "{error}");
}

#[test]
fn an_index_cannot_reach_outside_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    for file in [
        "../m.safetensors",
        "/m.safetensors",
        "sub/m.safetensors",
        "..",
    ] {
        let text = serde_json::json!({"weight_map": {"scale": file}}).to_string();
        std::fs::write(&index, text).unwrap();
        let error = Weights::open(&index).unwrap_err().to_string();
        assert!(error.contains("is not a plain file name"), "{error}");
    }
    std::fs::write(&index, "{").unwrap();
    assert!(matches!(
        Weights::open(&index),
        Err(Error::Malformed { .. })
    ));
}

#[test]
fn a_pickle_is_never_run() {
    let marker = Path::new("pickled_code_was_run");
    assert!(!marker.exists(), "left over from an earlier run");
    let weights = Weights::open(fixture("other/malicious.pt")).unwrap();
    assert_eq!(
        weights.names().collect::<Vec<_>>(),
        ["final_layer.linear.weight"]
    );
    weights
        .get("final_layer.linear.weight")
        .unwrap()
        .bytes()
        .unwrap();
    assert!(!marker.exists());
}

#[test]
fn a_pickle_cut_short_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pt");
    let whole = std::fs::read(fixture(
        "tencent/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt",
    ))
    .unwrap();
    for len in (0..whole.len()).step_by(1000) {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(
            matches!(Weights::open(&path), Err(Error::Malformed { .. })),
            "{len}"
        );
    }
}

#[test]
fn damaged_files_never_panic() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut state = 1u64;
    let mut random = move |below: usize| {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for name in [
        "comfy/clip_l.safetensors",
        "comfy/hunyuan_video_vae_bf16.safetensors",
        "tencent/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt",
    ] {
        let whole = std::fs::read(fixture(name)).unwrap();
        let path = folder.path().join(Path::new(name).file_name().unwrap());
        for _ in 0..200 {
            let mut bytes = whole.clone();
            for _ in 0..1 + random(3) {
                // Mostly the header, where the damage can do something.
                let reach = if random(4) == 0 { bytes.len() } else { 5000 };
                let at = random(reach);
                bytes[at] = random(256) as u8;
            }
            std::fs::write(&path, bytes).unwrap();
            if let Ok(report) = inspect(&path, &device) {
                let _ = report.to_string();
            }
            if let Ok(weights) = Weights::open(&path) {
                for (name, tensor) in weights.iter() {
                    let bytes = tensor.bytes();
                    let len = bytes.map_or(tensor.byte_len(), |bytes| bytes.len());
                    assert_eq!(len, tensor.byte_len(), "{name}");
                }
            }
        }
    }
}
