//! `cache` and `train`, with the built-in model's sizes.

use std::{fs, process::Command, thread, time::Duration};

use crate::program::{Desk, names};

/// Caches two images and two clips of two aspect ratios, some told in fields; one file is none.
fn cache(desk: &Desk) {
    fs::create_dir(desk.path("data")).unwrap();
    for (name, size) in [
        ("a.png", "32x32"),
        ("b.png", "32x32"),
        ("c.mp4", "32x48"),
        ("d.mp4", "32x48"),
    ] {
        let frames = if name.ends_with("png") { 1 } else { 5 };
        let arguments = format!(
            "generate --prompt {name} --size {size} --frames {frames} --steps 1 --device flex \
             --quiet --output data/{name}"
        );
        desk.run(&arguments).succeeds();
    }
    let write = |name: &str, text: &str| fs::write(desk.path(name), text).unwrap();
    write("data/a.txt", "a red circle");
    write("data/b.txt", "a blue square");
    write(
        "data/c.json",
        r#"{"short_description": "a star", "style": "flat", "lighting": "dim"}"#,
    );
    write(
        "data/d.json",
        r#"{"caption": ["a star spins", "a spinning star"]}"#,
    );
    write("data/e.mp4", "no video");
    write("data/e.txt", "nothing");
    let outcome = desk.run(
        "cache --dataset data --size 32x32 --frames 1,5 --variants 2 --output shards --device flex -q",
    );
    assert!(outcome.stderr.contains("e.mp4"), "{outcome:?}");
    assert_eq!(outcome.succeeds().stdout, "4 clips cached in shards\n");
    let shapes = desk.shapes("shards/shard-00000.safetensors");
    let latents: Vec<_> = shapes
        .iter()
        .filter(|(name, _)| name.ends_with("latents"))
        .map(|(_, shape)| shape.clone())
        .collect();
    assert_eq!(
        latents,
        [[8, 1, 4, 4], [8, 1, 4, 4], [8, 2, 4, 6], [8, 2, 4, 6]]
    );
}

const CONFIG: &str = r#"
shards = "shards"
[model]
sizes = "tiny"
[run]
steps = 6
save_every_steps = 2
save_every_minutes = 0
log_every = 1
[batch]
tokens = 40
"#;

/// The loss of every step.
fn losses(desk: &Desk, run: &str) -> Vec<String> {
    let log = fs::read_to_string(desk.path(&format!("{run}/log.jsonl"))).unwrap();
    let loss = |line: &str| -> String {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["loss"].to_string()
    };
    log.lines().map(loss).collect()
}

/// Sends a signal to a run once it has logged a step.
#[cfg(unix)]
fn interrupt(desk: &Desk, command: &mut Command, run: &str, signal: &str) -> Option<i32> {
    let mut child = command.spawn().unwrap();
    let log = desk.path(&format!("{run}/log.jsonl"));
    while fs::read_to_string(&log).unwrap_or_default().is_empty() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        thread::sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    Command::new("kill").args([signal, &pid]).status().unwrap();
    child.wait().unwrap().code()
}

/// From a folder of clips to a model that generates; stopped and killed on the way, to the same
/// losses.
#[cfg(unix)]
#[test]
fn a_dataset_becomes_a_transformer_and_its_student() {
    let desk = Desk::new();
    cache(&desk);
    fs::write(desk.path("dit.toml"), CONFIG).unwrap();
    let train = "train dit --config dit.toml --device flex --output";
    // Samples on the way change nothing of the losses, as the runs below show.
    desk.run(&format!(
        "{train} run --set 'samples.prompts=[\"a red circle\", \"a star\"]' --set samples.every=3 \
         --set samples.size=[32,48] --set samples.frames=5 --set samples.steps=1 --set samples.cfg=2"
    ))
    .succeeds();
    assert_eq!(
        names(&desk.path("run/samples")),
        ["step-00000003", "step-00000006"]
    );
    let drawn = names(&desk.path("run/samples/step-00000006"));
    assert_eq!(drawn, ["prompt-0.mp4", "prompt-1.mp4", "sheet.png"]);
    let sheet = image::open(desk.path("run/samples/step-00000006/sheet.png")).unwrap();
    assert_eq!((sheet.width(), sheet.height()), (4 + 5 * 52, 4 + 2 * 36));
    let report = desk.run("train report run").succeeds().stdout;
    let page = fs::read_to_string(desk.path(report.trim())).unwrap();
    assert_eq!(page.matches("data:image/png").count(), 2);
    for part in [
        "learning_rate",
        "grad_norm",
        "seconds",
        "a red circle",
        "<svg",
    ] {
        assert!(page.contains(part), "no {part}");
    }
    let expected = losses(&desk, "run");
    assert_eq!(expected.len(), 6);
    desk.run(&format!("{train} run")).fails(1, &["--resume"]);

    // The same from a finished step on, wherever the signal came.
    let quiet = |arguments: &str| {
        let mut command = desk.command(arguments);
        command.stdout(std::process::Stdio::null());
        command
    };
    let mut stopped = quiet(&format!("{train} stopped"));
    assert_eq!(interrupt(&desk, &mut stopped, "stopped", "-TERM"), Some(0));
    desk.run(&format!("{train} stopped --resume")).succeeds();
    assert_eq!(losses(&desk, "stopped"), expected);
    let mut killed = quiet(&format!("{train} killed"));
    assert_eq!(interrupt(&desk, &mut killed, "killed", "-KILL"), None);
    desk.run(&format!("{train} killed --resume")).succeeds();
    assert_eq!(losses(&desk, "killed"), expected);

    let kept = names(&desk.path("run/checkpoints"));
    assert!(
        kept.len() <= 4 && kept.contains(&"step-00000006".into()),
        "{kept:?}"
    );
    let resolved = fs::read_to_string(desk.path("run/config.toml")).unwrap();
    assert!(resolved.contains("learning_rate"), "{resolved}");

    desk.run(
        "train distill --config dit.toml --set model.weights=run/transformer --set run.steps=2 \
         --device flex --output student",
    )
    .succeeds();
    desk.generate("--transformer student/transformer --prompt 'a red circle' --output a.gif")
        .succeeds();
}

#[test]
fn configurations_are_checked_before_anything_else() {
    let desk = Desk::new();
    fs::write(desk.path("dit.toml"), CONFIG).unwrap();
    let train = "train dit --config dit.toml --device flex";
    desk.run(&format!("{train} --set optimizer.learning_rat=1"))
        .fails(1, &["did you mean `learning_rate`?"]);
    desk.run(&format!("{train} --set run.keep=0"))
        .fails(1, &["run.keep"]);
    desk.run(train).fails(1, &["shards"]);
    desk.run("train report .").fails(1, &["holds no run"]);
    desk.run("cache --dataset . --size 33x32 --output s")
        .fails(2, &["multiples of 16"]);
    assert_eq!(desk.names(), ["dit.toml"]);
}
