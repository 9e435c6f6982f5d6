//! Weights into modules.

use std::{collections::HashMap, ops::ControlFlow};

use burn::{
    module::{Module, Param, ParamId},
    tensor::{DType, Device, FloatDType, Tensor},
};
use burn_hunyuan::checkpoint::{Error, Weights, check, load_module};
use safetensors::Dtype;

use crate::{
    common::{self, device},
    toy::{TOY, Toy, assert_toy, load, toy_tensors, write},
};

#[test]
fn loads_every_dtype_into_every_dtype() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    for stored in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        let path = folder.path().join(format!("{stored}.safetensors"));
        write(&path, stored, &toy_tensors());
        let weights = Weights::open(&path).unwrap();
        for dtype in [FloatDType::F32, FloatDType::F16, FloatDType::BF16] {
            if !common::supports(&device, dtype) {
                continue;
            }
            assert_toy(&load(&weights, dtype, &device).unwrap(), dtype.into());
        }
    }
}

#[test]
fn loads_shards_by_their_index() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let tensors = toy_tensors();
    write(
        &folder.path().join("a.safetensors"),
        Dtype::F32,
        &tensors[..3],
    );
    write(
        &folder.path().join("b.safetensors"),
        Dtype::BF16,
        &tensors[3..],
    );
    let map: HashMap<_, _> = TOY
        .iter()
        .enumerate()
        .map(|(i, (name, _))| {
            (
                name,
                if i < 3 {
                    "a.safetensors"
                } else {
                    "b.safetensors"
                },
            )
        })
        .collect();
    let index = serde_json::json!({"metadata": {}, "weight_map": map}).to_string();
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();

    let weights = Weights::open(folder.path()).unwrap();
    assert_toy(
        &load(&weights, FloatDType::F32, &device).unwrap(),
        DType::F32,
    );

    std::fs::remove_file(folder.path().join("b.safetensors")).unwrap();
    let error = Weights::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("b.safetensors"), "{error}");
}

#[test]
fn lists_missing_misshapen_and_unexpected_tensors() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    let mut tensors = toy_tensors();
    tensors.truncate(5);
    tensors[1].1 = &[3, 5];
    tensors.push(("position_ids", &[1], vec![0.0]));
    write(&path, Dtype::F32, &tensors);
    let weights = Weights::open(&path).unwrap();

    let mismatch = check(&Toy::new(&device), &weights);
    assert_eq!(mismatch.unexpected, ["position_ids"]);
    let error = load(&weights, FloatDType::F32, &device)
        .unwrap_err()
        .to_string();
    for part in [
        "m.safetensors",
        "position_ids",
        "norm.weight",
        "scale",
        "layers.0.weight [3, 5] instead of [5, 3]",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn reports_progress_and_can_be_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    write(&path, Dtype::F16, &toy_tensors());
    let weights = Weights::open(&path).unwrap();
    let bytes: u64 = TOY
        .iter()
        .map(|(_, shape)| 2 * shape.iter().product::<usize>() as u64)
        .sum();

    let mut seen = vec![];
    let Some(device) = device() else { return };
    load_module(
        Toy::new(&device),
        &weights,
        FloatDType::F32,
        &mut |done, total| {
            seen.push((done, total));
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    assert_eq!(seen.len(), TOY.len());
    assert!(seen.is_sorted());
    assert_eq!(seen.last(), Some(&(bytes, bytes)));

    let stop = &mut |_, _| ControlFlow::Break(());
    let error = load_module(Toy::new(&device), &weights, FloatDType::F32, stop).unwrap_err();
    assert!(matches!(error, Error::Cancelled));
}

#[test]
fn selects_and_joins_rows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    write(
        &path,
        Dtype::F32,
        &[("layers", &[6, 2], (0..12).map(|v| v as f32).collect())],
    );
    let weights = Weights::open(&path).unwrap();
    let fused = weights.get("layers").unwrap();
    let swapped = fused
        .rows(3..6)
        .unwrap()
        .then(fused.rows(0..3).unwrap())
        .unwrap();
    let middle = swapped.rows(2..5).unwrap();
    assert_eq!(middle.shape(), [3, 2]);

    #[derive(Module, Debug)]
    struct One {
        rows: Param<Tensor<2>>,
    }
    let Some(device) = device() else { return };
    let init = |device: &Device, _| Tensor::zeros([3, 2], device);
    let rows = Param::uninitialized(ParamId::new(), init, device.clone(), true, [3, 2].into());
    let mut weights = Weights::new(&path);
    weights.insert("rows", middle);
    let go = &mut |_, _| ControlFlow::Continue(());
    let one = load_module(One { rows }, &weights, FloatDType::F32, go).unwrap();
    assert_eq!(
        common::values(&one.rows.val()),
        [10.0, 11.0, 0.0, 1.0, 2.0, 3.0]
    );

    assert!(fused.rows(4..7).is_none());
    assert!(fused.rows(2..2).is_none());
}
