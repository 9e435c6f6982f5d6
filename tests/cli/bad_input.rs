//! Bad input: a message that names what is wrong and what to do, and nothing left behind.

use std::{collections::BTreeMap, fs, path::Path};

use safetensors::{
    Dtype, SafeTensors,
    tensor::{TensorView, serialize_to_file},
};

use crate::program::{Desk, Outcome};

/// Shape, dtype and bytes of each tensor of a file.
type Tensors = BTreeMap<String, (Vec<usize>, Dtype, Vec<u8>)>;

/// Changes the tensors of a safetensors file.
pub fn rewrite(file: &Path, change: impl FnOnce(&mut Tensors)) {
    let bytes = fs::read(file).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let read = read.iter().map(|(name, view)| {
        let (shape, data) = (view.shape().to_vec(), view.data().to_vec());
        (name.to_string(), (shape, view.dtype(), data))
    });
    let mut tensors: Tensors = read.collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, (shape, dtype, data))| {
        let view = TensorView::new(*dtype, shape.clone(), data).unwrap();
        (name.as_str(), view)
    });
    serialize_to_file(views, None, file).unwrap();
}

#[test]
fn impossible_requests_are_bad_usage() {
    let desk = Desk::new();
    let run = |arguments: &str| {
        desk.run(&format!(
            "generate --device flex --prompt cat --output o.mp4 {arguments}"
        ))
    };
    run("--frames 16").fails(2, &["16 frames", "13 or 17"]);
    run("--frames 0").fails(2, &["0 frames", "1 or 5"]);
    run("--size 100x64").fails(2, &["height is 100", "96 or 112"]);
    run("--size 64x100").fails(2, &["width is 100", "96 or 112"]);
    run("--size 0x64").fails(2, &["height is 0", "16"]);
    run("--size 16x4294967312").fails(2, &["16x4294967312", "720x1280"]);
    run("--steps 0").fails(2, &["0 steps", "at least 1"]);
    run("--steps 18446744073709551615").fails(2, &["18446744073709551615 steps", "at most"]);
    run("--frames 4000000001").fails(2, &["4000000001 frames", "at most"]);
    run("--quality 101").fails(2, &["101", "0..=100"]);
    run("--guidance nan").fails(2, &["guidance", "NaN"]);
    run("--flow-shift 0").fails(2, &["flow shift is 0"]);
    assert!(desk.names().is_empty());
}

#[test]
fn an_empty_prompt_is_bad_usage() {
    let desk = Desk::new();
    for prompt in ["''", "' \t'"] {
        desk.generate(&format!("--output o.mp4 --prompt {prompt}"))
            .fails(2, &["prompt is empty"]);
    }
    fs::write(desk.path("empty.txt"), "\n \n").unwrap();
    desk.generate("--output o.mp4 --prompt-file empty.txt")
        .fails(2, &["empty.txt has no prompt", "one on each line"]);
    desk.generate("--output o.mp4 --prompt-file absent.txt")
        .fails(1, &["absent.txt", "No such file"]);
    assert_eq!(desk.names(), ["empty.txt"]);
}

#[test]
fn a_model_that_is_not_there() {
    let desk = Desk::new();
    for option in [
        "model",
        "transformer",
        "vae",
        "text-encoder",
        "text-encoder-2",
    ] {
        desk.generate(&format!("--prompt cat --output o.mp4 --{option} ./absent"))
            .fails(1, &["absent", "No such file"]);
    }
    assert!(desk.names().is_empty());
}

/// A path that reads as a hub id, where no hub can be reached.
#[test]
#[cfg(feature = "hub")]
fn a_hub_that_cannot_be_reached() {
    let desk = Desk::new();
    let mut command = desk.command("generate --prompt cat --output o.mp4 --model owner/name");
    command
        .env("HF_ENDPOINT", "http://127.0.0.1:1")
        .env("HF_HOME", desk.path("cache"));
    Outcome::of(&mut command).fails(
        1,
        &[
            "no file or folder `owner/name`",
            "no connection to http://127.0.0.1:1",
        ],
    );
    assert!(!desk.path("o.mp4").exists());
}

/// A way to damage the pipeline in a folder, and what the message has to hold.
type Damage = (fn(&Path), &'static [&'static str]);

const VAE: &str = "vae/diffusion_pytorch_model.safetensors";
const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";

#[test]
fn damaged_checkpoints_are_refused() {
    let damages: [Damage; 13] = [
        (
            |model| fs::remove_file(model.join(VAE)).unwrap(),
            &["vae", "no weights in this folder"],
        ),
        (
            |model| fs::remove_dir_all(model.join("text_encoder_2")).unwrap(),
            &["no text_encoder_2", "--text-encoder-2"],
        ),
        (
            |model| fs::remove_dir_all(model.join("tokenizer")).unwrap(),
            &["tokenizer.json"],
        ),
        (
            |model| rewrite(&model.join(VAE), |t| drop(t.remove("post_quant_conv.bias"))),
            &[VAE, "1 missing: post_quant_conv.bias"],
        ),
        (
            |model| {
                rewrite(&model.join(TRANSFORMER), |tensors| {
                    tensors.get_mut("proj_out.bias").unwrap().0 = vec![4, 4];
                });
            },
            &[
                TRANSFORMER,
                "misshapen: proj_out.bias [4, 4] instead of [16]",
            ],
        ),
        (
            |model| {
                let whole = fs::read(model.join(TRANSFORMER)).unwrap();
                fs::write(model.join(TRANSFORMER), &whole[..whole.len() / 2]).unwrap();
            },
            &[TRANSFORMER, "truncated", "download it again"],
        ),
        (
            |model| fs::write(model.join(VAE), "<!DOCTYPE html>not found").unwrap(),
            &[VAE, "not a usable safetensors file"],
        ),
        (
            |model| {
                let path = model.join("transformer/config.json");
                let text = fs::read_to_string(&path).unwrap();
                let wrong = text.replace("\"num_layers\": 1", "\"num_layers\": 3");
                assert_ne!(text, wrong);
                fs::write(path, wrong).unwrap();
            },
            &["transformer/config.json", "num_layers", "3", "1"],
        ),
        (
            |model| fs::write(model.join("vae/config.json"), "{").unwrap(),
            &["vae/config.json", "JSON"],
        ),
        (
            |model| fs::write(model.join("tokenizer/tokenizer.json"), "{}").unwrap(),
            &["tokenizer.json"],
        ),
        (
            |model| poison(&model.join("text_encoder/model.safetensors")),
            &["text_encoder/model.safetensors", "NaN"],
        ),
        (
            |model| poison(&model.join(TRANSFORMER)),
            &[TRANSFORMER, "NaN"],
        ),
        (|model| poison(&model.join(VAE)), &[VAE, "NaN"]),
    ];
    for (damage, parts) in damages {
        let desk = Desk::new();
        desk.copy_pipeline("model");
        damage(&desk.path("model"));
        desk.generate(
            "--model ./model --prompt cat --output o.mp4 --save-tensors t.safetensors -q",
        )
        .fails(1, parts);
        assert_eq!(desk.names(), ["model"], "{parts:?}");
    }
}

/// The tokenizer beside a file counts, however the file is written.
#[test]
fn a_tokenizer_beside_a_file_is_found() {
    let desk = Desk::new();
    desk.copy_pipeline("model");
    let encoder = desk.path("model/text_encoder/model.safetensors");
    fs::copy(encoder, desk.path("llama.safetensors")).unwrap();
    fs::write(desk.path("tokenizer.json"), "{}").unwrap();
    for file in ["llama.safetensors", "./llama.safetensors"] {
        desk.generate(&format!(
            "--model ./model --text-encoder {file} --prompt cat --output o.mp4"
        ))
        .fails(1, &["tokenizer.json is not usable"]);
    }
}

/// Makes one value of the first tensor of a file NaN.
fn poison(file: &Path) {
    rewrite(file, |tensors| {
        let (_, dtype, bytes) = tensors.values_mut().next().unwrap();
        assert_eq!(*dtype, Dtype::F32);
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    });
}

#[test]
fn parts_of_different_models_are_refused() {
    let desk = Desk::new();
    desk.copy_pipeline("model");
    for part in ["vae", "text_encoder", "text_encoder_2"] {
        let option = part.replace('_', "-");
        desk.generate(&format!(
            "--prompt cat --output o.mp4 --{option} model/{part}"
        ))
        .fails(1, &["model/", part, "use those of one model"]);
    }
    desk.generate("--prompt cat --output o.mp4 --vae model/transformer")
        .fails(
            1,
            &["model/transformer", "expected a vae", "found: transformer"],
        );
    assert_eq!(desk.names(), ["model"]);
}

#[test]
fn initial_latents_have_to_fit() {
    let desk = Desk::new();
    let run = |file: &str| {
        desk.generate(&format!(
            "--prompt cat --output o.mp4 --init-latents {file}"
        ))
    };
    run("absent.safetensors").fails(1, &["absent.safetensors", "No such file"]);
    fs::write(desk.path("text.safetensors"), "noise").unwrap();
    run("text.safetensors").fails(1, &["text.safetensors", "not a usable safetensors file"]);
    desk.write_tensor("name.safetensors", "noise", &[1, 16, 2, 4, 6], 0.0);
    run("name.safetensors").fails(1, &["no tensor `latents`", "it has: noise"]);
    desk.write_tensor("axes.safetensors", "latents", &[8, 2, 4, 6], 0.0);
    run("axes.safetensors").fails(1, &["[8, 2, 4, 6]", "expected 5 axes"]);
    desk.write_tensor("shape.safetensors", "latents", &[1, 16, 3, 4, 6], 0.0);
    run("shape.safetensors").fails(2, &["[1, 16, 3, 4, 6]", "needs [1, 16, 2, 4, 6]"]);
    desk.write_tensor("nan.safetensors", "latents", &[1, 16, 2, 4, 6], f32::NAN);
    run("nan.safetensors").fails(1, &["nan.safetensors", "not finite"]);
    assert!(
        desk.names()
            .iter()
            .all(|name| name.ends_with(".safetensors") && !name.starts_with('.'))
    );
}
