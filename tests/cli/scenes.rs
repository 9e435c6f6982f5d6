//! `scenes`.

use std::fs;

use crate::program::{Desk, fixture};

fn video(name: &str) -> String {
    fixture(&format!("scenes/{name}")).display().to_string()
}

/// The files that PySceneDetect writes for the same video and detector.
fn expected(detector: &str, file: &str) -> String {
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(fixture("scenes/scenes.json")).unwrap()).unwrap();
    json["shots.mp4"][detector][file]
        .as_str()
        .unwrap()
        .to_string()
}

#[test]
fn writes_what_pyscenedetect_writes() {
    let desk = Desk::new();
    let shots = video("shots.mp4");
    for detector in ["adaptive", "content"] {
        let options = format!("--detector {detector} --csv a.csv --stats b.csv --quiet");
        let outcome = desk.run(&format!("scenes '{shots}' {options}")).succeeds();
        assert_eq!(outcome.stdout + &outcome.stderr, "");
        assert_eq!(
            fs::read_to_string(desk.path("a.csv")).unwrap(),
            expected(detector, "csv")
        );
        assert_eq!(
            fs::read_to_string(desk.path("b.csv")).unwrap(),
            expected(detector, "stats")
        );
    }
    assert_eq!(desk.names(), ["a.csv", "b.csv"]);
    // Others may read it as they may any new file.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::write(desk.path("new"), "").unwrap();
        let mode = |name| fs::metadata(desk.path(name)).unwrap().permissions().mode();
        assert_eq!(mode("a.csv"), mode("new"));
    }
}

#[test]
fn lists_and_splits() {
    let desk = Desk::new();
    let options = "--detector threshold --transitions --split clips";
    let shots = video("shots.mp4");
    let outcome = desk.run(&format!("scenes '{shots}' {options}")).succeeds();
    let frames = |line: &str| -> Option<(u64, u64)> {
        let (_, frames) = line.split_once("frames ")?;
        let (first, last) = frames.split_once(" - ")?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let listed = outcome.stdout.lines().skip(1);
    let (transitions, scenes): (Vec<_>, Vec<_>) =
        listed.partition(|line| line.contains("fade") || line.contains("dissolve"));
    assert!(outcome.stdout.contains("fade-out"), "{outcome:?}");
    // The middles of the fade-out at 5.2 s, of the dissolve at 11.05 s and of the last fade-out.
    for middle in [125, 265, 325] {
        let at = |line: &&str| frames(line).is_some_and(|(a, b)| (a..=b).contains(&middle));
        assert!(transitions.iter().any(at), "{outcome:?}");
        assert!(!scenes.iter().any(at), "{outcome:?}");
    }
    let clips: Vec<_> = (1..=scenes.len())
        .map(|scene| desk.path(&format!("clips/shots-Scene-{scene:03}.mp4")))
        .collect();
    assert!(clips.len() > 1 && clips.iter().all(|clip| clip.is_file()));
    assert_eq!(
        fs::read_dir(desk.path("clips")).unwrap().count(),
        clips.len()
    );
}

#[test]
fn weights_are_taken_as_the_help_says() {
    let desk = Desk::new();
    let shots = video("shots.mp4");
    let listed = |options: &str| {
        desk.run(&format!(
            "scenes '{shots}' --detector content {options} --csv a.csv -q"
        ))
        .succeeds();
        fs::read_to_string(desk.path("a.csv")).unwrap()
    };
    assert_eq!(listed("--weights 1,1,1,0"), expected("content", "csv"));
    assert_eq!(listed("--weights 0,0,1,0"), listed("--luma-only"));
}

/// No output is written over an input or over another output, by whatever name.
#[test]
fn inputs_and_outputs_stay_apart() {
    let desk = Desk::new();
    fs::create_dir(desk.path("in")).unwrap();
    for name in ["film.mp4", "in/film.mp4", "in/film-Scene-001.mp4"] {
        fs::copy(fixture("scenes/shots.mp4"), desk.path(name)).unwrap();
    }
    let before = desk.names();
    for arguments in [
        "film.mp4 --csv film.mp4",
        "film.mp4 --stats in/../film.mp4",
        "film.mp4 --csv x.csv --stats x.csv",
        "film.mp4 --csv new/x.csv --stats ./new/x.csv",
        "in/film.mp4 in/film-Scene-001.mp4 --split in",
        "film.mp4 --csv clips/film-Scene-001.mp4 --split clips",
    ] {
        desk.run(&format!("scenes {arguments}"))
            .fails(2, &["would be written over"]);
    }
    assert_eq!(desk.names(), before);
    let film = fs::read(fixture("scenes/shots.mp4")).unwrap();
    assert!(fs::read(desk.path("film.mp4")).unwrap() == film);
    assert!(fs::read(desk.path("in/film-Scene-001.mp4")).unwrap() == film);
}

#[test]
fn several_videos_one_of_them_bad() {
    let desk = Desk::new();
    fs::write(desk.path("bad.mp4"), "no film").unwrap();
    let (shots, rotated) = (video("shots.mp4"), video("rotated.mp4"));
    let outcome = desk.run(&format!(
        "scenes '{shots}' bad.mp4 '{rotated}' --csv lists -q"
    ));
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(
        outcome.stderr.contains("bad.mp4: ffprobe says"),
        "{outcome:?}"
    );
    assert!(
        outcome.stderr.contains("1 of 3 videos failed"),
        "{outcome:?}"
    );
    assert_eq!(fs::read_dir(desk.path("lists")).unwrap().count(), 2);
}

#[test]
fn bad_usage() {
    let desk = Desk::new();
    let shots = video("shots.mp4");
    for (options, said) in [
        ("--min-scene-len abc", "`abc` is no length"),
        (
            "--detector hash --bins 4",
            "the hash detector takes no --bins",
        ),
        (
            "--detector content --kernel-size 4",
            "kernel_size is 4; it has to be odd",
        ),
        (
            "--fade-bias 2 --detector threshold",
            "fade_bias is 2; it has to be at least -1",
        ),
        ("--threshold nan", "threshold is NaN"),
        (
            "--detector content --weights 1,1,1",
            "--weights takes four numbers",
        ),
        ("--detector content --weights 0,0,0,0", "weights are all 0"),
        ("--detector hash --size 256 --lowpass 256", "at most 1024"),
        ("--detector nothing", "nothing"),
    ] {
        let outcome = desk.run(&format!("scenes '{shots}' {options}"));
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains(said), "{outcome:?}");
    }
    let twice = desk.run(&format!("scenes '{shots}' '{shots}' --csv lists"));
    assert_eq!(twice.code, Some(2), "{twice:?}");
}
