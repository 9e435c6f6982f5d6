//! Runs that stop, are killed, go wrong, and go on.

use std::{
    path::Path,
    process::{Command, id},
    sync::{Arc, Mutex, atomic::Ordering},
};

use burn_hunyuan_train::{
    Error,
    run::{Event, Outcome, Run, RunConfig},
};
use serde_json::Value;

use crate::toy::{Squares, flex};

const STEPS: u64 = 12;

/// Set for a test's own process to be killed: `step:K` or `save:K`.
const KILL: &str = "BURN_HUNYUAN_TEST_KILL";

/// Set for a test's own process: the run's folder.
const FOLDER: &str = "BURN_HUNYUAN_TEST_FOLDER";

fn config() -> RunConfig {
    RunConfig {
        steps: STEPS,
        save_every_steps: 4,
        keep: 2,
        ..RunConfig::default()
    }
}

fn open(folder: &Path, resume: bool) -> Result<Run, Error> {
    Run::open(folder, &config(), "", resume)
}

/// The lines of the log.
fn log(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The loss of every step, to the last bit.
fn losses(folder: &Path) -> Vec<String> {
    let lines = log(folder);
    let steps: Vec<_> = lines
        .iter()
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>());
    lines.iter().map(|line| line["loss"].to_string()).collect()
}

/// Starts a run from the weights of `start`, so that runs can be compared.
fn begin(start: &Path, folder: &Path) {
    let (from, to) = (
        start.join("checkpoints/step-00000000"),
        folder.join("checkpoints/step-00000000"),
    );
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// A run that nothing happened to; its first checkpoint is where the others begin.
fn undisturbed(folder: &Path) -> Vec<String> {
    let mut task = Squares::new(STEPS, &flex());
    let config = RunConfig {
        keep: 100,
        ..config()
    };
    let run = Run::open(folder, &config, "", false).unwrap();
    assert_eq!(run.train(&mut task).unwrap(), Outcome::Finished);
    losses(folder)
}

#[test]
fn the_loss_falls() {
    let folder = tempfile::tempdir().unwrap();
    let config = RunConfig {
        steps: 500,
        ..RunConfig::default()
    };
    let run = Run::open(folder.path(), &config, "", false).unwrap();
    let outcome = run.train(&mut Squares::new(500, &flex())).unwrap();
    assert_eq!(outcome, Outcome::Finished);
    let losses: Vec<f64> = losses(folder.path())
        .iter()
        .map(|loss| loss.parse().unwrap())
        .collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let (first, last) = (mean(&losses[..20]), mean(&losses[480..]));
    assert!(last < 0.5 * first, "{first} {last}");
}

/// Not a test of its own: the process that [`killed_runs_repeat_themselves`] starts and that dies.
#[test]
#[ignore = "run by another test"]
fn run_that_is_killed() {
    let (Ok(folder), Ok(kill)) = (std::env::var(FOLDER), std::env::var(KILL)) else {
        return;
    };
    let (place, step) = kill.split_once(':').unwrap();
    let step: u64 = step.parse().unwrap();
    let die_at = move |now: u64| {
        if now == step {
            let pid = id().to_string();
            let _ = Command::new("kill").args(["-KILL", &pid]).status();
            std::thread::park(); // the signal is on its way
        }
    };
    let mut task = Squares::new(STEPS, &flex());
    match place {
        "step" => task.at_step = Box::new(die_at),
        _ => task.at_save = Box::new(die_at),
    }
    let _ = open(Path::new(&folder), true).unwrap().train(&mut task);
}

/// SIGKILL in a step and in the middle of a save; the resumed run has the same losses, bit for bit.
#[cfg(unix)]
#[test]
fn killed_runs_repeat_themselves() {
    use std::os::unix::process::ExitStatusExt;
    let start = tempfile::tempdir().unwrap();
    let expected = undisturbed(start.path());
    for (kill, saved) in [("step:7", 4), ("save:8", 4), ("save:12", 8)] {
        let folder = tempfile::tempdir().unwrap();
        begin(start.path(), folder.path());
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["run::run_that_is_killed", "--exact", "--ignored"])
            .env(FOLDER, folder.path())
            .env(KILL, kill)
            .output()
            .unwrap()
            .status;
        assert_eq!(status.signal(), Some(9), "{kill}: {status}");
        let unfinished = |folder: &Path| {
            let entries = std::fs::read_dir(folder.join("checkpoints")).unwrap();
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.ends_with(".partial")).count()
        };
        assert_eq!(
            unfinished(folder.path()) == 1,
            kill.starts_with("save"),
            "{kill}"
        );

        let mut task = Squares::new(STEPS, &flex());
        let run = open(folder.path(), true).unwrap();
        assert_eq!(unfinished(folder.path()), 0);
        // Those who watch are told what came before, without the steps that were lost.
        let past = Arc::new(Mutex::new(Vec::new()));
        let told = past.clone();
        let run = run.on_event(move |event| {
            if let Event::Resumed(curves) = event {
                let losses = curves.steps[0].points.iter();
                *told.lock().unwrap() = losses
                    .map(|(_, loss)| Value::from(*loss).to_string())
                    .collect();
            }
        });
        assert_eq!(run.train(&mut task).unwrap(), Outcome::Finished);
        assert_eq!(losses(folder.path()), expected, "{kill}");
        assert_eq!(*past.lock().unwrap(), expected[..saved], "{kill}");
    }
}

/// A request to stop lets the step end and saves it.
#[test]
fn a_stopped_run_goes_on_where_it_was() {
    let start = tempfile::tempdir().unwrap();
    let expected = undisturbed(start.path());
    let folder = tempfile::tempdir().unwrap();
    begin(start.path(), folder.path());
    let run = open(folder.path(), true).unwrap();
    let stop = run.stop_flag();
    let mut task = Squares::new(STEPS, &flex());
    task.at_step = Box::new(move |step| stop.store(step == 6, Ordering::Relaxed));
    assert_eq!(run.train(&mut task).unwrap(), Outcome::Stopped(6));
    assert_eq!(losses(folder.path()), expected[..6]);

    // Without --resume nothing is overwritten.
    let refused = open(folder.path(), false).err().unwrap().to_string();
    assert!(refused.contains("--resume"), "{refused}");

    let mut task = Squares::new(STEPS, &flex());
    let run = open(folder.path(), true).unwrap();
    assert_eq!(run.train(&mut task).unwrap(), Outcome::Finished);
    assert_eq!(losses(folder.path()), expected);
}

/// What a run was configured by stays in its folder until another configuration is taken up, which
/// is told.
#[test]
fn a_resumed_run_tells_what_changed_and_keeps_its_model() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("run");
    // Nothing is begun by a folder that was mistyped.
    let refused = open(&folder, true).err().unwrap().to_string();
    assert!(refused.contains("leave out --resume"), "{refused}");
    assert!(!folder.exists());

    let saved = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let first = "[optimizer]\nlearning_rate = 0.5\n[model]\nsizes = \"small\"\n";
    let run = Run::open(&folder, &config(), first, false).unwrap();
    run.train(&mut Squares::new(STEPS, &flex())).unwrap();
    assert_eq!(saved("config.toml"), first);
    assert_eq!(saved("log.txt").lines().next(), Some("numbers are drawn"));

    let log = saved("log.txt");
    let refuse = |config: &str, mut task: Squares| {
        let run = Run::open(&folder, &self::config(), config, true).unwrap();
        let message = run.train(&mut task).unwrap_err().to_string();
        assert_eq!(
            (saved("config.toml"), saved("log.txt")),
            (first.into(), log.clone())
        );
        message
    };
    let squares = || Squares::new(STEPS, &flex());
    let other = first.replace("small", "large");
    let message = refuse(&other, squares());
    let told = "model.sizes: \"small\" -> \"large\"";
    assert!(
        message.contains("config.toml") && message.contains(told),
        "{message}"
    );
    let mut circles = squares();
    circles.kind = "circles";
    let message = refuse(&other, circles);
    assert!(
        message.contains("holds a run of `train squares`") && message.contains("`train circles`"),
        "{message}"
    );
    // What the task itself refuses.
    let checkpoint = folder.join("checkpoints/step-00000012");
    let [weights, aside] = ["model.safetensors", "aside"].map(|name| checkpoint.join(name));
    std::fs::rename(&weights, &aside).unwrap();
    let slower = first.replace("0.5", "0.25");
    assert!(refuse(&slower, squares()).contains("model.safetensors"));
    std::fs::rename(&aside, &weights).unwrap();

    let run = Run::open(&folder, &config(), &slower, true).unwrap();
    assert_eq!(run.train(&mut squares()).unwrap(), Outcome::Finished);
    assert_eq!(saved("config.toml"), slower);
    let told = "resumed after step 12\noptimizer.learning_rate: 0.5 -> 0.25\n";
    assert!(saved("log.txt").contains(told), "{}", saved("log.txt"));
}

/// A folder has one run at a time: a second would remove what the first is about to save.
#[cfg(unix)]
#[test]
fn two_runs_do_not_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), false).unwrap();
    for resume in [false, true] {
        let refused = open(folder.path(), resume).err().unwrap().to_string();
        let told = format!("{}: another run is at work", folder.path().display());
        assert!(refused.starts_with(&told), "{refused}");
    }
    first.train(&mut Squares::new(STEPS, &flex())).unwrap();
    assert!(open(folder.path(), true).is_ok());
}

/// A step without a usable loss is skipped; too many of them end the run with what is saved.
#[test]
fn bad_steps_are_skipped_until_there_are_too_many() {
    let folder = tempfile::tempdir().unwrap();
    let config = RunConfig {
        max_skipped: 3,
        ..config()
    };
    let mut task = Squares::new(STEPS, &flex());
    task.spoil = |step| [2, 6, 7, 8].contains(&step).then_some(f64::NAN);
    let run = Run::open(folder.path(), &config, "", false).unwrap();
    let error = run.train(&mut task).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Diverged {
                step: 8,
                skipped: 3,
                ..
            }
        ),
        "{error}"
    );
    let skipped: Vec<_> = log(folder.path())
        .iter()
        .filter(|line| line.get("skipped").is_some())
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(skipped, [2, 6, 7, 8]);
    assert!(
        folder
            .path()
            .join("checkpoints/step-00000004/state.json")
            .is_file()
    );
}
