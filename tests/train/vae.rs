//! The VAE's training against diffusers (`tests/reference/train_vae.py`), and on itself.

use std::{ops::ControlFlow, path::Path};

use burn::{
    module::Module,
    tensor::{Device, FloatDType},
};
use burn_hunyuan::checkpoint::{Component, Model, Weights, load_module};
use burn_hunyuan_train::{
    data::{ClipRequest, Clips, SynthClips},
    loss::Lpips,
    optimizer::{Gradients, Optimizer, OptimizerConfig},
    parameters::parameters,
    run::{Outcome, Run, RunConfig},
    vae::{
        LossConfig, Losses, ModelConfig, Stage, VaeData, VaeTask, VaeTraining, evaluate,
        initialise, losses,
    },
};
use burn_hunyuan_vae::{Vae, VaeConfig};
use image::GenericImageView;
use serde_json::Value;

use crate::{
    common::{Fixture, assert_close, device, values},
    toy::flex,
};

/// What the fixture holds under a prefix, as a model: weights, or gradients in their place.
fn model(fixture: &Fixture, prefix: &str, device: &Device) -> Vae {
    let config = fixture.config();
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let channels: Vec<usize> =
        serde_json::from_value(config["block_out_channels"].clone()).unwrap();
    let vae = VaeConfig::new()
        .with_latent_channels(number("latent_channels"))
        .with_block_out_channels(channels.try_into().unwrap())
        .with_layers_per_block(number("layers_per_block"))
        .with_norm_num_groups(number("norm_num_groups"))
        .init(device);
    let weights = Weights::open(fixture.path()).unwrap().under(prefix);
    load_module(vae, &weights, FloatDType::F32, &mut |_, _| {
        ControlFlow::Continue(())
    })
    .unwrap()
}

/// The losses on the fixture's clip with its noise, and the gradients of their sum.
fn step(fixture: &Fixture, vae: &Vae, device: &Device) -> (Losses, Gradients) {
    let video = fixture.tensor("video", device).autodiff();
    let noise = fixture.tensor("noise", device).autodiff();
    let losses = losses(vae, video, noise, None, None, None);
    let weights = LossConfig {
        kl: fixture.config()["kl_weight"].as_f64().unwrap(),
        ..LossConfig::default()
    };
    let gradients = Gradients::of(vae, &mut losses.total(&weights).backward());
    (losses, gradients)
}

/// Adding a constant to all keys of a softmax changes nothing, so the gradient of their bias is
/// zero but for rounding, and there is nothing to compare.
fn is_zero_by_theory(name: &str) -> bool {
    name.ends_with(".to_k.bias")
}

#[test]
fn losses_and_every_gradient_are_diffusers() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("train/vae.safetensors");
    let vae = model(&fixture, "weights.", &device.clone().autodiff());
    let (losses, ours) = step(&fixture, &vae, &device);
    for (name, term) in [("l1", losses.l1), ("kl", losses.kl)] {
        let expected = fixture.tensor::<1>(name, &device);
        assert_close(name, &term.inner(), &expected, 1e-5);
    }
    let reference = parameters(&model(&fixture, "gradients.", &device));
    assert_eq!(ours.iter().count(), reference.len());
    for (name, expected) in &reference {
        if !is_zero_by_theory(name) {
            assert_close(name, ours.get(name).unwrap(), &expected.values, 1e-3);
        }
    }
}

/// The layers written for the CPU and those of tensor operations train alike.
#[test]
fn a_step_is_the_same_on_every_device() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("train/vae.safetensors");
    let updated = |device: &Device| {
        let vae = model(&fixture, "weights.", &device.clone().autodiff());
        let (losses, gradients) = step(&fixture, &vae, device);
        let config = OptimizerConfig {
            // Adam divides by the gradient's size: tiny gradients would be rounding, enlarged.
            eps: 1e-3,
            learning_rate: 1e-2,
            ..OptimizerConfig::default()
        };
        let norm = gradients.norm();
        let vae = Optimizer::new(&config, &vae, 1).step(vae, gradients, norm);
        let weights = parameters(&vae).into_iter();
        let weights = weights.map(|(name, weight)| (name, values(&weight.values)));
        (values(&losses.l1.inner()), weights.collect::<Vec<_>>())
    };
    let (loss, weights) = updated(&device);
    let (expected_loss, expected) = updated(&flex());
    assert!((loss[0] - expected_loss[0]).abs() < 1e-4 * expected_loss[0]);
    for ((name, weights), (_, expected)) in weights.iter().zip(&expected) {
        let largest = expected.iter().fold(0.0, |a: f32, v| a.max(v.abs()));
        for (a, b) in weights.iter().zip(expected) {
            assert!((a - b).abs() < 1e-4 * largest, "{name}: {a} {b}");
        }
    }
}

/// A small VAE on small clips.
pub fn training(steps: u64) -> VaeTraining {
    VaeTraining {
        run: RunConfig {
            steps,
            seed: 2,
            save_every_steps: 10,
            evaluate_every: steps,
            ..RunConfig::default()
        },
        model: ModelConfig {
            latent_channels: 4,
            block_out_channels: [8, 8, 8, 8],
            layers_per_block: 1,
            norm_num_groups: 1,
            initial_logvar: -4.0,
            ..ModelConfig::default()
        },
        loss: LossConfig {
            lpips: 0.0,
            adversarial: 0.0,
            ..LossConfig::default()
        },
        optimizer: OptimizerConfig {
            learning_rate: 5e-4,
            ema_decay: 0.9,
            ..OptimizerConfig::default()
        },
        stages: vec![Stage {
            steps,
            size: [16, 16],
            frames: 5,
            batch: 4,
            images: 8,
            image_share: 0.2,
            frame_interval: [1, 2],
            random_tiling: false,
        }],
        ..VaeTraining::default()
    }
}

/// Small scenes.
fn clips(held_out: bool) -> SynthClips {
    SynthClips {
        seed: 1,
        held_out,
        scene_frames: 9,
    }
}

pub fn task(config: &VaeTraining, folder: &Path, lpips: Option<Lpips>, device: &Device) -> VaeTask {
    task_with(Box::new(clips(true)), config, folder, lpips, device)
}

/// A task with other clips held out.
pub fn task_with(
    held_out: Box<dyn Clips>,
    config: &VaeTraining,
    folder: &Path,
    lpips: Option<Lpips>,
    device: &Device,
) -> VaeTask {
    let data = VaeData {
        clips: Box::new(clips(false)),
        held_out,
        lpips,
        export_to: folder.join("vae"),
    };
    let sizes = config.model.vae();
    let logvar = config.model.initial_logvar;
    let vae = initialise(
        sizes.init(&device.clone().autodiff()),
        config.run.seed,
        logvar,
    );
    VaeTask::new(vae, sizes, config.clone(), data, device).unwrap()
}

/// The lines of a run's log.
pub fn log(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let lines = text.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_error_falls_and_the_result_is_a_checkpoint() {
    let Some(device) = device() else { return };
    let folder = tempfile::tempdir().unwrap();
    let mut config = training(60);
    config.samples.every = 30;
    let mut task = task(&config, folder.path(), None, &device);
    // On the same clips before and after: batches differ too much from each other.
    let error = |vae: &Vae| {
        let request = ClipRequest {
            first: 0,
            count: 1,
            frames: 5,
            size: [16, 16],
            frame_interval: 1,
        };
        let vae = vae.clone().valid();
        let mut clips = clips(true);
        let evaluation = evaluate(&vae, &mut clips, &request, 16, None, &device);
        evaluation.unwrap().l1
    };
    let before = error(task.vae());
    let run = Run::open(folder.path(), &config.run, "", false).unwrap();
    assert_eq!(run.train(&mut task).unwrap(), Outcome::Finished);
    let after = error(task.vae());
    assert!(after < 0.75 * before, "{before} {after}");

    // Held-out clips, each above its reconstruction: a clip and what is not quite the clip.
    let sheet = image::open(folder.path().join("samples/step-00000060/sheet.png")).unwrap();
    let sheet = sheet.into_rgb8();
    assert_eq!(sheet.dimensions(), (4 + 5 * 20, 4 + 8 * 20));
    let request = ClipRequest {
        first: 1,
        count: 1,
        frames: 5,
        size: [16, 16],
        frame_interval: 1,
    };
    let clip = clips(true).batch(&request, &device).unwrap();
    let third = values(&(clip.narrow(2, 3, 1).permute([0, 2, 3, 4, 1]) * 0.5 + 0.5));
    let difference = |row: u32| {
        let shown = sheet.view(4 + 3 * 20, 4 + row * 20, 16, 16).to_image();
        let pairs = shown.as_raw().iter().zip(&third);
        pairs
            .map(|(&byte, value)| (f32::from(byte) / 255.0 - value).abs())
            .fold(0.0, f32::max)
    };
    assert!(difference(2) < 0.003, "{}", difference(2));
    assert!(difference(3) > 0.01, "{}", difference(3));

    let model = Model::open(&[folder.path().join("vae")]).unwrap();
    assert!(model.check(Component::Vae, &device).unwrap().is_empty());
    let part = model.vae().unwrap();
    assert_eq!(part.config.latent_channels, 4);
    assert!(part.config.scaling_factor != VaeConfig::new().scaling_factor);
}

/// Latents of a frozen encoder stay as they are, and so does their scale.
#[test]
fn with_a_frozen_encoder_only_the_decoder_learns() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let mut config = training(2);
    config.model.freeze_encoder = true;
    let mut task = task(&config, folder.path(), None, &device);
    let before = parameters(task.vae());
    let run = Run::open(folder.path(), &config.run, "", false).unwrap();
    run.train(&mut task).unwrap();
    for (name, after) in parameters(task.vae()) {
        let frozen = name.starts_with("encoder.") || name.starts_with("quant_conv.");
        let same = values(&after.values) == values(&before[&name].values);
        assert_eq!(same, frozen, "{name}");
    }
    let exported = Model::open(&[folder.path().join("vae")]).unwrap();
    let scale = exported.vae().unwrap().config.scaling_factor;
    assert_eq!(scale, config.model.vae().scaling_factor);
}

#[test]
fn a_resumed_run_repeats_itself() {
    let device = flex();
    let run = |folder: &Path, steps: u64, resume: bool| {
        let config = training(20);
        let options = RunConfig {
            steps,
            ..config.run.clone()
        };
        let mut task = task(&config, folder, None, &device);
        let run = Run::open(folder, &options, "", resume).unwrap();
        run.train(&mut task).unwrap();
        task
    };
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let expected = run(whole.path(), 20, false);
    run(parts.path(), 10, false);
    let resumed = run(parts.path(), 20, true);
    for (name, weight) in parameters(expected.vae()) {
        let resumed = &parameters(resumed.vae())[&name];
        assert_eq!(values(&weight.values), values(&resumed.values), "{name}");
    }
}

/// Every term of the paper's loss at once, on clips, images and tiles.
#[test]
fn all_terms_are_logged_and_the_discriminator_learns() {
    let device = flex();
    let folder = tempfile::tempdir().unwrap();
    let mut config = training(6);
    config.loss = LossConfig {
        adversarial_from: 3,
        discriminator_channels: 8,
        ..LossConfig::default()
    };
    config.stages[0].size = [32, 64];
    config.stages[0].random_tiling = true;
    let mut task = task(
        &config,
        folder.path(),
        Some(Lpips::random(1, &device)),
        &device,
    );
    let run = Run::open(folder.path(), &config.run, "", false).unwrap();
    assert_eq!(run.train(&mut task).unwrap(), Outcome::Finished);
    let lines = log(folder.path());
    let steps: Vec<&Value> = lines
        .iter()
        .filter(|line| line.get("kl").is_some())
        .collect();
    assert_eq!(steps.len(), 6);
    for (i, line) in steps.iter().enumerate() {
        assert!(line["lpips"].as_f64().unwrap() > 0.0, "{line}");
        let criticised = line.get("adversarial").is_some() && line.get("discriminator").is_some();
        assert_eq!(criticised, i >= 2, "{line}");
    }
    let held_out = lines
        .iter()
        .find(|line| line.get("psnr").is_some())
        .unwrap();
    assert!(
        held_out["ssim"].is_number() && held_out["lpips"].is_number(),
        "{held_out}"
    );
}
