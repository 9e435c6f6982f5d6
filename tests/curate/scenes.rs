//! The detectors against PySceneDetect: `tests/reference/scenes.py` made the footage and ran it.

use burn_hunyuan_curate::{
    media::DecodeOptions,
    scenes::{Config, DetectorKind, ShotDetector, Shots, detect, write_csv},
};
use serde_json::Value;
use std::ops::ControlFlow;

use crate::{
    common::fixture_path,
    footage::{probed, shots},
};

fn config(detector: &str) -> Config {
    let detector = serde_json::from_value::<DetectorKind>(detector.into()).unwrap();
    Config {
        detector,
        ..Config::default()
    }
}

fn found(video: &str, detector: &str) -> Shots {
    let source = probed(&shots(video));
    let rate = source.video().unwrap().rate;
    let detector = ShotDetector::new(&config(detector), rate).unwrap();
    let run = |_| ControlFlow::Continue(());
    let shots = detector
        .with_stats()
        .run(&source, &DecodeOptions::default(), run);
    let shots = shots.unwrap();
    assert_eq!(shots.problem, None);
    shots
}

fn text(write: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// What PySceneDetect wrote: scene list and statistics.
fn expected(video: &str, detector: &str) -> [String; 2] {
    let bytes = std::fs::read(fixture_path("scenes/scenes.json")).unwrap();
    let json: Value = serde_json::from_slice(&bytes).unwrap();
    ["csv", "stats"].map(|key| json[video][detector][key].as_str().unwrap().to_string())
}

const DETECTORS: [&str; 5] = ["content", "adaptive", "threshold", "hash", "histogram"];

/// Scene lists and statistics are PySceneDetect's, to the last printed digit: with pictures that
/// are reduced, and with pictures that are turned and small enough not to be.
#[test]
fn the_same_files_as_pyscenedetect() {
    for video in ["shots.mp4", "rotated.mp4"] {
        for detector in DETECTORS {
            let shots = found(video, detector);
            let [scenes, stats] = expected(video, detector);
            let ours = text(|out| write_csv(&shots.scenes, out));
            assert_eq!(ours, scenes, "{video} {detector}");
            let ours = text(|out| shots.stats.unwrap().write_csv(out));
            for (ours, theirs) in ours.lines().zip(stats.lines()) {
                assert_eq!(ours, theirs, "{video} {detector}");
            }
            assert_eq!(ours, stats, "{video} {detector}");
        }
    }
}

/// At a variable rate the cuts are the same. The end of the video is not: after the last picture
/// PySceneDetect counts frames instead of asking for the time, and its list ends before it starts.
/// Nor is the middle of a fade, which is a picture here and between two there.
#[test]
fn the_same_cuts_at_a_variable_rate() {
    for detector in DETECTORS {
        let shots = found("variable.mkv", detector);
        let [scenes, stats] = expected("variable.mkv", detector);
        let ours = text(|out| write_csv(&shots.scenes, out));
        if detector != "threshold" {
            assert_eq!(ours.lines().next(), scenes.lines().next(), "{detector}");
        }
        let last = shots.scenes.last().unwrap();
        assert_eq!(last.end.index, 237);
        assert_eq!(last.end.micros, 13_800_000 + 33_333);
        let ours = text(|out| shots.stats.unwrap().write_csv(out));
        assert_eq!(ours, stats, "{detector}");
    }
}

/// Without statistics the edges are left out, which changes no cut.
#[test]
fn statistics_change_nothing() {
    let source = probed(&shots("shots.mp4"));
    for detector in DETECTORS {
        let without = detect(&source, &config(detector), &DecodeOptions::default()).unwrap();
        assert_eq!(without.stats, None);
        assert_eq!(without.scenes, found("shots.mp4", detector).scenes);
    }
}

/// Scenes join without a gap and end with the video.
#[test]
fn scenes_cover_the_video() {
    for detector in DETECTORS {
        let scenes = found("shots.mp4", detector).scenes;
        assert_eq!(scenes[0].start.index, 0);
        assert_eq!(
            scenes.iter().map(|scene| scene.pictures()).sum::<u64>(),
            332
        );
        let joined = scenes.windows(2).all(|pair| pair[0].end == pair[1].start);
        assert!(joined, "{detector}: {scenes:?}");
    }
}

#[test]
fn options_out_of_range() {
    let mut bad = vec![config("content"); 6];
    bad[0].content.kernel_size = Some(4);
    bad[1].content.weights = serde_json::from_str(r#"{"hue":0,"saturation":0,"luma":0}"#).unwrap();
    bad[2] = config("adaptive");
    bad[2].adaptive.window_width = 0;
    bad[3] = config("threshold");
    bad[3].threshold.fade_bias = 1.5;
    bad[4] = config("hash");
    bad[4].hash.size = 0;
    bad[5] = config("histogram");
    bad[5].histogram.bins = 257;
    let rate = probed(&shots("shots.mp4")).video().unwrap().rate;
    for config in bad {
        assert!(config.init(rate).is_err(), "{config:?}");
    }
}
