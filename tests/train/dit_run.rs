//! Runs that train the transformer, from shards to weights.

use std::{
    cell::RefCell,
    path::Path,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use burn::tensor::TensorData;
use burn_hunyuan_dit::DitConfig;
use burn_hunyuan_train::{
    Result,
    dit::{
        BatchConfig, CachedCaption, DitTask, FlowConfig, ModelConfig, Recipe, ShardWriter, Shards,
        Teacher, initialise, student,
    },
    optimizer::OptimizerConfig,
    parameters::parameters,
    run::{Checkpoint, CheckpointWriter, Event, Metrics, Outcome, Run, RunConfig, Task},
};
use serde_json::{Value, json};

use crate::{dit::config, shards::erase, toy::flex};

/// Clips of two sizes, whose latents follow from their captions: something to learn.
pub fn write_shards(folder: &Path) {
    let caption = |text: &str, value: f32| CachedCaption {
        text: text.into(),
        states: TensorData::new(vec![value; 3 * 12], [3, 12]),
        pooled: TensorData::new(vec![-value; 10], [10]),
    };
    let mut writer = ShardWriter::create(folder, &json!({}), &caption("", 0.0)).unwrap();
    for clip in 0..12 {
        let value = if clip % 2 == 0 { 1.0 } else { -1.0 };
        let frames = if clip % 3 == 0 { 1 } else { 2 };
        let latents = TensorData::new(vec![value; 3 * frames * 16], [3, frames, 4, 4]);
        let captions = [caption("one", value), caption("other", 0.9 * value)];
        let file = format!("{clip}.mp4");
        writer.add(latents, &captions, 1.0, &file).unwrap();
    }
    assert_eq!(writer.finish().unwrap(), (12, 0));
}

pub fn recipe(shards: &Path, steps: u64) -> Recipe {
    Recipe {
        shards: vec![shards.into()],
        run: RunConfig {
            steps,
            seed: 3,
            save_every_steps: 20,
            evaluate_every: steps / 2,
            ..RunConfig::default()
        },
        optimizer: OptimizerConfig {
            learning_rate: 3e-3,
            ema_decay: 0.9,
            ..OptimizerConfig::default()
        },
        flow: FlowConfig {
            shift: 1.0,
            ..FlowConfig::default()
        },
        batch: BatchConfig {
            tokens: 64,
            accumulate: 2,
            image_share: Some(0.3),
            held_out: 2,
            ..BatchConfig::default()
        },
        model: ModelConfig {
            recompute: false,
            ..ModelConfig::default()
        },
        ..Recipe::default()
    }
}

pub fn task(recipe: &Recipe, config: &DitConfig) -> DitTask {
    let shards = Shards::open_all(&recipe.shards).unwrap();
    let model = initialise(config.init(&flex().autodiff()), recipe.run.seed);
    DitTask::new(model, config, None, shards, recipe).unwrap()
}

/// The losses of the log, evaluations apart.
pub fn losses(folder: &Path) -> (Vec<f64>, Vec<f64>) {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let is_evaluation = |line: &&Value| line.get("evaluation").is_some();
    let loss = |line: &Value| line["loss"].as_f64().unwrap();
    let (evaluations, steps): (Vec<_>, Vec<_>) = lines.iter().partition(is_evaluation);
    (
        steps.into_iter().map(loss).collect(),
        evaluations.into_iter().map(loss).collect(),
    )
}

pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The loss falls, also on the clips that are held out; a run that was stopped goes on with the
/// same losses, bit for bit.
#[test]
fn the_loss_falls_and_a_stopped_run_repeats_it() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let config = config().with_guidance(false);
    let recipe = recipe(&shards, 150);

    let whole = folder.path().join("whole");
    let run = Run::open(&whole, &recipe.run, "", false).unwrap();
    let outcome = run.train(&mut task(&recipe, &config)).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    let (expected, evaluations) = losses(&whole);
    let (first, last) = (mean(&expected[..20]), mean(&expected[130..]));
    assert!(last < 0.7 * first, "{first} {last}");
    assert!(evaluations[1] < evaluations[0], "{evaluations:?}");

    let parts = folder.path().join("parts");
    for end in [33, 150] {
        let run = Run::open(&parts, &recipe.run, "", end > 33).unwrap();
        let stop = run.stop_flag();
        let mut task = Stopping {
            task: task(&recipe, &config),
            end,
            stop,
        };
        run.train(&mut task).unwrap();
    }
    assert_eq!(losses(&parts).0, expected);
}

/// A run goes on with what is left of its shards. Of the clips that are held out some may be gone; none
/// that was trained on is evaluated in their place.
#[test]
fn a_run_goes_on_after_clips_were_erased() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let config = config().with_guidance(false);
    let recipe = recipe(&shards, 40);
    let parts = folder.path().join("parts");
    let train = |end, resume| {
        let run = Run::open(&parts, &recipe.run, "", resume).unwrap();
        let stop = run.stop_flag();
        let task = task(&recipe, &config);
        run.train(&mut Stopping { task, end, stop }).unwrap()
    };
    train(25, false);
    let mut only_first = recipe.clone();
    only_first.batch.held_out = 1;
    let expected = task(&only_first, &config).evaluate().unwrap().unwrap();

    erase(&shards.join("shard-00000.safetensors"), &[1, 3, 4, 6]);
    let evaluation = task(&recipe, &config).evaluate().unwrap().unwrap();
    assert_eq!(evaluation.loss, expected.loss);
    assert_eq!(train(40, true), Outcome::Finished);
    let (losses, evaluations) = losses(&parts);
    assert_eq!((losses.len(), evaluations.len()), (40, 2));
    assert!(losses.iter().all(|loss| loss.is_finite()));
    erase(&shards.join("shard-00000.safetensors"), &[0]);
    assert!(task(&recipe, &config).evaluate().unwrap().is_none());
}

/// Samples come from the averaged weights when they are due; one that fails ends nothing, nor does a
/// panic, as burn's where a device is out of memory.
#[test]
fn samples_come_when_they_are_due() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let mut recipe = recipe(&shards, 9);
    recipe.samples.every = 2;
    let seen = Rc::new(RefCell::new(Vec::new()));
    let told = seen.clone();
    let mut task = task(&recipe, &config()).with_sampler(Box::new(move |model, folder| {
        std::fs::write(folder.join("sheet.png"), "")?;
        let weights = parameters(&model);
        told.borrow_mut()
            .push(weights["final_layer.proj.bias"].values.to_data());
        assert!(!folder.ends_with("step-00000006"), "out of memory");
        match folder.ends_with("step-00000004") {
            true => Err("out of paint".into()),
            false => Ok(()),
        }
    }));
    let run = Run::open(&folder.path().join("run"), &recipe.run, "", false).unwrap();
    let lines = Rc::new(RefCell::new(Vec::new()));
    let shown = lines.clone();
    let run = run.on_event(move |event| {
        if let Event::Line(line) = event {
            shown.borrow_mut().push(line.to_string());
        }
    });
    assert_eq!(run.train(&mut task).unwrap(), Outcome::Finished);
    for [step, why] in [["step 4: ", "out of paint"], ["step 6: ", "out of memory"]] {
        let told = |line: &String| line.contains(step) && line.contains(why);
        assert!(lines.borrow().iter().any(told), "{lines:?}");
    }
    let mut folders: Vec<_> = std::fs::read_dir(folder.path().join("run/samples"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(
        folders,
        [2, 4, 6, 8].map(|step| format!("step-0000000{step}"))
    );
    let seen = seen.borrow();
    assert_eq!(seen.len(), 4);
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
}

/// A device that fails in an evaluation ends the run with an error that names it.
#[test]
fn a_failed_evaluation_names_the_device() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let recipe = recipe(&shards, 4);
    let task = task(&recipe, &config()).with_devices(&[("flex:0".into(), flex())]);
    let mut task = task.unwrap().on_evaluation(|_| panic!("out of memory"));
    let run = Run::open(&folder.path().join("run"), &recipe.run, "", false).unwrap();
    let message = run.train(&mut task).unwrap_err().to_string();
    let told = "the device flex:0 failed: out of memory";
    assert!(
        message.contains(told) && message.contains("--resume"),
        "{message}"
    );
}

/// Asks to stop in a certain step.
pub struct Stopping {
    pub task: DitTask,
    pub end: u64,
    pub stop: Arc<AtomicBool>,
}

impl Task for Stopping {
    fn kind(&self) -> &'static str {
        self.task.kind()
    }
    fn gradients(&mut self, step: u64) -> Result<Metrics> {
        self.stop.store(step == self.end, Ordering::Relaxed);
        self.task.gradients(step)
    }
    fn update(&mut self) -> Result<()> {
        self.task.update()
    }
    fn evaluate(&mut self) -> Result<Option<Metrics>> {
        self.task.evaluate()
    }
    fn save(&self, checkpoint: &mut CheckpointWriter) -> Result<()> {
        self.task.save(checkpoint)
    }
    fn restore(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        self.task.restore(checkpoint)
    }
}

/// A student of a random teacher: before training it says what the teacher says unguided, and it
/// learns what guidance adds.
#[test]
fn a_student_learns_its_guided_teacher() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let mut recipe = recipe(&shards, 100);
    recipe.run.evaluate_every = 0;
    recipe.batch.caption_dropout = 0.0;

    // A teacher that has learned to tell the captions apart.
    let plain = config().with_guidance(false);
    let mut teacher = task(&recipe, &plain);
    let run = Run::open(&folder.path().join("teacher"), &recipe.run, "", false).unwrap();
    run.train(&mut teacher).unwrap();
    let teacher = teacher.averaged();

    let config = config();
    let model = student(config.init(&flex().autodiff()), &teacher, 1);
    let open = || Shards::open(&shards).unwrap();
    let mut task = DitTask::new(
        model,
        &config,
        Some(Teacher::new(&teacher)),
        open(),
        &recipe,
    )
    .unwrap();
    let student = folder.path().join("student");
    let run = Run::open(&student, &recipe.run, "", false).unwrap();
    run.train(&mut task).unwrap();
    let (losses, _) = losses(&student);
    let (first, last) = (mean(&losses[..10]), mean(&losses[80..]));
    assert!(last < 0.5 * first, "{first} {last}");

    // Without a guidance embedding there is nothing that could learn a scale.
    let model = initialise(plain.init(&flex().autodiff()), 1);
    let refused = DitTask::new(model, &plain, Some(Teacher::new(&teacher)), open(), &recipe);
    assert!(
        refused
            .err()
            .unwrap()
            .to_string()
            .contains("guidance embedding")
    );
}

/// What cannot be trained on is told before the first step.
#[test]
fn clips_that_do_not_fit_the_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let recipe = recipe(&shards, 10);
    let refuse = |config: DitConfig| {
        let model = config.init(&flex());
        let shards = Shards::open(&shards).unwrap();
        let task = DitTask::new(model, &config, None, shards, &recipe);
        task.err().unwrap().to_string()
    };
    let message = refuse(config().with_text_dim(13));
    assert!(
        message.contains("12") && message.contains("13"),
        "{message}"
    );
    let message = refuse(config().with_in_channels(4));
    assert!(message.contains("clip 0"), "{message}");

    let message = Shards::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains("burn-hunyuan cache"), "{message}");
    let shard = shards.join("shard-00000.safetensors");
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
    let message = Shards::open(&shards).unwrap_err().to_string();
    assert!(
        message.contains("shard-00000") && message.contains("damaged"),
        "{message}"
    );
}
