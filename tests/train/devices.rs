//! Several devices that share each step.

use burn_hunyuan_train::{
    dit::{DitTask, Shards, initialise},
    loss::Lpips,
    parameters::parameters,
    run::Run,
    vae::LossConfig,
};
use serde_json::Value;

use crate::{
    common::values,
    dit::config,
    dit_run::{losses, recipe, task, write_shards},
    toy::flex,
    vae,
};

/// A LoRA, whose transformer stays as it is, is trained on two devices alike.
#[test]
fn two_devices_train_a_lora() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let config = config().with_guidance(false);
    let run = |name: &str, accumulate: usize, devices: usize| {
        let mut recipe = recipe(&shards, 4);
        recipe.batch.accumulate = accumulate;
        let model = initialise(config.init(&flex().autodiff()), 1);
        let shards = Shards::open_all(&recipe.shards).unwrap();
        let task = DitTask::lora(model, &config, shards, &recipe).unwrap();
        let devices = vec![("flex".to_string(), flex()); devices];
        let mut task = task.with_devices(&devices).unwrap();
        let run = Run::open(&folder.path().join(name), &recipe.run, "", false).unwrap();
        run.train(&mut task).unwrap();
        losses(&folder.path().join(name))
    };
    assert_eq!(run("two", 1, 2), run("one", 2, 1));
}

/// Two devices with a batch each are one device with two batches, to the last bit; and a run goes on
/// from one to the other.
#[test]
fn two_devices_do_what_one_does_with_two_batches() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let config = config().with_guidance(false);
    let mut one = recipe(&shards, 12);
    one.batch.accumulate = 2;
    let mut two = one.clone();
    two.batch.accumulate = 1;
    let on_one = || task(&one, &config);
    let on_two = || {
        let devices = ["flex", "flex again"].map(|name| (name.to_string(), flex()));
        task(&two, &config).with_devices(&devices).unwrap()
    };
    let run = |name: &str, mut task: DitTask, steps: u64, resume: bool| {
        let folder = folder.path().join(name);
        let mut options = one.run.clone();
        options.steps = steps;
        let run = Run::open(&folder, &options, "", resume).unwrap();
        run.train(&mut task).unwrap();
        losses(&folder)
    };
    let expected = run("one", on_one(), 12, false);
    assert_eq!(run("two", on_two(), 12, false), expected);
    run("both", on_two(), 5, false);
    assert_eq!(run("both", on_one(), 12, true), expected);
}

/// The VAE and its discriminator: two devices with batches of two are one device with batches of
/// four, and a run goes on from one to the other.
#[test]
fn two_devices_train_a_vae_as_one_does_with_twice_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, devices: usize, steps: u64, resume: bool| {
        let mut config = vae::training(6);
        config.run.steps = steps;
        // Adam divides by the gradient's size: tiny gradients would be rounding, enlarged.
        config.optimizer.eps = 1e-3;
        config.loss = LossConfig {
            lpips: 0.1,
            adversarial: 0.05,
            adversarial_from: 3,
            discriminator_channels: 8,
            ..LossConfig::default()
        };
        let stage = &mut config.stages[0];
        stage.image_share = 0.5;
        (stage.batch, stage.images) = (4 / devices, 4 / devices);
        let folder = folder.path().join(name);
        let lpips = Some(Lpips::random(1, &flex()));
        let devices = vec![("flex".to_string(), flex()); devices];
        let task = vae::task(&config, &folder, lpips, &flex());
        let mut task = task.with_devices(&devices).unwrap();
        let run = Run::open(&folder, &config.run, "", resume).unwrap();
        run.train(&mut task).unwrap();
        let weights = parameters(task.vae()).into_iter();
        let weights: Vec<_> = weights.map(|(name, w)| (name, values(&w.values))).collect();
        (vae::log(&folder), weights)
    };
    let (expected, weights) = run("one", 1, 6, false);
    let compare = |(log, ours): (Vec<Value>, Vec<(String, Vec<f32>)>)| {
        for (line, expected) in log.iter().zip(&expected) {
            for name in [
                "loss",
                "l1",
                "lpips",
                "kl",
                "adversarial",
                "discriminator",
                "grad_norm",
                "discriminator_grad_norm",
            ] {
                let [ours, expected] = [line, expected].map(|line| line[name].as_f64());
                assert_eq!(ours.is_some(), expected.is_some(), "{name}");
                let (ours, expected) = (ours.unwrap_or(0.0), expected.unwrap_or(0.0));
                let close = (ours - expected).abs() < 1e-5 * expected.abs().max(0.1);
                assert!(close, "{name}: {ours} {expected}");
            }
        }
        for ((name, ours), (_, expected)) in ours.iter().zip(&weights) {
            let largest = expected.iter().fold(0.0, |a: f32, v| a.max(v.abs()));
            for (a, b) in ours.iter().zip(expected) {
                assert!((a - b).abs() < 1e-5 * largest.max(1e-2), "{name}: {a} {b}");
            }
        }
    };
    compare(run("two", 2, 6, false));
    run("both", 2, 4, false);
    compare(run("both", 1, 6, true));
}
