//! Runs that train a VAE and go wrong.

use burn::tensor::{Device, Tensor};
use burn_hunyuan_train::{
    Result,
    data::{ClipRequest, Clips},
    run::{Outcome, Run},
    vae::VaeTraining,
};

use crate::{
    toy::flex,
    vae::{task_with, training},
};

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
