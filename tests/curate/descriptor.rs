//! The perceptual descriptor: copies of a clip are near it, other clips far.

use std::{path::Path, process::Command};

use burn_hunyuan_curate::{Frame, embedding::descriptor::descriptor};

use crate::overlays::footage;

/// The default of near-duplicates.
const THRESHOLD: f32 = 0.95;

fn cosine(a: &[Frame], b: &[Frame]) -> f32 {
    descriptor(a)
        .iter()
        .zip(descriptor(b))
        .map(|(a, b)| a * b)
        .sum()
}

fn copy(film: &Path, arguments: &str) -> Vec<Frame> {
    let file = film.with_file_name("copy.mkv");
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-y", "-i"])
        .arg(film)
        .args(arguments.split(' '))
        .args(["-c:v", "libx264", "-preset", "veryfast", "-threads", "1"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    footage::frames(&file)
}

const CHANGES: [&str; 6] = [
    "-vf crop=iw*0.95:ih*0.95",
    "-crf 35",
    "-vf scale=iw/2:ih/2",
    "-vf lutyuv=y=val*1.1",
    "-vf lutyuv=y=val*0.9",
    "-r 12",
];

#[test]
fn copies_are_near_and_other_clips_are_far() {
    let folder = tempfile::tempdir().unwrap();
    let mut clips = Vec::new();
    for (i, footage) in footage::all(20).iter().enumerate().take(9) {
        let film = folder.path().join(format!("{i}.mkv"));
        footage::write(&footage.graph, &[], "[0:v]null", &film);
        let clip = footage::frames(&film);
        // Every change on one footage, and on every footage the one that is hardest.
        let changes = if i == 0 { &CHANGES[..] } else { &CHANGES[..1] };
        for change in changes {
            let cosine = cosine(&clip, &copy(&film, change));
            println!("{} {change}: {cosine:.3}", footage.name);
            assert!(cosine >= THRESHOLD, "{} {change}: {cosine}", footage.name);
        }
        clips.push(clip);
    }
    let pairs = (0..clips.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let nearest = pairs
        .map(|(a, b)| cosine(&clips[a], &clips[b]))
        .fold(-1.0, f32::max);
    println!("nearest of different clips: {nearest:.3}");
    assert!(nearest < THRESHOLD - 0.1, "{nearest}");
}
