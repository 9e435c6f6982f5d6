//! Compressed weights against `gguf` and torch (`tests/reference/encodings.py`).

use std::{collections::HashMap, ops::ControlFlow, path::Path};

use burn::{
    module::{Module, Param, ParamId},
    nn::{Linear, LinearConfig},
    tensor::{Device, FloatDType, Shape, Tensor},
};
use burn_hunyuan::checkpoint::{Error, StoredTensor, Weights, load_module, recognise};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::common::{Fixture, device, fixture_path, supports, values};

/// A module of nothing but matrices.
#[derive(Module, Debug)]
struct Matrices {
    matrices: Vec<Param<Tensor<2>>>,
}

impl Matrices {
    fn load(weights: &Weights, dtype: FloatDType, device: &Device) -> Result<Self, Error> {
        let matrices = weights.iter().map(|(_, tensor)| {
            let shape: [usize; 2] = tensor.shape().try_into().unwrap();
            let unused = |_: &Device, _: bool| panic!("initialised before it was loaded");
            Param::uninitialized(
                ParamId::new(),
                unused,
                device.clone(),
                true,
                Shape::from(shape),
            )
        });
        let module = Self {
            matrices: matrices.collect(),
        };
        load_module(
            module,
            weights,
            dtype,
            &mut |_, _| ControlFlow::Continue(()),
        )
    }
}

#[test]
fn every_block_type_decodes_as_in_the_reference() {
    let Some(device) = device() else { return };
    let weights = Weights::open(fixture_path("encodings/blocks.gguf")).unwrap();
    let expected = Fixture::open("encodings/blocks.safetensors");
    let types = expected.config();
    let types = types.as_array().unwrap();
    assert_eq!(weights.len(), types.len());
    let names = weights
        .iter()
        .map(|(_, tensor)| tensor.encoding().to_string());
    let mut names: Vec<_> = names.collect();
    let mut reference: Vec<_> = types
        .iter()
        .map(|name| name.as_str().unwrap().to_string())
        .collect();
    names.sort();
    reference.sort();
    assert_eq!(names, reference);

    for dtype in [FloatDType::F32, FloatDType::BF16] {
        if !supports(&device, dtype) {
            continue;
        }
        // Ten and more sort between one and two, so one matrix at a time.
        for (i, name) in types.iter().enumerate() {
            let mut one = Weights::new("blocks.gguf");
            let key = format!("matrices.{i}");
            one.insert("matrices.0", weights.get(&key).unwrap().clone());
            let ours = Matrices::load(&one, dtype, &device).unwrap();
            let reference = expected.tensor::<2>(&key, &device).cast(dtype);
            assert_eq!(
                values(&ours.matrices[0].val()),
                values(&reference),
                "{name} to {dtype:?}"
            );
        }
    }
}

#[test]
fn fp8_decodes_with_and_without_scales() {
    let Some(device) = device() else { return };
    let weights = Weights::open(fixture_path("encodings/fp8.safetensors")).unwrap();
    let expected = Fixture::open("encodings/values.safetensors");
    // The scales and what accompanies them are no tensors of the model.
    assert_eq!(weights.len(), 4);
    assert_eq!(weights.main_dtype(), FloatDType::BF16);
    #[derive(Module, Debug)]
    struct Layers {
        layers: Vec<Linear>,
    }
    let linear = |_| LinearConfig::new(16, 15).with_bias(false).init(&device);
    let module = Layers {
        layers: (0..4).map(linear).collect(),
    };
    let progress = &mut |_, _| ControlFlow::Continue(());
    let module = load_module(module, &weights, FloatDType::F32, progress).unwrap();
    for (i, layer) in module.layers.iter().enumerate() {
        let reference = expected.tensor::<2>(&format!("layers.{i}.weight"), &device);
        assert_eq!(
            values(&layer.weight.val().transpose()),
            values(&reference),
            "layer {i}"
        );
    }
}

/// Scales are in the shards and in the index as well.
#[test]
fn scales_of_shards_are_applied() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = std::fs::read(fixture_path("encodings/fp8.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut map = HashMap::new();
    // Weights and their scales alternate between the shards.
    for (i, shard) in ["a.safetensors", "b.safetensors"].into_iter().enumerate() {
        let names = file.names().into_iter().enumerate();
        let names = names.filter_map(|(n, name)| (n % 2 == i).then_some(name));
        let tensors: Vec<_> = names
            .map(|name| (name, file.tensor(name).unwrap()))
            .collect();
        map.extend(tensors.iter().map(|(name, _)| (*name, shard)));
        safetensors::serialize_to_file(tensors, None, &folder.path().join(shard)).unwrap();
    }
    let index = serde_json::json!({ "weight_map": map }).to_string();
    std::fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
    let sharded = Weights::open(folder.path()).unwrap();
    let whole = Weights::open(fixture_path("encodings/fp8.safetensors")).unwrap();
    assert!(sharded.names().eq(whole.names()), "{sharded:?}");
    for (name, tensor) in sharded.iter() {
        let expected = whole.get(name).unwrap();
        assert_eq!(tensor.scale(), expected.scale(), "{name}");
        assert_eq!(tensor.bytes().unwrap(), expected.bytes().unwrap(), "{name}");
    }
    assert!(whole.iter().any(|(_, tensor)| tensor.scale() != 1.0));
}

#[test]
fn a_scale_in_another_number_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    // As f32 each would be a number, and another one.
    for (dtype, scale) in [
        (Dtype::I32, 2_i32.to_le_bytes().to_vec()),
        (Dtype::F64, 0.5_f64.to_le_bytes().to_vec()),
        (Dtype::I64, 2_i64.to_le_bytes().to_vec()),
    ] {
        let tensors = [
            (
                "layer.weight",
                Dtype::F8_E4M3,
                vec![1, 2],
                &[0x38, 0x40][..],
            ),
            ("layer.scale_weight", dtype, vec![1], &scale),
        ];
        let views = tensors.map(|(name, dtype, shape, bytes)| {
            (name, TensorView::new(dtype, shape, bytes).unwrap())
        });
        safetensors::serialize_to_file(views, None, &path).unwrap();
        let error = Weights::open(&path).unwrap_err();
        assert!(
            matches!(&error, Error::Dtype { name, .. } if name == "layer.scale_weight"),
            "{error}"
        );
    }
}

/// As Tencent's program computes with them in bf16, to the bit.
#[test]
fn tencents_float8_is_read_with_its_scales() {
    let Some(device) = device() else { return };
    let path = fixture_path("encodings/tencent_fp8.pt");
    let weights = Weights::open(&path).unwrap();
    let expected = Weights::open(fixture_path("encodings/tencent_fp8.safetensors")).unwrap();
    assert!(weights.names().eq(expected.names()), "{weights:?}");
    assert!(weights.is_compressed());
    for (name, tensor) in weights.iter() {
        let other = expected.get(name).unwrap();
        if let [_, _] = tensor.shape() {
            let load = |tensor: &StoredTensor| {
                let mut one = Weights::new(name);
                one.insert("matrices.0", tensor.clone());
                let module = Matrices::load(&one, FloatDType::BF16, &device).unwrap();
                values(&module.matrices[0].val())
            };
            if supports(&device, FloatDType::BF16) {
                assert_eq!(load(tensor), load(other), "{name}");
            }
        } else {
            assert_eq!(tensor.bytes().unwrap(), other.bytes().unwrap(), "{name}");
        }
    }

    // Without the scales, the weights are noise.
    let folder = tempfile::tempdir().unwrap();
    let (alone, map) = ["m.pt", "m_map.pt"]
        .map(|name| folder.path().join(name))
        .into();
    std::fs::copy(&path, &alone).unwrap();
    let message = Weights::open(&alone).unwrap_err().to_string();
    assert!(message.contains("m_map.pt"), "{message}");
    // Another checkpoint's scales.
    let other =
        "checkpoints/tencent/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt";
    std::fs::copy(fixture_path(other), &map).unwrap();
    let message = Weights::open(&alone).unwrap_err().to_string();
    assert!(message.contains("no scale for"), "{message}");
}

#[test]
fn damaged_float8_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pt");
    let map = fixture_path("encodings/tencent_fp8_map.pt");
    std::fs::copy(map, folder.path().join("m_map.pt")).unwrap();
    let whole = std::fs::read(fixture_path("encodings/tencent_fp8.pt")).unwrap();
    for length in (0..whole.len()).step_by(97) {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(Weights::open(&path).is_err(), "{length}");
        let mut damaged = whole.clone();
        damaged[length] ^= 0x55;
        std::fs::write(&path, &damaged).unwrap();
        if let Ok(weights) = Weights::open(&path) {
            for (_, tensor) in weights.iter() {
                assert!(tensor.byte_len() <= whole.len());
            }
        }
    }
}

/// The bytes of every tensor under our names.
fn recognised(path: &Path) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let weights = recognise(&Weights::open(path).unwrap()).unwrap().weights;
    let tensors = weights.iter();
    tensors
        .map(|(name, tensor)| {
            (
                name.into(),
                tensor.shape().to_vec(),
                tensor.bytes().unwrap(),
            )
        })
        .collect()
}

#[test]
fn gguf_holds_the_transformer_of_the_original_file() {
    let gguf = recognised(&fixture_path("encodings/transformer.gguf"));
    let original =
        "checkpoints/tencent/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt";
    assert_eq!(gguf, recognised(&fixture_path(original)));
}

#[test]
fn gguf_holds_the_llama_of_transformers() {
    let gguf = recognised(&fixture_path("encodings/llama.gguf"));
    assert!(gguf.len() > 10);
    assert_eq!(
        gguf,
        recognised(&fixture_path("encodings/llama.safetensors"))
    );
    let weights = Weights::open(fixture_path("encodings/llama.gguf")).unwrap();
    let name = weights.name_in_file("layers.1.mlp.down_proj.weight");
    assert_eq!(name, "blk.1.ffn_down.weight");
}

#[test]
fn a_damaged_gguf_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.gguf");
    let whole = std::fs::read(fixture_path("encodings/blocks.gguf")).unwrap();
    let header = whole.len() - whole.len() / 16;
    for len in (0..800).chain(header..whole.len()).step_by(3) {
        std::fs::write(&path, &whole[..len]).unwrap();
        match Weights::open(&path) {
            Err(Error::Malformed { .. } | Error::Truncated { .. } | Error::Io { .. }) => {}
            // What is missing then is the padding at the end.
            other => assert!(other.is_ok() && whole.len() - len < 32, "{len}: {other:?}"),
        }
    }
    // Any byte of the header may be anything.
    for at in 0..800 {
        for value in [0, 9, 0xff] {
            let mut damaged = whole.clone();
            damaged[at] = value;
            std::fs::write(&path, &damaged).unwrap();
            if let Ok(weights) = Weights::open(&path) {
                for (_, tensor) in weights.iter() {
                    assert!(tensor.byte_len() <= whole.len());
                }
            }
        }
    }
}
