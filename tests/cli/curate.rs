//! `burn-hunyuan curate`: runs that are killed, and what people can get wrong.

use std::{fs, path::Path, process::Stdio};

use crate::{
    films,
    program::{Desk, Outcome},
};

/// Three short films of two shots, and a picture.
fn desk() -> Desk {
    let desk = Desk::new();
    for seed in 1..=3 {
        let shots = [
            films::take(seed, 2.6, 60.0),
            films::take(seed + 10, 2.6, 60.0),
        ];
        films::write(&desk.path(&format!("in/{seed}.mp4")), &shots.concat());
    }
    films::ground(5).save(desk.path("in/picture.png")).unwrap();
    desk
}

/// What a run leaves for others to read.
fn results(out: &Path) -> Vec<(&'static str, Vec<u8>)> {
    let names = [
        "clips.parquet",
        "images.parquet",
        "sources.parquet",
        "manifest.jsonl",
        "run.json",
    ];
    names
        .map(|name| (name, fs::read(out.join(name)).unwrap()))
        .into()
}

fn entries(folder: &Path) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

fn assert_same(ours: &[(&str, Vec<u8>)], expected: &[(&str, Vec<u8>)], when: &str) {
    for ((name, ours), (_, expected)) in ours.iter().zip(expected) {
        assert!(ours == expected, "{name} differs {when}");
    }
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    let desk = desk();
    let whole = "curate in --output whole --device flex --jobs 2 -q";
    desk.run(whole).succeeds();
    let expected = results(&desk.path("whole"));
    desk.run("curate in --output one --device flex --jobs 1 -q")
        .succeeds();
    assert_same(&results(&desk.path("one")), &expected, "with one job");

    // Killed when so many files of a kind are there: at the very beginning, within a source,
    // between sources, when all is measured, and while clips are written.
    let moments = [
        ("", 1),
        ("thumbnails", 1),
        ("sources", 2),
        ("sources", 4),
        ("clips", 2),
    ];
    let run = "curate in --output killed --device flex --jobs 3 --resume -q";

    // Killed while it wrote that there is a run.
    fs::create_dir(desk.path("killed")).unwrap();
    fs::write(desk.path("killed/.unfinished-run.json"), "{").unwrap();
    desk.run(run).succeeds();
    assert_same(
        &results(&desk.path("killed")),
        &expected,
        "after a kill at once",
    );

    for (folder, files) in moments {
        let _ = fs::remove_dir_all(desk.path("killed"));
        let mut child = desk.command(run).stderr(Stdio::null()).spawn().unwrap();
        while entries(&desk.path("killed").join(folder)) < files {
            assert_eq!(
                child.try_wait().unwrap(),
                None,
                "ended before {files} in `{folder}`"
            );
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        desk.run(run).succeeds();
        let when = format!("after a kill at {files} in `{folder}`");
        assert_same(&results(&desk.path("killed")), &expected, &when);
    }
    let names = |folder: &str| crate::program::names(&desk.path(folder));
    assert_eq!(names("killed/clips"), names("whole/clips"));
    assert_eq!(
        names("killed"),
        names("whole"),
        "nothing unfinished is left"
    );
    // Everything is done: nothing changes.
    desk.run(run).succeeds();
    assert_same(
        &results(&desk.path("killed")),
        &expected,
        "resumed once more",
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_cleanly_and_tells_how_to_go_on() {
    let desk = desk();
    let run = "curate in --output out --device flex --jobs 1 --resume";
    let child = desk
        .command(run)
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    while entries(&desk.path("out/thumbnails")) < 1 {
        std::thread::yield_now();
    }
    let id = child.id().to_string();
    let killed = std::process::Command::new("kill")
        .args(["-INT", &id])
        .status()
        .unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("go on with --resume"), "{said}");
    assert!(
        entries(&desk.path("out/sources")) < 4,
        "it was stopped before the end"
    );
    desk.run(run).succeeds();
    desk.run("curate in --output whole --device flex -q")
        .succeeds();
    assert_same(
        &results(&desk.path("out")),
        &results(&desk.path("whole")),
        "after an interrupt",
    );
}

#[test]
fn mistakes_are_told() {
    let desk = Desk::new();
    fs::create_dir(desk.path("empty")).unwrap();
    films::ground(1).save(desk.path("picture.png")).unwrap();
    fs::write(desk.path("wrong.toml"), "[clips]\nlongst = 3").unwrap();
    fs::write(desk.path("short.key"), "short").unwrap();
    fs::write(
        desk.path("key.toml"),
        "[privacy]\npseudonym_key = 'short.key'",
    )
    .unwrap();
    fs::write(desk.path("other.toml"), "[clips]\nlongest = 3").unwrap();
    desk.run("curate empty --output out")
        .fails(2, &["no video and no image"]);
    desk.run("curate absent --output out").fails(1, &["absent"]);
    desk.run("curate picture.png --output out --config wrong.toml")
        .fails(1, &["wrong.toml", "did you mean `longest`?"]);
    desk.run("curate picture.png --output out --config key.toml")
        .fails(1, &["short.key", "at least 16"]);
    desk.run("curate picture.png --output empty/../. --device flex")
        .fails(2, &["is not empty and holds no run"]);
    desk.run("curate").fails(2, &["--output", "Usage"]);
    for question in [
        "report out",
        "explain out x",
        "erase out --source x",
        "export-source out --source x --output y",
    ] {
        desk.run(&format!("curate {question}"))
            .fails(2, &["out holds no run.json"]);
    }
    let out = "--output out --device flex -q";
    let _ = fs::remove_dir_all(desk.path("out"));
    desk.run(&format!("curate picture.png {out}")).succeeds();
    desk.run(&format!("curate picture.png {out}"))
        .fails(2, &["holds a run already", "--resume"]);
    desk.run(&format!(
        "curate picture.png {out} --resume --config other.toml"
    ))
    .fails(2, &["another configuration"]);
    fs::write(desk.path("long.key"), "a secret of many bytes").unwrap();
    let key = "[privacy]\npseudonym_key = 'long.key'";
    fs::write(desk.path("secret.toml"), key).unwrap();
    desk.run("curate picture.png --output named --config secret.toml --no-cut")
        .fails(2, &["pseudonym_key", "--no-cut"]);
    desk.run("curate explain out nothing")
        .fails(2, &["no clip or image `nothing`"]);
    desk.run("curate erase out --source nothing")
        .fails(2, &["nothing is held on `nothing`"]);
    let Outcome {
        code,
        stdout,
        stderr,
    } = desk.run("curate sql out 'SELECT count(*) AS n FROM images'");
    match cfg!(feature = "sql") {
        true => assert!(
            code == Some(0) && stdout.contains("| 1 |"),
            "{stdout}{stderr}"
        ),
        false => assert!(
            code == Some(2)
                && stderr.contains("--features sql")
                && stderr.contains("clips.parquet")
        ),
    }
}

#[test]
fn files_that_cannot_be_used_are_told() {
    let desk = Desk::new();
    fs::write(desk.path("no-film.mp4"), "a text").unwrap();
    let run = "--device flex --output";
    let outcome = desk.run(&format!("curate no-film.mp4 {run} none"));
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome.stderr.contains("no file could be used")
            && outcome.stderr.contains("none/sources.parquet"),
        "{outcome:?}"
    );
    films::ground(1).save(desk.path("picture.png")).unwrap();
    fs::write(desk.path("picture.json"), r#"{"jane": 1}"#).unwrap();
    films::ground(2).save(desk.path("other.png")).unwrap();
    let outcome = desk.run(&format!("curate picture.png other.png {run} some"));
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    assert!(
        outcome.stdout.contains("some/sources.parquet"),
        "{outcome:?}"
    );
    // What is wrong with the sidecar is told to who runs this, and not to the tables.
    assert!(
        outcome.stderr.contains("unknown field `jane`"),
        "{outcome:?}"
    );
    for name in crate::program::names(&desk.path("some/sources")) {
        let shard = fs::read_to_string(desk.path("some/sources").join(name)).unwrap();
        assert!(!shard.contains("jane"), "{shard}");
    }
}

/// A full disk is no fault of the sources: the run ends, and goes on when there is room.
#[cfg(unix)]
#[test]
fn an_output_that_cannot_be_written_ends_the_run() {
    let desk = Desk::new();
    films::write(&desk.path("clean.mp4"), &films::take(6, 1.0, 60.0));
    let noise = "noise=alls=30:allf=t";
    films::filtered(&desk.path("clean.mp4"), &desk.path("film.mp4"), noise, 16);
    let rules = "[[tier]]\nname = 'all'\nkind = 'video'\nrules = []";
    fs::write(desk.path("all.toml"), rules).unwrap();
    let run = "curate film.mp4 --config all.toml --output out --device flex --resume -q";
    // A limit on the size of files makes writes fail half-way, as a full disk does: shard and
    // thumbnail are smaller, the clip is larger.
    let program = desk.command(run);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$@\"", "sh"]);
    shell.arg(program.get_program()).args(program.get_args());
    shell.current_dir(desk.path(""));
    Outcome::of(&mut shell).fails(1, &["cannot write out/clips/", "File too large"]);
    assert_eq!(entries(&desk.path("out/clips")), 0);
    desk.run(run).succeeds();
    assert_eq!(entries(&desk.path("out/clips")), 1);
}

#[test]
fn the_default_configuration_can_be_given() {
    let desk = Desk::new();
    films::ground(1).save(desk.path("picture.png")).unwrap();
    let defaults = desk.run("curate defaults").succeeds();
    fs::write(desk.path("curation.toml"), defaults.stdout).unwrap();
    desk.run("curate picture.png --output a --device flex --config curation.toml --no-cut -q")
        .succeeds();
    desk.run("curate picture.png --output a --device flex --resume --no-cut -q")
        .succeeds();
    let manifest = fs::read_to_string(desk.path("a/manifest.jsonl")).unwrap();
    assert!(manifest.contains(r#""path":"picture.png""#), "{manifest}");
    assert!(manifest.contains(r#""crop":[0,0,912,512]"#), "{manifest}");
    assert_eq!(entries(&desk.path("a/images")), 0);
}
