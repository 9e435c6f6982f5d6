//! Clips: decoded and cut out.

use std::{fs, path::Path};

use burn_hunyuan_curate::{
    Error,
    media::{Clip, Crop, CutOptions, DecodeOptions, Picture, cut},
};
use tempfile::TempDir;

use super::{decode, problem};
use crate::footage::{ffmpeg, probed, shots};

/// The pictures of a clip are those of the whole file, wherever it begins.
#[test]
fn a_clips_pictures() {
    for (name, ranges) in [
        ("shots.mp4", [(0, 3), (47, 84), (331, 332)]),
        ("variable.mkv", [(0, 33), (100, 101), (230, 237)]),
    ] {
        let source = probed(&shots(name));
        let (pictures, _) = decode(&source);
        for (start, end) in ranges {
            let clip = Clip {
                start: pictures[start].time,
                end: pictures.get(end).map_or(1e6, |picture| picture.time),
                frames: (end - start) as u64,
            };
            let mut place = start;
            let compare = |index: u64, picture: &Picture| {
                assert_eq!(index as usize, place - start);
                assert_eq!(picture.time, pictures[place].time);
                assert!(picture.luma() == pictures[place].luma(), "{name} {place}");
                place += 1;
                Ok(())
            };
            clip.pictures(&source, &DecodeOptions::default(), compare)
                .unwrap();
            assert_eq!(place, end);
            let longer = Clip {
                frames: clip.frames + 1,
                ..clip
            };
            let read = longer.pictures(&source, &DecodeOptions::default(), |_, _| Ok(()));
            assert!(problem(read).contains("pictures instead of"));
        }
    }
}

/// Clips of the fixture: each holds its own pictures, the first and the last ones the same as the
/// source's, and nothing else.
#[test]
fn cuts_are_exact() {
    let folder = TempDir::new().unwrap();
    let options = CutOptions {
        crf: 1,
        ..CutOptions::default()
    };
    for (name, ranges) in [
        ("shots.mp4", [(0, 48), (48, 84), (170, 171), (291, 332)]),
        ("variable.mkv", [(0, 33), (33, 60), (100, 101), (230, 237)]),
    ] {
        let source = probed(&shots(name));
        let (pictures, _) = decode(&source);
        for (start, end) in ranges {
            let time = |i: usize| pictures.get(i).map_or(1e6, |picture| picture.time);
            let clip = Clip {
                start: time(start),
                end: time(end),
                frames: (end - start) as u64,
            };
            let out = folder.path().join(format!("{name}-{start}.mp4"));
            cut(&source, &clip, None, &out, &options).unwrap();
            let (ours, error) = decode(&probed(&out));
            assert!(error.is_none());
            assert_eq!(ours.len(), end - start, "{name} {start}");
            for (ours, theirs) in ours.iter().zip(&pictures[start..end]) {
                assert!((ours.time - (theirs.time - clip.start)).abs() < 0.002);
                assert!(difference(ours, theirs) < 2.0, "{name} {start}");
            }
        }
    }
    // No leftovers beside the clips.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 8);
}

/// Mean difference of two pictures' brightness.
fn difference(a: &Picture, b: &Picture) -> f64 {
    let (a, b) = (a.luma(), b.luma());
    let pairs = a.as_raw().iter().zip(b.as_raw());
    pairs.map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

#[test]
fn cropped_with_sound() {
    let folder = TempDir::new().unwrap();
    let video = shots("shots.mp4");
    let copied = format!(
        "-i {} -f lavfi -i sine=d=14 -c:v copy -shortest talk.mp4",
        video.display()
    );
    ffmpeg(&folder, &copied);
    let source = probed(&folder.path().join("talk.mp4"));
    let clip = Clip {
        start: 2.0,
        end: 3.5,
        frames: 36,
    };
    let crop = Crop {
        x: 11,
        y: 7,
        width: 301,
        height: 151,
    };
    let out = folder.path().join("clip.mp4");
    cut(&source, &clip, Some(crop), &out, &CutOptions::default()).unwrap();
    let ours = probed(&out);
    let video = ours.video().unwrap();
    assert_eq!(
        (video.width, video.height, video.frames),
        (300, 150, Some(36))
    );
    assert_eq!(ours.audio.as_ref().unwrap().codec, "aac");
    assert!((ours.duration.unwrap() - 1.5).abs() < 0.05, "{ours:?}");
}

/// A range that is no range of pictures leaves no file.
#[test]
fn wrong_cuts() {
    let folder = TempDir::new().unwrap();
    let source = probed(&shots("shots.mp4"));
    let out = folder.path().join("clip.mp4");
    for (start, end, frames) in [(1.0, 2.0, 23), (1.01, 2.0, 24), (100.0, 101.0, 24)] {
        let clip = Clip { start, end, frames };
        let said = problem(cut(&source, &clip, None, &out, &CutOptions::default()));
        assert!(said.contains("came out as"), "{said}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let clip = Clip {
        start: 0.0,
        end: 1.0,
        frames: 24,
    };
    let nowhere = Path::new("/nonexistent/folder/clip.mp4");
    let error = cut(&source, &clip, None, nowhere, &CutOptions::default());
    assert!(matches!(error, Err(Error::File { .. })), "{error:?}");
}

/// What a killed program left is taken away by the next cut to the same file.
#[test]
fn leftovers_are_taken_away() {
    let folder = TempDir::new().unwrap();
    let source = probed(&shots("shots.mp4"));
    let clip = Clip {
        start: 0.0,
        end: 1.0,
        frames: 24,
    };
    fs::write(folder.path().join(".unfinished-clip.mp4"), "half a clip").unwrap();
    let out = folder.path().join("clip.mp4");
    cut(&source, &clip, None, &out, &CutOptions::default()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(decode(&probed(&out)).0.len(), 24);
}
