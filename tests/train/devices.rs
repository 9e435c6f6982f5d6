//! Several devices that share each step. `tests/distributed.rs` has those of other machines.

use burn_hunyuan_train::{
    dit::{DitTask, Shards, initialise},
    run::Run,
};

use crate::{
    dit::config,
    dit_run::{losses, recipe, task, write_shards},
    toy::flex,
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
        let shards = Shards::open(&recipe.shards).unwrap();
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
