//! LoRA against diffusers and PEFT (`tests/reference/lora.py`).

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::HashMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use burn::tensor::{Device, FloatDType, Tensor};
use burn_hunyuan::checkpoint::{
    Component, Error, Lora, LoraFormat, Model, Quantization, Weights, load_module, quantize,
    save_transformer,
};
use burn_hunyuan_dit::{Condition, Dit};
use common::{Fixture, assert_close, device, fixture_path, values};
use safetensors::{Dtype, SafeTensors, serialize_to_file, tensor::TensorView};

const BOUND: f32 = 1e-4;
const FILES: [(&str, &str); 3] = [
    ("lora_diffusers.safetensors", "diffusers.strength_1"),
    ("lora_original.safetensors", "original.strength_1"),
    ("lora_kohya.safetensors", "kohya.strength_1"),
];

/// The fixture's transformer as a file of its own, with the config that its tensors leave open.
fn transformer(folder: &Path) -> PathBuf {
    let fixture = Fixture::open("lora.safetensors");
    let bytes = std::fs::read(fixture.path()).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let weights = tensors
        .iter()
        .filter_map(|(name, view)| Some((name.strip_prefix("weights.")?, view)));
    let path = folder.join("diffusion_pytorch_model.safetensors");
    serialize_to_file(weights, None, &path).unwrap();
    std::fs::write(folder.join("config.json"), fixture.config().to_string()).unwrap();
    path
}

fn load(model: &Model, device: &Device) -> Dit {
    let part = model.transformer().unwrap();
    let dit = part.config.init(device);
    let progress = &mut |_, _| ControlFlow::Continue(());
    load_module(dit, &part.weights, FloatDType::F32, progress).unwrap()
}

/// The transformer's output for the fixture's inputs.
fn output(model: &Model, device: &Device) -> Tensor<5> {
    let fixture = Fixture::open("lora.safetensors");
    let valid = values(&fixture.tensor::<2>("mask", device).sum_dim(1))[0] as usize;
    let condition = Condition {
        text: fixture.tensor("text", device),
        text_lengths: vec![valid],
        pooled: fixture.tensor("pooled", device),
        guidance: Some(fixture.tensor("guidance", device)),
    };
    let latents = fixture.tensor("latents", device);
    let timestep = fixture.tensor("timestep", device);
    load(model, device).forward(latents, timestep, &condition)
}

fn expected(key: &str, device: &Device) -> Tensor<5> {
    Fixture::open("lora.safetensors").tensor(key, device)
}

fn open(path: &Path, lora: &Path, strength: f64) -> Model {
    let mut model = Model::open(&[path]).unwrap();
    model
        .add_lora(&Lora::open(lora).unwrap(), strength)
        .unwrap();
    model
}

/// The shape and the values of all tensors of a file, as f32.
fn tensors(path: &Path, device: &Device) -> HashMap<String, (Vec<usize>, Vec<f32>)> {
    let weights = Weights::open(path).unwrap();
    let read = |name: &str| match weights.get(name).unwrap().shape().len() {
        0 => vec![f32::from_le_bytes(
            weights
                .get(name)
                .unwrap()
                .bytes()
                .unwrap()
                .try_into()
                .unwrap(),
        )],
        _ => values(&burn_hunyuan::tensors::load_tensor::<2>(path, name, device).unwrap()),
    };
    weights
        .names()
        .map(|name| {
            let shape = weights.get(name).unwrap().shape().to_vec();
            (name.to_string(), (shape, read(name)))
        })
        .collect()
}

#[test]
fn every_format_acts_as_in_diffusers() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = transformer(folder.path());
    let plain = output(&Model::open(&[&path]).unwrap(), &device);
    assert_close("no LoRA", &plain, &expected("plain", &device), BOUND);
    for (file, key) in FILES {
        let model = open(&path, &fixture_path(file), 1.0);
        assert_close(
            file,
            &output(&model, &device),
            &expected(key, &device),
            BOUND,
        );
    }
    let half = open(&path, &fixture_path(FILES[0].0), 0.5);
    let reference = expected("diffusers.strength_0.5", &device);
    assert_close("strength 0.5", &output(&half, &device), &reference, BOUND);
}

/// A copy of a LoRA with other keys.
fn renamed(from: &Path, to: &Path, rename: impl Fn(&str) -> String) {
    let bytes = std::fs::read(from).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let views = tensors.iter().map(|(key, view)| (rename(key), view));
    serialize_to_file(views, None, to).unwrap();
}

#[test]
fn every_spelling_of_a_key_is_read() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = transformer(folder.path());
    let spelled = folder.path().join("spelled.safetensors");
    let expected = expected("original.strength_1", &device);
    for prefix in [
        "",
        "diffusion_model.",
        "model.diffusion_model.",
        "transformer.",
        "base_model.model.",
    ] {
        for (down, up) in [
            ("lora_A.weight", "lora_B.weight"),
            ("lora_A.default.weight", "lora_B.default.weight"),
            ("lora_down.weight", "lora_up.weight"),
            ("lora.down.weight", "lora.up.weight"),
        ] {
            renamed(
                &fixture_path("lora_original.safetensors"),
                &spelled,
                |key| {
                    let key = key.strip_prefix("diffusion_model.").unwrap();
                    let key = key.replace("lora_A.weight", down);
                    format!("{prefix}{}", key.replace("lora_B.weight", up))
                },
            );
            let output = output(&open(&path, &spelled, 1.0), &device);
            assert_close(&format!("{prefix}…{down}"), &output, &expected, BOUND);
        }
    }
}

/// The closed form: `W + strength · (scale · up · down + diff)` and `b + strength · diff_b`.
#[test]
fn differences_are_added_in_full() {
    const WIDTH: usize = 32;
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = transformer(folder.path());
    let lora = folder.path().join("lora.safetensors");
    // The fused layers of ComfyUI's names: three parts in one layer, four in the other.
    let rows = |name: &str| Weights::open(&path).unwrap().get(name).unwrap().shape()[0];
    let mlp = rows("single_transformer_blocks.0.proj_mlp.bias");
    let qkv = "diffusion_model.double_blocks.0.img_attn.qkv";
    let linear1 = "diffusion_model.single_blocks.0.linear1";
    let added: Vec<(String, Vec<usize>)> = vec![
        (format!("{qkv}.diff_b"), vec![3 * WIDTH]),
        (format!("{qkv}.lora_down.weight"), vec![1, WIDTH]),
        (format!("{qkv}.lora_up.weight"), vec![3 * WIDTH, 1]),
        (format!("{linear1}.diff"), vec![3 * WIDTH + mlp, WIDTH]),
        (format!("{linear1}.diff_b"), vec![3 * WIDTH + mlp]),
        (
            "diffusion_model.txt_in.individual_token_refiner.blocks.0.norm1.diff".into(),
            vec![WIDTH],
        ),
    ];
    // Every value of a tensor is another.
    let value = |tensor: usize, i: usize| (tensor + 1) as f32 + i as f32 / 1024.0;
    let bytes: Vec<Vec<u8>> = added
        .iter()
        .enumerate()
        .map(|(tensor, (_, shape))| {
            let elements = 0..shape.iter().product::<usize>();
            elements
                .flat_map(|i| value(tensor, i).to_le_bytes())
                .collect()
        })
        .collect();
    let views = added.iter().zip(&bytes).map(|((key, shape), bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (key, view)
    });
    serialize_to_file(views, None, &lora).unwrap();

    let model = open(&path, &lora, 0.5);
    let merged = folder.path().join("merged.safetensors");
    let progress = &mut |_, _| ControlFlow::Continue(());
    save_transformer(&model, &merged, FloatDType::F32, &device, progress).unwrap();
    let read = |path: &Path| {
        let bytes = std::fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let values = tensors.iter().map(|(name, view)| {
            let values = view.data().as_chunks().0.iter();
            let values: Vec<f32> = values.map(|bytes| f32::from_le_bytes(*bytes)).collect();
            (name.to_string(), values)
        });
        values.collect::<HashMap<_, _>>()
    };
    let (before, after) = (read(&path), read(&merged));
    let dual = "transformer_blocks.0.attn";
    let single = "single_transformer_blocks.0";
    // What is added to the `i`-th value of a tensor, before the strength.
    type Added<'a> = Box<dyn Fn(usize) -> f32 + 'a>;
    let mut expected: HashMap<String, Added> = HashMap::new();
    for (part, name) in ["to_q", "to_k", "to_v"].into_iter().enumerate() {
        let first = part * WIDTH;
        let bias = move |i| value(0, first + i);
        expected.insert(format!("{dual}.{name}.bias"), Box::new(bias));
        let product = move |i: usize| value(2, first + i / WIDTH) * value(1, i % WIDTH);
        expected.insert(format!("{dual}.{name}.weight"), Box::new(product));
        let weight = move |i| value(3, first * WIDTH + i);
        expected.insert(format!("{single}.attn.{name}.weight"), Box::new(weight));
        let bias = move |i| value(4, first + i);
        expected.insert(format!("{single}.attn.{name}.bias"), Box::new(bias));
    }
    let weight = move |i| value(3, 3 * WIDTH * WIDTH + i);
    expected.insert(format!("{single}.proj_mlp.weight"), Box::new(weight));
    let bias = move |i| value(4, 3 * WIDTH + i);
    expected.insert(format!("{single}.proj_mlp.bias"), Box::new(bias));
    let norm = "context_embedder.token_refiner.refiner_blocks.0.norm1.weight";
    expected.insert(norm.into(), Box::new(|i| value(5, i)));
    for (name, before) in before {
        let added = expected.remove(&name);
        for (i, (before, after)) in before.into_iter().zip(&after[&name]).enumerate() {
            let added = added.as_ref().map_or(0.0, |added| 0.5 * added(i));
            let sum = before + added;
            assert!(
                (after - sum).abs() <= 1e-6 * sum.abs().max(1.0),
                "{name} {i}"
            );
        }
    }
    assert!(expected.is_empty(), "{:?}", expected.keys());

    // On the way into a module as well.
    let whole = Model::open(&[&path]).map(|mut model| {
        model.replace(Component::Transformer, &merged).unwrap();
        model
    });
    let whole = output(&whole.unwrap(), &device);
    assert_close("loaded", &output(&model, &device), &whole, BOUND);

    let error = Lora::open(&lora)
        .unwrap()
        .save(&folder.path().join("converted"), LoraFormat::Kohya)
        .unwrap_err()
        .to_string();
    assert!(error.contains("lora merge"), "{error}");
}

#[test]
fn a_folder_stands_for_the_lora_in_it() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = transformer(folder.path());
    let style = folder.path().join("style");
    std::fs::create_dir(&style).unwrap();
    let (file, key) = FILES[0];
    std::fs::copy(
        fixture_path(file),
        style.join("pytorch_lora_weights.safetensors"),
    )
    .unwrap();
    let output = output(&open(&path, &style, 1.0), &device);
    assert_close("folder", &output, &expected(key, &device), BOUND);
}

#[test]
fn several_loras_add_up() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = transformer(folder.path());
    let lora = fixture_path("lora_original.safetensors");
    let mut twice = open(&path, &lora, 0.75);
    twice.add_lora(&Lora::open(&lora).unwrap(), 0.25).unwrap();
    let reference = expected("original.strength_1", &device);
    assert_close("0.75 + 0.25", &output(&twice, &device), &reference, BOUND);
    twice.add_lora(&Lora::open(&lora).unwrap(), -1.0).unwrap();
    let plain = expected("plain", &device);
    assert_close("taken back", &output(&twice, &device), &plain, BOUND);
}

#[test]
fn conversions_keep_what_a_lora_does() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = transformer(folder.path());
    let converted = folder.path().join("converted.safetensors");
    for (file, key) in FILES {
        for format in [
            LoraFormat::Kohya,
            LoraFormat::Diffusers,
            LoraFormat::Original,
        ] {
            let lora = Lora::open(fixture_path(file)).unwrap();
            lora.save(&converted, format).unwrap();
            let output = output(&open(&path, &converted, 1.0), &device);
            let what = format!("{file} as {format:?}");
            assert_close(&what, &output, &expected(key, &device), BOUND);
        }
    }
}

#[test]
fn fused_layers_survive_being_split() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (split, fused) = (folder.path().join("split"), folder.path().join("fused"));
    for (file, format) in [
        ("lora_original.safetensors", LoraFormat::Original),
        ("lora_kohya.safetensors", LoraFormat::Kohya),
    ] {
        // By way of our layers alone, and by way of a file that has them split.
        let lora = Lora::open(fixture_path(file)).unwrap();
        lora.save(&fused, format).unwrap();
        assert_eq!(
            tensors(&fused, &device),
            tensors(&fixture_path(file), &device)
        );
        lora.save(&split, LoraFormat::Diffusers).unwrap();
        Lora::open(&split)
            .unwrap()
            .save(&fused, LoraFormat::Original)
            .unwrap();
        let ranks = tensors(&fused, &device);
        assert_eq!(
            ranks["diffusion_model.single_blocks.0.linear1.lora_A.weight"].0,
            [3, 32]
        );
    }
}

/// As a pipeline of diffusers writes them: its names, and matrices that need no metadata.
#[test]
fn diffusers_names_and_matrices_are_kept() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (file, written) = (fixture_path(FILES[0].0), folder.path().join("written"));
    let lora = Lora::open(&file).unwrap();
    lora.save(&written, LoraFormat::Diffusers).unwrap();
    let expected = tensors(&file, &device).into_iter().map(|(name, tensor)| {
        // Alpha over rank, which the metadata has.
        let scale = match name.as_str() {
            name if name.ends_with("lora_A.weight") => 1.0,
            name if name.contains("proj_mlp") => 4.5 / 3.0,
            _ => 1.5 / 3.0,
        };
        let (shape, values) = tensor;
        let values = values.into_iter().map(|value| value * scale).collect();
        (format!("transformer.{name}"), (shape, values))
    });
    assert_eq!(tensors(&written, &device), expected.collect());
}

#[test]
fn a_merged_file_is_the_model_with_its_loras() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = transformer(folder.path());
    for (file, key) in FILES {
        let model = open(&path, &fixture_path(file), 1.0);
        let merged = folder.path().join("merged.safetensors");
        let progress = &mut |_, _| ControlFlow::Continue(());
        save_transformer(&model, &merged, FloatDType::F32, &device, progress).unwrap();
        let mut model = Model::open(&[&path]).unwrap();
        model.replace(Component::Transformer, &merged).unwrap();
        assert_close(
            file,
            &output(&model, &device),
            &expected(key, &device),
            BOUND,
        );
        // The names and shapes are those of the file that diffusers wrote.
        let shapes = |path: &Path| -> Vec<(String, Vec<usize>)> {
            let weights = Weights::open(path).unwrap();
            weights
                .iter()
                .map(|(name, tensor)| (name.into(), tensor.shape().to_vec()))
                .collect()
        };
        assert_eq!(shapes(&merged), shapes(&path));
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = transformer(folder.path());
    let lora = folder.path().join("lora.safetensors");
    let attempt = |tensors: &[(&str, [usize; 2])]| {
        let zeros = [0; 4 * 4096];
        let view = |shape: &[usize; 2]| {
            TensorView::new(
                Dtype::F32,
                shape.to_vec(),
                &zeros[..4 * shape[0] * shape[1]],
            )
            .unwrap()
        };
        let views = tensors
            .iter()
            .map(|(key, shape)| (key.to_string(), view(shape)));
        serialize_to_file(views, None, &lora).unwrap();
        let mut model = Model::open(&[&path]).unwrap();
        let error: Error = match Lora::open(&lora) {
            Ok(lora) => model.add_lora(&lora, 1.0).unwrap_err(),
            Err(error) => error,
        };
        error.to_string()
    };
    let down = "transformer.transformer_blocks.0.attn.to_q.lora_A.weight";
    let up = "transformer.transformer_blocks.0.attn.to_q.lora_B.weight";
    for (tensors, says) in [
        (
            vec![(down, [2, 32])],
            "missing: transformer.transformer_blocks.0.attn.to_q: its up",
        ),
        (
            vec![(down, [2, 32]), (up, [32, 3])],
            "to_q [32, 3] instead of [32, 2]",
        ),
        (
            vec![(down, [2, 16]), (up, [16, 2])],
            "dual_blocks.0.image.q [16, 16] instead of [32, 32]",
        ),
        (
            vec![("lora_unet_middle.lora_down.weight", [2, 32])],
            "unexpected: lora_unet_middle",
        ),
        (
            vec![("single_blocks.0.linear2.diff", [32, 32])],
            "single_blocks.0.proj.weight [32, 32] instead of",
        ),
        (vec![("transformer.x.hada_w1_a", [2, 2])], "LoHa"),
        (vec![("transformer.x.lokr_w1", [2, 2])], "LoKr"),
        (vec![("transformer.x.dora_scale", [2, 2])], "DoRA"),
        (
            vec![("lora_te1_x.lora_down.weight", [2, 2])],
            "no LoRA for a transformer",
        ),
        (
            vec![("transformer.x.weight", [2, 2])],
            "is this a LoRA file?",
        ),
    ] {
        let message = attempt(&tensors);
        assert!(message.contains(says), "{message}\nlacks: {says}");
        assert!(message.contains("lora.safetensors"), "{message}");
    }
}

#[test]
fn loras_are_in_the_weights_before_these_are_quantized() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::open(&[transformer(folder.path())]).unwrap();
    let lora = Lora::open(fixture_path(FILES[0].0)).unwrap();
    model.add_lora(&lora, 0.7).unwrap();
    let progress = &mut |_, _| ControlFlow::Continue(());
    let merged = folder.path().join("merged.safetensors");
    save_transformer(&model, &merged, FloatDType::F32, &device, progress).unwrap();

    let to = Quantization::Fp8;
    let mut quantized = |model: &Model| {
        let weights = model.transformer().unwrap().weights;
        quantize(&weights, to, &device, progress).unwrap()
    };
    let ours = quantized(&model);
    model.replace(Component::Transformer, &merged).unwrap();
    let expected = quantized(&model);
    assert!(ours.is_compressed());
    for (name, tensor) in ours.iter().filter(|(_, t)| t.encoding() == to.encoding()) {
        let expected = expected.get(name).unwrap();
        assert_eq!(tensor.bytes().unwrap(), expected.bytes().unwrap(), "{name}");
        assert_eq!(tensor.scale(), expected.scale(), "{name}");
    }
}
