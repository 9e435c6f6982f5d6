//! `train`, with the built-in model's sizes.

use std::{collections::BTreeMap, fs, process::Command, thread, time::Duration};

use burn_hunyuan::{pipeline::TINY_FPS, video};

use crate::program::{Desk, Outcome, names};

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
    let told = "2 of 1x32x32\n2 of 5x32x48\n1 passed over: shards/skipped.txt\n\
                4 clips cached in shards\n";
    assert_eq!(outcome.succeeds().stdout, told);
    let shapes = desk.shapes("shards/shard-00000.safetensors");
    let latents: Vec<_> = shapes
        .iter()
        .filter(|(name, _)| name.ends_with("latents"))
        .map(|(_, shape)| shape.clone())
        .collect();
    assert_eq!(
        latents,
        [[16, 1, 4, 4], [16, 1, 4, 4], [16, 2, 4, 6], [16, 2, 4, 6]]
    );
}

/// Of a transformer, on the shards in `shards`.
pub const CONFIG: &str = r#"
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

/// The same command where no file can grow beyond 1 MiB.
#[cfg(unix)]
fn with_little_room(command: &Command) -> Command {
    let mut shell = Command::new("sh");
    // Ignored, the signal becomes an error of the write.
    let limit = "trap '' XFSZ; ulimit -f 2048; exec \"$0\" \"$@\"";
    shell.args(["-c", limit]).arg(command.get_program());
    shell.args(command.get_args());
    shell.current_dir(command.get_current_dir().unwrap());
    shell
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
    let clip = video::open(&desk.path("run/samples/step-00000006/prompt-0.mp4")).unwrap();
    assert_eq!(clip.fps, TINY_FPS);
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

    // No room for the second checkpoint: files end at a size that the disk would have had left.
    desk.run(&format!("{train} full --set run.steps=2"))
        .succeeds();
    let resume = format!("{train} full --resume");
    let full = Outcome::of(&mut with_little_room(&desk.command(&resume)));
    assert_eq!(full.code, Some(1), "{full:?}");
    for part in ["step 4 was not saved", "File too large", "--resume"] {
        assert!(full.stderr.contains(part), "{full:?}");
    }
    assert_eq!(
        names(&desk.path("full/checkpoints")),
        ["step-00000000", "step-00000002"]
    );
    desk.run(&resume).succeeds();
    assert_eq!(losses(&desk, "full"), expected);
    let log = fs::read_to_string(desk.path("full/log.txt")).unwrap();
    assert!(log.contains("run.steps: 2 -> 6"), "{log}");
    desk.run(&format!("{train} ful --resume"))
        .fails(1, &["ful: there is no run here", "leave out --resume"]);
    assert!(!desk.path("ful").exists());

    let kept = names(&desk.path("run/checkpoints"));
    assert!(
        kept.len() <= 4 && kept.contains(&"step-00000006".into()),
        "{kept:?}"
    );
    let resolved = fs::read_to_string(desk.path("run/config.toml")).unwrap();
    assert!(resolved.contains("learning_rate"), "{resolved}");

    let distill = "train distill --config dit.toml --set run.steps=2 --device flex --output";
    desk.run(&format!("{distill} student"))
        .fails(1, &["teacher", "model.weights"]);
    desk.run(&format!(
        "{distill} student --set model.weights=run/transformer"
    ))
    .succeeds();
    // Another kind of run, and none that goes on with this one.
    let config = fs::read_to_string(desk.path("run/config.toml")).unwrap();
    desk.run(&format!(
        "{distill} run --resume --set model.weights=student/absent"
    ))
    .fails(1, &["model.weights: ", "student/absent"]);
    desk.run(&format!(
        "{distill} run --resume --set model.weights=run/transformer"
    ))
    .fails(1, &["run: ", "`train dit`", "`train distill`"]);
    assert_eq!(
        fs::read_to_string(desk.path("run/config.toml")).unwrap(),
        config
    );
    desk.generate("--transformer student/transformer --prompt 'a red circle' --output a.gif")
        .succeeds();

    let lora = "train lora --config dit.toml --set run.steps=2 --set lora.rank=2 --device flex";
    desk.run(lora).fails(1, &["model.weights"]);
    desk.run(&format!(
        "{lora} --set model.weights=run/transformer --output style"
    ))
    .succeeds();
    let shapes = desk.shapes("style/lora.safetensors");
    // Queries, keys and values have matrices of their own; the file's one layer has all three.
    let down = "lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight";
    assert!(shapes.contains(&(down.into(), vec![6, 128])), "{shapes:?}");
    desk.generate(
        "--transformer run/transformer --lora style/lora.safetensors --prompt 'a star' \
         --output b.gif",
    )
    .succeeds();
}

const VAE: &str = r#"
[model]
latent_channels = 2
block_out_channels = [4, 4, 4, 4]
layers_per_block = 1
norm_num_groups = 1
[data]
dataset = "data"
held_out_share = 0.3
held_out = 1
[loss]
lpips = 0.0
adversarial = 0.0
[run]
steps = 4
evaluate_every = 4
log_every = 1
[[stages]]
steps = 4
size = [32, 32]
frames = 5
batch = 2
image_share = 0.0
frame_interval = [1, 8]
"#;

/// That a run's `vae` has the averaged weights of its checkpoint after `step`, and a scaling factor
/// that latents can be multiplied by.
fn assert_exported(desk: &Desk, run: &str, step: u64) {
    let tensors = |file: String| {
        let bytes = fs::read(desk.path(&file)).unwrap();
        let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors = tensors
            .iter()
            .map(|(name, view)| (name.to_string(), view.data().to_vec()));
        tensors.collect::<BTreeMap<_, _>>()
    };
    let exported = tensors(format!("{run}/vae/diffusion_pytorch_model.safetensors"));
    let averaged = tensors(format!(
        "{run}/checkpoints/step-{step:08}/vae_ema.safetensors"
    ));
    assert!(exported == averaged, "{run}");
    let config = fs::read_to_string(desk.path(&format!("{run}/vae/config.json"))).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let scale = config["scaling_factor"].as_f64().unwrap();
    assert!(0.01 < scale && scale < 100.0, "{run}: {scale}");
}

/// Whole clips of a folder, of another size than the stage's; one is damaged and one too short.
#[test]
fn a_vae_trains_on_a_folder_of_clips() {
    let desk = Desk::new();
    // By their names, 000005 and 000006 are held out.
    desk.run("synth --output data --clips 7 --size 32x48 --frames 9")
        .succeeds();
    fs::write(desk.path("data/damaged.mp4"), "no video").unwrap();
    desk.run("synth --output short --clips 1 --size 32x48 --frames 3")
        .succeeds();
    fs::rename(desk.path("short/000000.mp4"), desk.path("data/short.mp4")).unwrap();
    fs::write(desk.path("vae.toml"), VAE).unwrap();
    let train = "train vae --config vae.toml --device flex --output";
    desk.run(&format!("{train} run --set run.steps=12"))
        .succeeds();
    assert_eq!(losses(&desk, "run").len(), 12 + 3);
    let log = fs::read_to_string(desk.path("run/log.txt")).unwrap();
    assert!(log.starts_with("no perceptual term"), "{log}");
    let skipped = fs::read_to_string(desk.path("run/skipped.txt")).unwrap();
    let skipped: Vec<&str> = skipped.lines().collect();
    assert!(
        skipped.len() == 2 && skipped[0].contains("damaged.mp4") && skipped[1].contains("3 frames"),
        "{skipped:?}"
    );
    desk.run("reconstruct data/000000.mp4 --vae run/vae --device flex --output out.mp4")
        .succeeds();

    // The weights at the end are the ones exported, whenever the latest evaluation was.
    for (name, options) in [
        ("between", "--set run.steps=3 --set run.evaluate_every=2"),
        ("never", "--set run.steps=3 --set run.evaluate_every=0"),
        ("unmeasured", "--set run.steps=3 --set data.held_out=0"),
    ] {
        let told = desk
            .run(&format!("{train} {name} {options}"))
            .succeeds()
            .stdout;
        assert!(told.ends_with(&format!("finished: {name}/vae\n")), "{told}");
        assert_exported(&desk, name, 3);
    }
    #[cfg(unix)]
    {
        let mut stopped = desk.command(&format!("{train} stopped --set run.steps=100000"));
        stopped.stdout(std::process::Stdio::null());
        assert_eq!(interrupt(&desk, &mut stopped, "stopped", "-TERM"), Some(0));
        let saved = names(&desk.path("stopped/checkpoints"));
        let last = saved.last().unwrap().strip_prefix("step-").unwrap();
        assert_exported(&desk, "stopped", last.parse().unwrap());
    }

    for name in ["000000", "000001", "000002", "000003"] {
        fs::write(desk.path(&format!("data/{name}.mp4")), "damaged").unwrap();
    }
    let bad = desk.run(&format!("{train} bad"));
    assert_eq!(bad.code, Some(1), "{bad:?}");
    let told = "clips could not be used for clips of 5 frames; see bad/skipped.txt";
    assert!(bad.stderr.contains(told), "{bad:?}");
    desk.run(&format!("{train} none --set data.held_out_share=0"))
        .fails(1, &["data.held_out_share"]);
    desk.run(&format!("{train} none --set data.dataset=absent"))
        .fails(1, &["data.dataset: ", "absent"]);
    desk.run(&format!("{train} none --set stages.0.steps=3"))
        .fails(1, &["`stages` is a list"]);
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
    desk.run(train).fails(
        1,
        &["shards: there is no folder shards", "burn-hunyuan cache"],
    );
    desk.run(&format!("{train} --set shards="))
        .fails(1, &["shards: ", "burn-hunyuan cache"]);
    desk.run("synth --output s --size 31x32")
        .fails(2, &["--size is 31x32"]);
    desk.run("train report .").fails(1, &["holds no run"]);
    desk.run("cache --dataset . --size 33x32 --output s")
        .fails(2, &["multiples of 16"]);
    assert_eq!(desk.names(), ["dit.toml"]);
}

/// Whoever looks for the model first, the run is the one that a signal stops.
#[cfg(all(unix, feature = "hub"))]
#[test]
fn a_run_whose_samples_come_from_the_hub_is_stopped_by_a_signal() {
    let desk = Desk::new();
    // A hub's cache, and no network.
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let repository = "hub/models--owner--name";
    for folder in ["refs", "snapshots"] {
        fs::create_dir_all(desk.path(&format!("{repository}/{folder}"))).unwrap();
    }
    fs::write(desk.path(&format!("{repository}/refs/main")), commit).unwrap();
    let model = format!("{repository}/snapshots/{commit}");
    desk.copy_pipeline(&model);
    desk.run(&format!(
        "cache --synth 4 --size 32x32 --frames 1 --model {model} --device flex -q --output shards"
    ))
    .succeeds();
    let config = CONFIG.replace("\"tiny\"", &format!("\"{model}/transformer\""));
    fs::write(desk.path("dit.toml"), config).unwrap();
    let mut train = desk.command(
        "train dit --config dit.toml --device flex --output run --set run.steps=100000 \
         --set samples.model=[\"owner/name\"] --set 'samples.prompts=[\"a star\"]' \
         --set samples.every=100000 --set samples.size=[32,32] --set samples.frames=1",
    );
    train
        .env("HF_HUB_CACHE", desk.path("hub"))
        .env("HF_HUB_OFFLINE", "1")
        .stdout(std::process::Stdio::null());
    assert_eq!(interrupt(&desk, &mut train, "run", "-INT"), Some(0));
}
