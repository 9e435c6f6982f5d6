//! `cache` of clips that are short, listed or drawn; what training makes of a cache is in `train`.

use std::{fs, thread, time::Duration};

use crate::{
    program::{Desk, names},
    train::CONFIG,
};

/// Videos that are too short for every duration are passed over; where that is most of them, nothing
/// is left that training takes.
#[test]
fn short_videos_are_no_images() {
    let desk = Desk::new();
    desk.run("synth --output data --clips 3 --size 32x32 --frames 9")
        .succeeds();
    let cache = "cache --dataset data --size 32x32 --device flex -q --output";
    let bad = desk.run(&format!("{cache} bad --frames 1,129"));
    assert_eq!(bad.code, Some(1), "{bad:?}");
    let told = "3 of 3 clips could not be used, more than half; see bad/skipped.txt";
    assert!(bad.stderr.contains(told), "{bad:?}");
    let skipped = fs::read_to_string(desk.path("bad/skipped.txt")).unwrap();
    let told =
        "too short: 9 frames, the shortest video bucket is 129; --frames 1,9,129 would take it";
    assert_eq!(skipped.matches(told).count(), 3, "{skipped}");
    assert!(!desk.path("bad/cache.json").exists());
    let config = CONFIG.replace("\"shards\"", "\"bad\"");
    fs::write(desk.path("dit.toml"), config).unwrap();
    desk.run("train dit --config dit.toml --device flex")
        .fails(1, &["bad: ", "has not finished"]);

    desk.run(&format!("{cache} good --frames 1,9,129"))
        .succeeds();
    assert_eq!(latents(&desk, "good"), [[3, 4, 4]; 3]);
    desk.run("synth --output data --clips 1")
        .fails(1, &["data is not empty"]);
}

/// The latents of a folder of shards: frames, height and width of each clip.
fn latents(desk: &Desk, shards: &str) -> Vec<Vec<usize>> {
    desk.shapes(&format!("{shards}/shard-00000.safetensors"))
        .into_iter()
        .filter(|(name, _)| name.ends_with("latents"))
        .map(|(_, shape)| shape[1..].to_vec())
        .collect()
}

/// What `curate` lists, files and parts of files, at their own rate of 8 frames a second and at half
/// of it.
#[test]
fn a_manifest_is_cached_at_any_rate() {
    let desk = Desk::new();
    desk.run("synth --output data --clips 2 --size 32x64 --frames 13")
        .succeeds();
    let lines = concat!(
        r#"{"path": "000000.mp4", "kind": "video", "caption": "a circle", "weight": 1.0}"#,
        "\n",
        r#"{"path": "data/000001.mp4", "caption": "a star", "#,
        r#""range": {"start": 0.25, "end": 1.5, "crop": [16, 0, 32, 32]}}"#,
        "\n",
        r#"{"path": "data/000001.mp4", "caption": "a star", "#,
        r#""range": {"start": 0, "end": 1, "crop": [48, 0, 32, 32]}}"#,
        "\n",
        r#"{"path": "000001.mp4", "caption": ""}"#,
        "\n",
    );
    fs::write(desk.path("data/manifest.jsonl"), lines).unwrap();
    let cache = "cache --dataset data --size 32x32 --frames 1,5,9,13 --device flex -q --output";
    desk.run(&format!("{cache} own")).succeeds();
    assert_eq!(latents(&desk, "own"), [[4, 4, 6], [3, 4, 4]]);
    desk.run(&format!("{cache} half --fps 4")).succeeds();
    assert_eq!(latents(&desk, "half"), [[2, 4, 6], [2, 4, 4]]);
    let skipped = fs::read_to_string(desk.path("own/skipped.txt")).unwrap();
    let skipped: Vec<&str> = skipped.lines().collect();
    assert!(
        skipped.len() == 2 && skipped[0].contains("crop") && skipped[1].contains("empty"),
        "{skipped:?}"
    );
}

/// Killed in the middle and resumed, to the same files.
#[cfg(unix)]
#[test]
fn a_killed_cache_goes_on_to_the_same_files() {
    let desk = Desk::new();
    let cache = "cache --synth 70 --size 16x16 --frames 1 --device flex -q --output";
    desk.run(&format!("{cache} whole")).succeeds();
    let mut child = desk.command(&format!("{cache} killed")).spawn().unwrap();
    while !desk.path("killed/shard-00000.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    fs::write(
        desk.path("dit.toml"),
        CONFIG.replace("\"shards\"", "\"killed\""),
    )
    .unwrap();
    desk.run("train dit --config dit.toml --device flex")
        .fails(1, &["--resume"]);
    desk.run(&format!("{cache} killed")).fails(1, &["--resume"]);
    desk.run(&format!("{cache} killed --resume --seed 2"))
        .fails(1, &["seed was 0, now it is 2"]);
    desk.run(&format!("{cache} killed --resume")).succeeds();
    let files = names(&desk.path("whole"));
    assert_eq!(files.len(), 5, "{files:?}");
    assert_eq!(names(&desk.path("killed")), files);
    for name in files {
        let read = |run: &str| fs::read(desk.path(run).join(&name)).unwrap();
        assert!(read("whole") == read("killed"), "{name}");
    }
}

/// The built-in model encodes anything; that it does so with somebody's clips is told.
#[test]
fn clips_for_the_built_in_model_are_pointed_out() {
    let desk = Desk::new();
    desk.run("synth --output data --clips 1 --size 32x32 --frames 5")
        .succeeds();
    let options = "--size 32x32 --frames 5 --device flex --output";
    let told = "without --model the small built-in model encodes the clips";
    let outcome = desk.run(&format!("cache --dataset data {options} data-shards"));
    assert!(outcome.stderr.contains(told), "{outcome:?}");
    let outcome = desk.run(&format!("cache --synth 1 {options} synth-shards"));
    assert!(!outcome.stderr.contains(told), "{outcome:?}");
}

#[cfg(unix)]
#[test]
fn an_interrupted_cache_stops_and_tells_how_to_go_on() {
    let desk = Desk::new();
    let cache = "cache --synth 100000 --size 16x16 --frames 1 --device flex -q --output shards";
    let mut child = desk
        .command(cache)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !desk.path("shards/shard-00000.safetensors").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        thread::sleep(Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    std::process::Command::new("kill")
        .args(["-INT", &pid])
        .status()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    for part in ["stopped at clip", "of 100000", "--resume"] {
        assert!(stderr.contains(part), "{stderr}");
    }
    assert!(!desk.path("shards/cache.json").exists());
}
