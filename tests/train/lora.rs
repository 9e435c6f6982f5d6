//! LoRAs in training, against PEFT on diffusers' transformer (`tests/reference/train.py`), and as
//! files that everything else loads.

use std::{
    collections::BTreeSet,
    fs,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use burn::{
    module::Module,
    tensor::{Device, FloatDType},
};
use burn_hunyuan::checkpoint::{Lora, LoraFormat, Model, Weights, load_module, recognise};
use burn_hunyuan_dit::Dit;
use burn_hunyuan_train::{
    dit::{DitTask, LoraConfig, Recipe, Shards, Target, gradients, gradients_by_block},
    parameters::{Parameters, cast, parameters, trainable, with_parameters},
    run::{Outcome, Run},
};
use half::bf16;
use safetensors::{SafeTensors, serialize_to_file};

use crate::{
    common::{Fixture, assert_close, deviation, device, values},
    dit::{batch, config, deviations, model},
    dit_run::{Stopping, losses, mean, recipe, write_shards},
    toy::flex,
};

/// The fixture's transformer with its LoRA.
fn with_lora(fixture: &Fixture, device: &Device) -> Dit {
    let settings = fixture.config();
    let lora = LoraConfig {
        rank: settings["rank"].as_u64().unwrap() as usize,
        alpha: settings["alpha"].as_f64().unwrap(),
        ..LoraConfig::default()
    };
    let dit = lora.attach(config().init(device), 0);
    let weights = Weights::open(fixture.path()).unwrap().under("weights.");
    let weights = recognise(&weights).unwrap().weights;
    let go_on = &mut |_, _| ControlFlow::Continue(());
    load_module(dit, &weights, FloatDType::F32, go_on).unwrap()
}

#[test]
fn loss_and_the_gradient_of_every_matrix_are_pefts() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("train/lora.safetensors");
    let dit = with_lora(&fixture, &device.clone().autodiff());
    let (point, condition) = batch(&fixture, &device);
    let expected = values(&fixture.tensor::<1>("loss", &device))[0];
    let reference: Parameters = trainable(&dit)
        .into_iter()
        .map(|(name, p)| {
            let gradient = fixture.tensor::<2>(&format!("gradients.{name}"), &device);
            let gradient = p.from_file(gradient.into_data());
            (name, gradient)
        })
        .collect();
    // Two matrices for each of 6 layers of both streams and 5 of the single block.
    assert_eq!(reference.len(), 34);
    for gradients in [gradients, gradients_by_block] {
        let (loss, ours) = gradients(&dit, &point, &condition, 1.0);
        assert!(
            (loss as f32 - expected).abs() < 1e-5 * expected,
            "{loss} {expected}"
        );
        assert_eq!(ours.iter().count(), 34);
        let mut worst = 0.0_f32;
        for (name, deviation) in deviations(&ours, &reference) {
            worst = worst.max(deviation);
            assert!(deviation < 1e-3, "{name}: {deviation:.2e}");
        }
        println!("34 gradients, worst deviation {worst:.2e}");
    }
}

fn small_recipe(shards: &Path) -> Recipe {
    let mut recipe = recipe(shards, 60);
    recipe.optimizer.learning_rate = 1e-2;
    recipe.model.recompute = true;
    recipe.lora = LoraConfig {
        rank: 2,
        alpha: 4.0,
        targets: vec![Target::Q, Target::V, Target::Mlp, Target::Proj],
    };
    recipe
}

fn base() -> Dit {
    let fixture = Fixture::open("train/dit.safetensors");
    model(&fixture, "weights.", &flex().autodiff())
}

fn task(recipe: &Recipe) -> DitTask {
    let shards = Shards::open_all(&recipe.shards).unwrap();
    DitTask::lora(base(), &config(), shards, recipe).unwrap()
}

/// The fixture's transformer as a file, with the config that its tensors leave open.
fn transformer(folder: &Path) -> PathBuf {
    let fixture = Fixture::open("train/dit.safetensors");
    let bytes = fs::read(fixture.path()).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let weights = tensors
        .iter()
        .filter_map(|(name, view)| Some((name.strip_prefix("weights.")?, view)));
    let path = folder.join("diffusion_pytorch_model.safetensors");
    serialize_to_file(weights, None, &path).unwrap();
    fs::write(folder.join("config.json"), fixture.config().to_string()).unwrap();
    path
}

/// From a run to a file that gives the same velocities when it is loaded. What is saved is the LoRA
/// alone; the transformer's own weights never change; a stopped run repeats the losses bit for bit.
#[test]
fn the_loss_falls_beside_frozen_weights_and_the_file_does_what_was_trained() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let recipe = small_recipe(&shards);

    let heard = Arc::new(Mutex::new(0));
    let count = heard.clone();
    let mut trained = task(&recipe).on_evaluation(move |average| {
        assert!(average.keys().all(|name| name.contains(".lora_")));
        *count.lock().unwrap() += 1;
        Ok(())
    });
    let whole = folder.path().join("whole");
    let run = Run::open(&whole, &recipe.run, "", false).unwrap();
    assert_eq!(run.train(&mut trained).unwrap(), Outcome::Finished);
    assert_eq!(*heard.lock().unwrap(), 2);
    let (expected, _) = losses(&whole);
    let (first, last) = (mean(&expected[..10]), mean(&expected[50..]));
    assert!(last < 0.8 * first, "{first} {last}");

    // The weights beside the LoRA are what they were, and no checkpoint holds them.
    let after = parameters(&trained.averaged());
    for (name, before) in parameters(&base()) {
        assert_eq!(
            values(&before.values),
            values(&after[&name].values),
            "{name}"
        );
    }
    let checkpoint = whole.join("checkpoints/step-00000060");
    let files: BTreeSet<_> = fs::read_dir(&checkpoint)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected_files = ["", "_ema", "_moment1", "_moment2"]
        .map(|part| format!("lora{part}.safetensors"))
        .into_iter()
        .chain(["state.json".to_string()])
        .collect();
    assert_eq!(files, expected_files);
    let saved = Weights::open(checkpoint.join("lora.safetensors")).unwrap();
    assert!(saved.names().all(|name| name.contains(".lora_")));

    let parts = folder.path().join("parts");
    for end in [17, 60] {
        let run = Run::open(&parts, &recipe.run, "", end > 17).unwrap();
        let (task, stop) = (task(&recipe), run.stop_flag());
        run.train(&mut Stopping { task, end, stop }).unwrap();
    }
    assert_eq!(losses(&parts).0, expected);

    let path = transformer(folder.path());
    let (point, condition) = batch(&Fixture::open("train/dit.safetensors"), &flex());
    let velocity = |dit: &Dit| {
        let (latents, timestep) = (point.latents.clone(), point.timestep.clone());
        dit.forward(latents, timestep, &condition)
    };
    let expected = velocity(&trained.averaged());
    let file = folder.path().join("lora.safetensors");
    for format in [LoraFormat::Diffusers, LoraFormat::Kohya] {
        let tensors = trained.average().iter();
        let tensors = tensors.map(|(name, p)| (name.clone(), p.to_file()));
        let lora = Lora::from_tensors("trained", tensors, recipe.lora.alpha).unwrap();
        lora.save(&file, format).unwrap();
        let mut model = Model::open(&[&path]).unwrap();
        model.add_lora(&Lora::open(&file).unwrap(), 1.0).unwrap();
        let part = model.transformer().unwrap();
        let go_on = &mut |_, _| ControlFlow::Continue(());
        let dit = part.config.init(&flex());
        let dit = load_module(dit, &part.weights, FloatDType::F32, go_on).unwrap();
        assert_close(&format!("{format:?}"), &velocity(&dit), &expected, 1e-4);
    }
}

/// In bf16 a LoRA learns what it learns in f32, up to that format's rounding. What is updated is f32,
/// and the transformer's own weights do not change.
#[test]
fn a_lora_learns_in_bf16() {
    let folder = tempfile::tempdir().unwrap();
    let shards = folder.path().join("shards");
    write_shards(&shards);
    let mut recipe = small_recipe(&shards);
    recipe.run.steps = 6;
    let train = |name: &str, dtype: FloatDType| {
        let base = cast(base(), dtype);
        let before = parameters(&base);
        let shards = Shards::open_all(&recipe.shards).unwrap();
        let mut task = DitTask::lora(base, &config(), shards, &recipe).unwrap();
        let folder = folder.path().join(name);
        let run = Run::open(&folder, &recipe.run, "", false).unwrap();
        run.train(&mut task).unwrap();
        let after = parameters(&task.averaged());
        for (name, before) in before {
            let (before, after) = (values(&before.values), values(&after[&name].values));
            assert_eq!(before, after, "{name}");
        }
        let learned = task.average().values().flat_map(|p| values(&p.values));
        (losses(&folder).0, learned.collect::<Vec<f32>>())
    };
    let (expected, _) = train("f32", FloatDType::F32);
    let (ours, learned) = train("bf16", FloatDType::BF16);
    for (ours, expected) in ours.iter().zip(&expected) {
        assert!(
            (ours - expected).abs() < 0.02 * expected,
            "{ours} {expected}"
        );
    }
    let rounded = |value: f32| bf16::from_f32(value).to_f32();
    assert!(learned.iter().any(|&value| rounded(value) != value));
}

/// Formats that fuse layers get zeros for those that are not trained, as many as the transformer's
/// sizes ask for.
#[test]
fn a_lora_of_queries_alone_is_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let lora = LoraConfig {
        rank: 2,
        targets: vec![Target::Q],
        ..LoraConfig::default()
    };
    let dit = lora.attach(base(), 1);
    let mut weights = trainable(&dit);
    for parameter in weights.values_mut() {
        *parameter = parameter.with_values(parameter.values.clone() + 0.1);
    }
    let tensors = weights.iter().map(|(name, p)| (name.clone(), p.to_file()));
    let file = folder.path().join("lora.safetensors");
    let saved = Lora::from_tensors("trained", tensors, lora.alpha).unwrap();
    let saved = saved.with_mlp_ratio(config().mlp_ratio);
    saved.save(&file, LoraFormat::Kohya).unwrap();

    let mut model = Model::open(&[transformer(folder.path())]).unwrap();
    model.add_lora(&Lora::open(&file).unwrap(), 1.0).unwrap();
    let part = model.transformer().unwrap();
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let loaded = load_module(
        part.config.init(&flex()),
        &part.weights,
        FloatDType::F32,
        go_on,
    );
    let (point, condition) = batch(&Fixture::open("train/dit.safetensors"), &flex());
    let velocity = |dit: Dit| {
        let (latents, timestep) = (point.latents.clone(), point.timestep.clone());
        dit.forward(latents, timestep, &condition)
    };
    let expected = velocity(with_parameters(dit, &weights).valid());
    let before = velocity(base().valid());
    let ours = velocity(loaded.unwrap());
    assert!(deviation(&before, &expected) > 1e-2);
    assert_close("velocity", &ours, &expected, 1e-4);
}

#[test]
fn a_lora_that_cannot_be_is_refused() {
    let refuse = |config: LoraConfig| config.validate().unwrap_err().to_string();
    let rank = LoraConfig {
        rank: 0,
        ..LoraConfig::default()
    };
    assert!(refuse(rank).contains("lora.rank"));
    let targets = LoraConfig {
        targets: Vec::new(),
        ..LoraConfig::default()
    };
    assert!(refuse(targets).contains("lora.targets"));
}
