//! Runs that train a VAE, go wrong, and go on otherwise than they began.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use burn_hunyuan_train::{
    Result,
    data::{ClipRequest, Clips},
    run::{Outcome, Run},
    vae::VaeTraining,
};
use safetensors::{SafeTensors, serialize_to_file, tensor::TensorView};
use serde_json::Value;

use crate::{
    toy::flex,
    vae::{log, task, task_with, training},
};

/// A short training with a discriminator from the step `from` on.
fn adversarial(steps: u64, weight: f64, from: u64) -> VaeTraining {
    let mut config = training(steps);
    config.loss.adversarial = weight;
    config.loss.adversarial_from = from;
    config.loss.discriminator_channels = 8;
    config.run.save_every_steps = 1;
    config
}

fn train(config: &VaeTraining, folder: &Path, resume: bool) {
    let mut task = task(config, folder, None, &flex());
    let run = Run::open(folder, &config.run, "", resume).unwrap();
    assert_eq!(run.train(&mut task).unwrap(), Outcome::Finished);
}

/// The numbers of every step, apart from its time.
fn steps(folder: &Path) -> Vec<Value> {
    let steps = log(folder).into_iter();
    let steps = steps.filter(|line| line.get("evaluation").is_none());
    let timeless = |mut line: Value| {
        line.as_object_mut().unwrap().remove("seconds");
        line
    };
    steps.map(timeless).collect()
}

/// A run may be resumed with an average and a discriminator that it did not have so far. The latter
/// is new then: as in a run that had it from the start and made no use of it yet, to the last bit.
#[test]
fn an_average_and_a_discriminator_may_come_later() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, parts] = ["whole", "parts"].map(|name| folder.path().join(name));
    let config = adversarial(4, 0.05, 3);
    train(&config, &whole, false);

    let mut without = config.clone();
    without.run.steps = 2;
    without.loss.adversarial = 0.0;
    without.optimizer.ema_decay = 0.0;
    train(&without, &parts, false);
    train(&config, &parts, true);
    let expected = steps(&whole);
    assert!(expected[2].get("discriminator").is_some());
    assert_eq!(steps(&parts), expected);
}

/// A discriminator whose gradient overflows, though all losses are finite and the VAE's gradient is
/// too: it stays as it was.
#[test]
fn a_bad_gradient_of_the_discriminator_is_not_applied() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    // So little weight that the VAE does not notice.
    let mut config = adversarial(2, 1e-30, 2);
    config.run.steps = 1;
    train(&config, folder, false);

    let saved = |step| format!("checkpoints/step-0000000{step}/discriminator.safetensors");
    let [before, after] = [1, 2].map(|step| folder.join(saved(step)));
    let bytes = std::fs::read(&before).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let last = tensors.tensor("conv_out.weight").unwrap();
    let values = last.data().chunks_exact(4);
    let values = values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()) * 1e27);
    let huge: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    let huge = TensorView::new(last.dtype(), last.shape().to_vec(), &huge).unwrap();
    let spoilt = tensors.iter().map(|(name, tensor)| match name {
        "conv_out.weight" => (name, huge.clone()),
        _ => (name, tensor),
    });
    serialize_to_file(spoilt, None, &before).unwrap();

    config.run.steps = 2;
    train(&config, folder, true);
    let line = &steps(folder)[1];
    assert!(line["loss"].is_number() && line["grad_norm"].is_number());
    assert_eq!(line["skipped"], "discriminator_grad_norm is inf");
    let read = |path| {
        let bytes = std::fs::read(path).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let mut tensors = tensors.iter().collect::<Vec<_>>();
        tensors.sort_by_key(|(name, _)| *name);
        let owned = tensors.into_iter();
        let owned = owned.map(|(name, tensor)| (name.to_string(), tensor.data().to_vec()));
        owned.collect::<Vec<_>>()
    };
    assert_eq!(read(&after), read(&before));
}

/// Held-out clips whose device is out of memory.
struct Failing;

impl Clips for Failing {
    fn batch(&mut self, _: &ClipRequest, _: &Device) -> Result<Tensor<5>> {
        panic!("out of memory")
    }
}

/// burn panics where a device fails. Samples are done without; an evaluation ends the run with an
/// error that says what failed and what to do.
#[test]
fn a_device_that_fails_beside_the_steps_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, config: &VaeTraining| {
        let folder = folder.path().join(name);
        let task = task_with(Box::new(Failing), config, &folder, None, &flex());
        let mut task = task.with_devices(&[("flex:0".into(), flex())]).unwrap();
        let run = Run::open(&folder, &config.run, "", false).unwrap();
        let outcome = run.train(&mut task).map_err(|e| e.to_string());
        let lines = std::fs::read_to_string(folder.join("log.txt")).unwrap();
        (outcome, lines)
    };
    let mut config = training(2);
    config.run.evaluate_every = 0;
    config.samples.every = 1;
    let (outcome, lines) = run("samples", &config);
    assert_eq!(outcome, Ok(Outcome::Finished));
    for step in [1, 2] {
        let told = |line: &str| {
            let line = line.strip_prefix(&format!("no samples after step {step}: "));
            line.is_some_and(|line| line.ends_with("out of memory"))
        };
        assert!(lines.lines().any(told), "{lines}");
    }

    config.run.evaluate_every = 1;
    let (outcome, _) = run("evaluation", &config);
    let message = outcome.unwrap_err();
    let told = "the device flex:0 failed: out of memory";
    assert!(
        message.starts_with(told) && message.contains("--resume"),
        "{message}"
    );
}
