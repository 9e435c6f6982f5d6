//! Training on devices of other machines: workers are processes of their own on this one.

#![allow(clippy::unwrap_used)]

mod common;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_hunyuan::device;
use burn_hunyuan_dit::{Condition, Dit, DitConfig};
use burn_hunyuan_train::{
    Error, Result,
    dit::{
        CachedCaption, DitTask, Part, PathPoint, Recipe, ShardWriter, Shards, gradients,
        gradients_by_block, gradients_in_parallel, initialise,
    },
    optimizer::Gradients,
    run::{Checkpoint, CheckpointWriter, Metrics, Outcome, Run, Task},
};
use common::{assert_close, deviation};

/// `burn-hunyuan worker` with the CPU; it ends with the test.
struct Worker {
    process: Child,
    name: String,
}

impl Worker {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_burn-hunyuan"))
            .args(["worker", "--listen", "127.0.0.1:0", "--device", "flex"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = process.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let name = line.split_whitespace().nth(1).unwrap().to_string();
        Self { process, name }
    }

    fn device(&self) -> Device {
        device::open(&self.name).unwrap()
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn flex() -> Device {
    device::open("flex").unwrap()
}

fn config() -> DitConfig {
    DitConfig::new()
        .with_in_channels(3)
        .with_out_channels(3)
        .with_heads(2)
        .with_head_dim(8)
        .with_dual_blocks(2)
        .with_single_blocks(3)
        .with_refiner_blocks(1)
        .with_mlp_ratio(2.0)
        .with_guidance(false)
        .with_text_dim(12)
        .with_pooled_dim(10)
        .with_rope_axes([2, 2, 4])
}

/// A model none of whose weights is zero, so that every gradient counts.
fn model(devices: &[Device]) -> Dit {
    let devices: Vec<Device> = devices.iter().map(|d| d.clone().autodiff()).collect();
    let local = config().init(&flex().autodiff());
    let mut weights = burn_hunyuan_train::parameters::parameters(&initialise(local, 1));
    let mut seed = 0.0;
    for parameter in weights.values_mut() {
        seed += 1.0;
        let [count] = parameter.values.dims();
        let wave = (0..count)
            .map(|i| 0.1 * (i as f32 * 0.7 + seed).sin())
            .collect();
        let wave = TensorData::new::<f32, _>(wave, [count]);
        let wave = Tensor::<1>::from_data(wave, (&flex(), DType::F32));
        parameter.values = parameter.values.clone() + wave;
    }
    let model = config().init(&devices[0]).split(&devices);
    burn_hunyuan_train::parameters::with_parameters(model, &weights)
}

#[test]
fn another_machines_memory_is_not_ours() {
    let worker = Worker::start();
    let device = worker.device();
    assert!(!device::is_host(&device));
    assert_eq!(device::memory(&device), None);
}

/// Four clips, the same on every device.
fn batch(device: &Device) -> (PathPoint, Condition) {
    let wave = |count: usize, step: f32| -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    };
    let clips = |step| {
        let data = TensorData::new(wave(4 * 3 * 2 * 16, step), [4, 3, 2, 4, 4]);
        Tensor::<5>::from_data(data, (device, DType::F32))
    };
    let text = TensorData::new(wave(4 * 3 * 12, 0.9), [4, 3, 12]);
    let pooled = TensorData::new(wave(40, 1.3), [4, 10]);
    let condition = Condition {
        text: Tensor::from_data(text, (device, DType::F32)),
        text_lengths: vec![3, 2, 1, 3],
        pooled: Tensor::from_data(pooled, (device, DType::F32)),
        guidance: None,
    };
    (
        PathPoint::new(clips(0.37), clips(1.1), &[0.2, 0.5, 0.8, 0.9]),
        condition,
    )
}

/// Two of the four clips, from the clip `first` on.
fn half((point, condition): &(PathPoint, Condition), first: usize) -> (PathPoint, Condition) {
    // The longest text of a half sets its padding.
    let point = PathPoint {
        latents: point.latents.clone().narrow(0, first, 2),
        timestep: point.timestep.clone().narrow(0, first, 2),
        velocity: point.velocity.clone().narrow(0, first, 2),
    };
    let condition = Condition {
        text: condition.text.clone().narrow(0, first, 2),
        text_lengths: condition.text_lengths[first..first + 2].to_vec(),
        pooled: condition.pooled.clone().narrow(0, first, 2),
        guidance: None,
    };
    (point, condition)
}

/// That every gradient is the expected one within 1e-5.
fn assert_same(ours: &Gradients, expected: &Gradients) {
    assert_eq!(ours.iter().count(), expected.iter().count());
    for (name, expected) in expected.iter() {
        let ours = ours.get(name).unwrap().clone().to_device(&flex());
        // What is exactly zero, as the gradient of a bias of keys, is so up to rounding.
        if expected.clone().abs().max().into_scalar::<f32>() > 1e-7 {
            assert_close(name, &ours, expected, 1e-5);
        }
    }
}

/// The gradient of two halves of a batch, each on a worker of its own, is that of the whole.
#[test]
fn two_workers_compute_the_gradient_of_the_whole_batch() {
    let workers = [Worker::start(), Worker::start()];
    for of in [gradients, gradients_by_block] {
        let (point, condition) = batch(&flex());
        let (loss, expected) = of(&model(&[flex()]), &point, &condition, 1.0);
        let part = |(worker, first): (&Worker, usize)| {
            let device = worker.device();
            let (point, condition) = half(&batch(&device), first);
            Part {
                name: worker.name.clone(),
                model: model(&[device]),
                point,
                condition,
            }
        };
        let parts = workers.iter().zip([0, 2]).map(part).collect();
        let (sum, ours) = gradients_in_parallel(parts, 0.5, of).unwrap();
        assert!((sum - loss).abs() < 1e-5 * loss, "{sum} {loss}");
        assert_same(&ours, &expected);
    }
}

/// A model whose blocks are on this machine and on another says and learns the same.
#[test]
fn blocks_on_two_machines_are_the_same_model() {
    let worker = Worker::start();
    let (whole, parts) = (model(&[flex()]), model(&[flex(), worker.device()]));
    assert_ne!(
        parts.dual_blocks[0].device(),
        parts.single_blocks[2].device()
    );
    let (point, condition) = batch(&flex());
    let velocity = |model: &Dit| {
        let model = burn::module::Module::valid(model);
        model.forward(point.latents.clone(), point.timestep.clone(), &condition)
    };
    assert!(deviation(&velocity(&parts), &velocity(&whole)) < 1e-5);
    for of in [gradients, gradients_by_block] {
        let (loss, expected) = of(&whole, &point, &condition, 1.0);
        let (ours, gradients) = of(&parts, &point, &condition, 1.0);
        assert!((ours - loss).abs() < 1e-5 * loss, "{ours} {loss}");
        assert_same(&gradients, &expected);
        assert!((gradients.norm() - expected.norm()).abs() < 1e-5 * expected.norm());
    }
}

/// When a worker is lost.
#[derive(Clone, Copy, PartialEq)]
enum When {
    Gradients,
    Evaluation,
}

/// Loses a worker in the step `at`.
struct Losing<'a> {
    task: DitTask,
    worker: &'a mut Worker,
    at: u64,
    when: When,
    step: u64,
}

impl Losing<'_> {
    fn lose(&mut self, when: When) {
        if (self.step, when) == (self.at, self.when) {
            self.worker.kill();
        }
    }
}

impl Task for Losing<'_> {
    fn kind(&self) -> &'static str {
        self.task.kind()
    }
    fn gradients(&mut self, step: u64) -> Result<Metrics> {
        self.step = step;
        self.lose(When::Gradients);
        self.task.gradients(step)
    }
    fn update(&mut self) -> Result<()> {
        self.task.update()
    }
    fn evaluate(&mut self) -> Result<Option<Metrics>> {
        self.lose(When::Evaluation);
        self.task.evaluate()
    }
    fn save(&self, checkpoint: &mut CheckpointWriter) -> Result<()> {
        self.task.save(checkpoint)
    }
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.task.restore(checkpoint)
    }
}

fn write_shards(folder: &Path) {
    let caption = |value: f32| CachedCaption {
        text: "a".into(),
        states: TensorData::new(vec![value; 3 * 12], [3, 12]),
        pooled: TensorData::new(vec![-value; 10], [10]),
    };
    let mut writer = ShardWriter::create(folder, &serde_json::json!({}), &caption(0.0)).unwrap();
    for clip in 0..8 {
        let value = if clip % 2 == 0 { 1.0 } else { -1.0 };
        let latents = TensorData::new(vec![value; 3 * 2 * 16], [3, 2, 4, 4]);
        writer
            .add(latents, &[caption(value)], 1.0, "a.mp4")
            .unwrap();
    }
    writer.finish().unwrap();
}

/// A worker that is lost in a step or an evaluation, the one with the weights or another, ends the
/// run with an error that names it; the run goes on from the last checkpoint elsewhere.
#[test]
fn a_lost_worker_is_an_error_and_the_checkpoint_is_intact() {
    for (lost, when) in [
        (1, When::Gradients),
        (0, When::Gradients),
        (0, When::Evaluation),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let shards = folder.path().join("shards");
        write_shards(&shards);
        let mut recipe = Recipe {
            shards: vec![shards.clone()],
            ..Recipe::default()
        };
        recipe.run.steps = 6;
        recipe.run.save_every_steps = 2;
        recipe.run.evaluate_every = 4;
        recipe.batch.held_out = 2;
        recipe.batch.tokens = 22;
        let task = |devices: &[(String, Device)]| {
            let device = devices[0].1.clone().autodiff();
            let model = initialise(config().init(&device), 1);
            let shards = Shards::open(&shards).unwrap();
            let task = DitTask::new(model, &config(), None, shards, &recipe).unwrap();
            task.with_devices(devices).unwrap()
        };
        let open = |resume| Run::open(&folder.path().join("run"), &recipe.run, "", resume).unwrap();

        let mut workers = [Worker::start(), Worker::start()];
        let devices: Vec<_> = workers
            .iter()
            .map(|w| (w.name.clone(), w.device()))
            .collect();
        let name = workers[lost].name.clone();
        let mut losing = Losing {
            task: task(&devices),
            worker: &mut workers[lost],
            at: 4,
            when,
            step: 0,
        };
        let error = open(false).train(&mut losing).unwrap_err();
        assert!(matches!(error, Error::Device { .. }), "{error}");
        let message = error.to_string();
        assert!(
            message.contains(&name) && message.contains("--resume"),
            "{message}"
        );

        // Steps 1 to 3 are done, 2 is saved.
        let saved = Checkpoint::open(&folder.path().join("run/checkpoints/step-00000002"));
        assert_eq!(saved.unwrap().state::<u64>("step").unwrap(), 2);
        let local = ["flex", "flex"].map(|name| (name.to_string(), flex()));
        let outcome = open(true).train(&mut task(&local)).unwrap();
        assert_eq!(outcome, Outcome::Finished);
    }
}
