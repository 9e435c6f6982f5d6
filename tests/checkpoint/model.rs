//! Whole models from folders and files: their parts, sizes and settings.

use std::{ops::ControlFlow, path::Path};

use burn::tensor::FloatDType;
use burn_hunyuan::checkpoint::{Component, Model, inspect, load_module};
use burn_hunyuan_dit::DitConfig;
use burn_hunyuan_text::{Activation, ClipConfig, LlamaConfig, Tokenizer};
use burn_hunyuan_vae::VaeConfig;

use crate::{
    common::{device, fixture_path},
    fixture,
};

/// Asserts the sizes of the fixtures, where `settings` (those that tensors do not determine) come
/// from config files or are the published model's.
fn assert_sizes(model: &Model, transformer: DitConfig, vae: VaeConfig) {
    let found = model.transformer().unwrap().config;
    let expected = DitConfig {
        in_channels: 4,
        out_channels: 4,
        heads: 2,
        head_dim: 8,
        dual_blocks: 2,
        single_blocks: 1,
        refiner_blocks: 2,
        mlp_ratio: 3.0,
        patch: [1, 2, 2],
        guidance: true,
        text_dim: 12,
        pooled_dim: 8,
        ..transformer
    };
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));

    let found = model.vae().unwrap().config;
    let expected = VaeConfig {
        latent_channels: 4,
        block_out_channels: [4, 4, 8, 8],
        layers_per_block: 1,
        ..vae
    };
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));

    let expected = LlamaConfig::new()
        .with_vocabulary(20)
        .with_hidden(12)
        .with_intermediate(24)
        .with_layers(2)
        .with_heads(6)
        .with_kv_heads(2)
        .with_rope_theta(250000.0);
    assert_eq!(model.text_encoder().unwrap().config, expected);

    let expected = ClipConfig::new()
        .with_vocabulary(24)
        .with_hidden(8)
        .with_intermediate(20)
        .with_layers(3)
        .with_heads(4)
        .with_activation(Activation::QuickGelu)
        .with_eos_token(23);
    assert_eq!(model.text_encoder_2().unwrap().config, expected);
}

/// Loads every part.
fn assert_loads(model: &Model) {
    let Some(device) = device() else { return };
    let go = &mut |_, _| ControlFlow::Continue(());
    let part = model.transformer().unwrap();
    load_module(
        part.config.init(&device),
        &part.weights,
        FloatDType::F32,
        go,
    )
    .unwrap();
    let part = model.vae().unwrap();
    load_module(
        part.config.init(&device),
        &part.weights,
        FloatDType::F32,
        go,
    )
    .unwrap();
    let part = model.text_encoder().unwrap();
    load_module(
        part.config.init(&device),
        &part.weights,
        FloatDType::F32,
        go,
    )
    .unwrap();
    let part = model.text_encoder_2().unwrap();
    load_module(
        part.config.init(&device),
        &part.weights,
        FloatDType::F32,
        go,
    )
    .unwrap();
}

fn fixture_transformer() -> DitConfig {
    DitConfig::new()
        .with_rope_axes([4, 2, 2])
        .with_rope_theta(128.0)
}

fn fixture_vae() -> VaeConfig {
    VaeConfig::new()
        .with_norm_num_groups(2)
        .with_scaling_factor(0.5)
}

#[test]
fn opens_a_diffusers_folder() {
    let model = Model::open(&[fixture("diffusers")]).unwrap();
    assert_sizes(&model, fixture_transformer(), fixture_vae());
    assert_loads(&model);
    assert_eq!(model.shift(), 5.0);
    model.tokenizer(Component::TextEncoder).unwrap();
    model.tokenizer(Component::TextEncoder2).unwrap();
}

#[test]
fn opens_an_original_folder_and_replaces_a_part() {
    // This transformer's rotary axes are not the published model's, and its file cannot tell them.
    let mut model = Model::open(&[fixture("tencent")]).unwrap();
    let error = model.transformer().unwrap_err().to_string();
    assert!(
        error.contains("rope_axes_dim") && error.contains("config.json"),
        "{error}"
    );

    model
        .replace(Component::Transformer, &fixture("diffusers/transformer"))
        .unwrap();
    assert_sizes(&model, fixture_transformer(), fixture_vae());
    assert_loads(&model);
    assert_eq!(model.shift(), 7.0);
    model.tokenizer(Component::TextEncoder2).unwrap();
}

#[test]
fn a_single_file_takes_open_settings_from_the_model_it_joins() {
    let mut model = Model::open(&[fixture("diffusers")]).unwrap();
    for (component, file) in [
        (
            Component::Transformer,
            "hunyuan_video_t2v_720p_bf16.safetensors",
        ),
        (Component::Vae, "hunyuan_video_vae_bf16.safetensors"),
        (Component::TextEncoder, "llava_llama3_fp16.safetensors"),
        (Component::TextEncoder2, "clip_l.safetensors"),
    ] {
        model
            .replace(component, &fixture("comfy").join(file))
            .unwrap();
    }
    assert_sizes(&model, fixture_transformer(), fixture_vae());
    assert_loads(&model);
    model.tokenizer(Component::TextEncoder).unwrap();
}

#[test]
fn opens_single_files_in_any_order() {
    let files = [
        "clip_l",
        "hunyuan_video_vae_bf16",
        "hunyuan_video_t2v_720p_bf16",
        "llava_llama3_fp16",
    ];
    let files = files.map(|name| fixture(&format!("comfy/{name}.safetensors")));
    let model = Model::open(&files).unwrap();
    assert_eq!(model.components().count(), 4);
    let error = model
        .tokenizer(Component::TextEncoder)
        .unwrap_err()
        .to_string();
    assert!(error.contains("tokenizer.json"), "{error}");

    let model = Model::open(&files[1..2]).unwrap();
    let error = model.transformer().unwrap_err().to_string();
    assert!(error.contains("--transformer"), "{error}");

    let twice = [&files[0], &files[0]];
    let error = Model::open(&twice).unwrap_err().to_string();
    assert!(
        error.contains("clip_l") && error.contains("text_encoder_2"),
        "{error}"
    );

    let mut model = Model::open(&files[..1]).unwrap();
    let error = model
        .replace(Component::Vae, &files[0])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("expected a vae, found: text_encoder_2"),
        "{error}"
    );
}

/// ComfyUI keeps both text encoders in one folder.
#[test]
fn each_text_encoder_of_a_folder_has_its_own_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let encoders = ["llava_llama3_fp16.safetensors", "clip_l.safetensors"];
    for name in encoders {
        std::fs::copy(fixture("comfy").join(name), path(name)).unwrap();
    }
    let text = |name: &str| fixture_path("text").join(name);
    let ids = |tokenizer: Tokenizer| tokenizer.encode("a cat, 2 dogs").unwrap().ids;
    let ids_of = |component| {
        let model = Model::open(&encoders.map(path)).unwrap();
        model.tokenizer(component).map(ids)
    };
    let original = |name: &str| ids(Tokenizer::open(&text(name)).unwrap());

    // CLIP's alone is not taken for LLaMA's, in either form.
    for name in ["vocab.json", "merges.txt"] {
        std::fs::copy(text("clip_vocab").join(name), path(name)).unwrap();
    }
    let clip = original("clip_vocab");
    assert_eq!(ids_of(Component::TextEncoder2).unwrap(), clip);
    let error = ids_of(Component::TextEncoder).unwrap_err().to_string();
    assert!(error.contains("no tokenizer"), "{error}");
    std::fs::copy(text("clip/tokenizer.json"), path("tokenizer.json")).unwrap();
    let error = ids_of(Component::TextEncoder).unwrap_err().to_string();
    assert!(error.contains("CLIP's"), "{error}");

    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(text("llama").join(name), path(name)).unwrap();
    }
    assert_eq!(ids_of(Component::TextEncoder2).unwrap(), clip);
    assert_eq!(ids_of(Component::TextEncoder).unwrap(), original("llama"));
}

/// Copies a fixture folder, to be damaged.
fn copied(path: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(&fixture(path), folder.path());
    folder
}

#[test]
fn a_config_that_disagrees_with_the_tensors_is_an_error_with_both_values() {
    for (part, key, wrong, right) in [
        ("transformer", "num_layers", "3", "2"),
        ("transformer", "guidance_embeds", "false", "true"),
        ("transformer", "mlp_ratio", "4.0", "3"),
        ("transformer", "attention_head_dim", "16", "8"),
        ("vae", "latent_channels", "16", "4"),
        ("text_encoder", "num_key_value_heads", "3", "2"),
        ("text_encoder_2", "vocab_size", "25", "24"),
    ] {
        let folder = copied("diffusers");
        let path = folder.path().join(part).join("config.json");
        let mut config: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        config[key] = serde_json::from_str(wrong).unwrap();
        std::fs::write(&path, config.to_string()).unwrap();

        let model = Model::open(&[folder.path()]).unwrap();
        let error = [
            model.transformer().map(|_| ()),
            model.vae().map(|_| ()),
            model.text_encoder().map(|_| ()),
            model.text_encoder_2().map(|_| ()),
        ]
        .into_iter()
        .find_map(Result::err)
        .unwrap_or_else(|| panic!("{part}: {key} is not compared"))
        .to_string();
        let parts = [part, key, wrong.trim_end_matches(".0"), right];
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn inspects_whole_and_damaged_checkpoints() {
    let Some(device) = device() else { return };
    for path in ["diffusers", "comfy/llava_llama3_fp16.safetensors"] {
        let report = inspect(&fixture(path), &device).unwrap();
        assert_eq!(report.is_clean(), path == "diffusers", "{report}");
    }
    let report = inspect(&fixture("diffusers"), &device).unwrap().to_string();
    for part in [
        "transformer",
        "vae",
        "text_encoder_2",
        "diffusers",
        "BF16",
        "whole",
    ] {
        assert!(report.contains(part), "{part}:\n{report}");
    }

    // Tensors of a shard renamed: one is missing, one unexpected, by the names of the file.
    let folder = copied("diffusers");
    let index = folder
        .path()
        .join("transformer/diffusion_pytorch_model.safetensors.index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    let lost = "single_transformer_blocks.0.attn.to_k.weight";
    std::fs::write(&index, text.replace(lost, "norm_out.linear_2.weight")).unwrap();
    let error = inspect(folder.path(), &device).unwrap_err().to_string();
    assert!(error.contains("norm_out.linear_2.weight"), "{error}");

    let mut map: serde_json::Value = serde_json::from_str(&text).unwrap();
    map["weight_map"].as_object_mut().unwrap().remove(lost);
    std::fs::write(&index, map.to_string()).unwrap();
    let report = inspect(folder.path(), &device).unwrap();
    assert!(!report.is_clean());
    let report = report.to_string();
    assert!(
        report.contains(&format!("missing     {lost} [16, 16]")),
        "{report}"
    );
}
