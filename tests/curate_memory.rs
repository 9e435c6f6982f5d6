//! Memory of curation, as the allocator sees it: pictures stream, however long the film.

#![allow(clippy::unwrap_used)]

#[path = "common/peak.rs"]
mod peak;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::Command,
};

use burn::tensor::Device;
use burn_hunyuan_curate::{
    config::Config,
    media::{DecodeOptions, Limits, probe},
    run::{self, Plan, Request},
    scenes::ShotDetector,
};
use peak::peak;

/// Writes a moving film of so many seconds in one shot.
fn film(folder: &Path, seconds: u32) -> PathBuf {
    let path = folder.join(format!("{seconds}.mp4"));
    let source = format!("testsrc2=size=240x136:rate=24:duration={seconds}");
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-f", "lavfi", "-i", &source])
        .args(["-c:v", "libx264", "-preset", "ultrafast"])
        .args(["-pix_fmt", "yuv420p"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(done.success());
    path
}

/// Finds the shots and transitions of a film.
fn scenes(film: &Path) {
    let config = Config::default();
    let probe = probe(film, &Limits::default()).unwrap();
    let rate = probe.video().unwrap().rate;
    let shots = ShotDetector::new(&config.shots, rate)
        .unwrap()
        .with_transitions(config.transitions.finder(rate, None).unwrap())
        .run(&probe, &DecodeOptions::default(), |_| {
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!((shots.problem, shots.scenes.len()), (None, 1));
}

/// Takes a film through all stages in clips of at most `longest` seconds; how many there are.
fn clips(film: &Path, longest: f64) -> usize {
    let out = tempfile::tempdir().unwrap();
    let mut config = Config::default();
    config.clips.longest = longest;
    // Pictures are kept for four seconds until it is certain that no transition parts them.
    config.transitions.longest = 1.0;
    let request = Request {
        inputs: vec![film.into()],
        output: out.path().into(),
        config,
        jobs: 1,
        resume: false,
        cut: false,
        device: Device::flex(),
    };
    run::curate(&request, &|_| ControlFlow::Continue(())).unwrap();
    Plan::read(out.path()).unwrap().clips.len()
}

#[test]
fn memory_does_not_grow_with_the_length_of_a_film() {
    let folder = tempfile::tempdir().unwrap();
    let [short, long] = [12, 48].map(|seconds| film(folder.path(), seconds));
    let of_scenes = [&short, &long].map(|film| peak(|| scenes(film)));
    let of_clips = [(&short, 12), (&long, 48)]
        .map(|(film, count)| peak(|| assert_eq!(clips(film, 1.0), count)));
    let in_one = peak(|| assert_eq!(clips(&long, 48.0), 1));
    println!("of scenes {of_scenes:?}, of clips {of_clips:?}, of one clip {in_one} bytes");
    for [short, long] in [of_scenes, of_clips] {
        assert!(long < 1.2 * short, "{short} {long}");
    }
    // A film in memory would be seen: so much has one that is a single clip.
    assert!(in_one > 1.5 * of_clips[1], "{in_one} {of_clips:?}");
}
