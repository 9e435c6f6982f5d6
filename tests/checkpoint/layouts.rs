//! The names of every layout lead to the same tensors.

use burn_hunyuan::checkpoint::{
    Component, Model, Parameter, Recognised, Weights, check, parameters, recognise,
};
use burn_hunyuan_dit::DitConfig;
use burn_hunyuan_vae::VaeConfig;
use safetensors::Dtype;

use crate::{common::device, fixture, toy::write};

fn open(path: &str) -> Recognised {
    recognise(&Weights::open(fixture(path)).unwrap()).unwrap()
}

/// Asserts that a checkpoint holds the reference's weights, whatever its layout.
fn assert_same(reference: &str, path: &str, component: Component, layout: &str) {
    let (reference, ours) = (open(reference), open(path));
    assert_eq!((ours.component, ours.layout), (component, layout), "{path}");
    let names: Vec<_> = reference.weights.names().collect();
    assert_eq!(ours.weights.names().collect::<Vec<_>>(), names, "{path}");
    for (name, tensor) in reference.weights.iter() {
        let other = ours.weights.get(name).unwrap();
        assert_eq!(other.shape(), tensor.shape(), "{path}: {name}");
        assert_eq!(
            other.bytes().unwrap(),
            tensor.bytes().unwrap(),
            "{path}: {name}"
        );
    }
}

#[test]
fn every_layout_holds_the_same_transformer() {
    let reference = "diffusers/transformer";
    let tencent = "tencent/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt";
    let comfy = "comfy/hunyuan_video_t2v_720p_bf16.safetensors";
    assert_same(reference, reference, Component::Transformer, "diffusers");
    assert_same(reference, tencent, Component::Transformer, "Tencent");
    assert_same(reference, comfy, Component::Transformer, "ComfyUI");
}

#[test]
fn every_layout_holds_the_same_vae() {
    let reference = "diffusers/vae";
    assert_same(reference, reference, Component::Vae, "diffusers, Tencent");
    assert_same(
        reference,
        "tencent/hunyuan-video-t2v-720p/vae",
        Component::Vae,
        "diffusers, Tencent",
    );
    let comfy = "comfy/hunyuan_video_vae_bf16.safetensors";
    assert_same(reference, comfy, Component::Vae, "latent diffusion");
}

#[test]
fn every_layout_holds_the_same_text_encoders() {
    let llama = "diffusers/text_encoder";
    for path in [
        llama,
        "comfy/llava_llama3_fp16.safetensors",
        "other/llava_with_vision.safetensors",
    ] {
        assert_same(llama, path, Component::TextEncoder, "transformers");
    }
    let clip = "diffusers/text_encoder_2";
    for path in [clip, "comfy/clip_l.safetensors"] {
        assert_same(clip, path, Component::TextEncoder2, "transformers");
    }
}

#[test]
fn a_prefix_before_every_name_does_not_matter() {
    let reference = open("diffusers/transformer").weights;
    let path = "tencent/hunyuan-video-t2v-720p/transformers/mp_rank_00_model_states.pt";
    let plain = Weights::open(fixture(path)).unwrap();
    for prefix in [
        "model.model.",
        "model.diffusion_model.",
        "diffusion_model.",
        "transformer.",
    ] {
        let mut weights = Weights::new("prefixed");
        for (name, tensor) in plain.iter() {
            weights.insert(format!("{prefix}{name}"), tensor.clone());
        }
        let found = recognise(&weights).unwrap();
        assert!(found.weights.names().eq(reference.names()), "{prefix}");
        let name = found.weights.name_in_file("single_blocks.0.mlp.weight");
        assert_eq!(name, format!("{prefix}single_blocks.0.linear1.weight[3..]"));
    }
}

#[test]
fn other_models_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.safetensors");
    for (tensor, family) in [
        ("vision_in.proj.0.weight", "HunyuanVideo 1.5"),
        ("txt_in.weight", "FLUX"),
        ("clean_x_embedder.proj.weight", "FramePack"),
        ("unet.weight", "no part of HunyuanVideo"),
    ] {
        write(&path, Dtype::F32, &[(tensor, &[1], vec![0.0])]);
        let error = recognise(&Weights::open(&path).unwrap())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(family) && error.contains("m.safetensors"),
            "{error}"
        );
    }
}

/// The number of parameters of a module, none of them initialised.
fn count(parameters: &[Parameter]) -> usize {
    parameters
        .iter()
        .map(|p| p.shape.iter().product::<usize>())
        .sum()
}

#[test]
fn the_official_transformer_maps_to_the_original_file_one_to_one() {
    let Some(device) = device() else { return };
    let ours = parameters(&DitConfig::new().init(&device));
    assert_eq!((ours.len(), count(&ours)), (1264, 12_821_012_544));

    // A sparse file with the original names and shapes.
    let table = std::fs::read_to_string(fixture("tencent_official.txt")).unwrap();
    let mut header = serde_json::Map::new();
    let mut end = 0u64;
    for line in table.lines() {
        let (name, shape) = line.split_once(' ').unwrap();
        let shape: Vec<u64> = shape.split('x').map(|n| n.parse().unwrap()).collect();
        let start = end;
        end += 2 * shape.iter().product::<u64>();
        let info =
            serde_json::json!({"dtype": "BF16", "shape": shape, "data_offsets": [start, end]});
        header.insert(name.to_string(), info);
    }
    assert_eq!((header.len(), end / 2), (856, 12_821_012_544));
    let header = serde_json::to_vec(&header).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mp_rank_00_model_states.safetensors");
    let mut file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(&mut file, &(header.len() as u64).to_le_bytes()).unwrap();
    std::io::Write::write_all(&mut file, &header).unwrap();
    file.set_len(8 + header.len() as u64 + end).unwrap();

    let model = Model::open(&[&path]).unwrap();
    let part = model.transformer().unwrap();
    assert_eq!(part.config, DitConfig::new());
    assert!(check(&part.config.init(&device), &part.weights).is_empty());
    let elements: usize = part
        .weights
        .iter()
        .map(|(_, tensor)| tensor.elements())
        .sum();
    assert_eq!((part.weights.len(), elements), (1264, 12_821_012_544));
}

#[test]
fn the_official_vae_has_the_published_count() {
    let Some(device) = device() else { return };
    let ours = parameters(&VaeConfig::new().init(&device));
    assert_eq!((ours.len(), count(&ours)), (248, 246_478_803));
}
