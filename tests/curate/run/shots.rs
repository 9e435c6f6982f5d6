//! Where clips begin and end: at cuts that become known late, and around transitions.

use std::fs;

use burn_hunyuan_curate::{
    clarity,
    config::Config,
    media::{DecodeOptions, Decoder, Limits, Picture, probe},
    run::Plan,
    scenes,
    tables::{Row, number, text},
};
use image::{RgbImage, imageops};

use super::{config, curate, from, request};
use crate::films;

/// The clips of a film, in order.
fn clips(film: &[RgbImage], config: Config) -> Option<Vec<Row>> {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    films::write(&folder.path().join("film.mp4"), film);
    curate(&request(folder.path(), out.path(), config)?);
    Some(Plan::read(out.path()).unwrap().clips)
}

/// Numbers of a clip's first picture and of the first after it.
fn ends(clip: &Row) -> (f64, f64) {
    let end = |name| number(clip, name).unwrap();
    (end("first_picture"), end("end_picture"))
}

/// A film is parted at a dissolve: what is before it and after it is kept, and holds nothing of it.
#[test]
fn dissolves_are_left_out() {
    let (mut film, second) = (films::take(61, 4.0, 12.0), films::take(62, 4.0, 12.0));
    let length = 12;
    let begin = film.len() - length;
    for (i, (a, b)) in film[begin..].iter_mut().zip(&second).enumerate() {
        let share = (i + 1) as f32 / (length + 1) as f32;
        for (a, b) in a.iter_mut().zip(b.iter()) {
            *a = (f32::from(*a) * (1.0 - share) + f32::from(*b) * share) as u8;
        }
    }
    film.extend_from_slice(&second[length..]);
    let Some(clips) = clips(&film, config()) else {
        return;
    };
    let whole: Vec<&Row> = clips
        .iter()
        .filter(|clip| !text(clip, "tier").is_empty())
        .collect();
    assert_eq!(whole.len(), 2, "{clips:#?}");
    let (before, after) = (ends(whole[0]), ends(whole[1]));
    let (begin, end) = (begin as f64, (begin + length) as f64);
    assert!(
        before.1 > begin - 24.0 && before.1 <= begin,
        "{before:?} {begin}"
    );
    assert!(after.0 < end + 24.0 && after.0 >= end, "{after:?} {end}");
    let between: Vec<&Row> = clips
        .iter()
        .filter(|clip| text(clip, "tier").is_empty())
        .collect();
    assert!(
        between
            .iter()
            .any(|clip| number(clip, "transition") > Some(0.0)),
        "{clips:#?}"
    );
}

/// Where the dark after a fade-out lasts longer than pictures can be kept, the clip before ends with
/// it all the same.
#[test]
fn a_long_fade_parts_clips() {
    let dark = RgbImage::new(films::SIZE.0, films::SIZE.1);
    let mut film = films::take(63, 3.0, 60.0);
    let end = film.len();
    film.resize(end + 6 * films::RATE as usize, dark);
    film.extend(films::take(64, 1.0, 60.0));
    let mut config = config();
    // Pictures are kept for three seconds; four seconds make a clip, which the dark would join.
    config.transitions.longest = 1.0;
    config.clips.longest = 4.0;
    config.shots.detector = scenes::DetectorKind::Threshold;
    config.shots.threshold.fade_bias = -1.0;
    let Some(clips) = clips(&film, config) else {
        return;
    };
    assert_eq!(ends(&clips[0]), (0.0, end as f64));
}

/// The threshold detector learns only at the end that a fade-out is not followed by a fade-in.
#[test]
fn a_fade_out_at_the_end_is_a_cut() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("faded.mp4");
    films::write(
        &folder.path().join("whole.mp4"),
        &films::take(51, 4.0, 60.0),
    );
    let fade = "fade=t=out:st=2:d=0.5";
    films::filtered(&folder.path().join("whole.mp4"), &path, fade, 16);
    fs::remove_file(folder.path().join("whole.mp4")).unwrap();
    let mut config = config();
    config.shots.detector = scenes::DetectorKind::Threshold;
    let probe = probe(&path, &Limits::default()).unwrap();
    let shots = scenes::detect(&probe, &config.shots, &DecodeOptions::default()).unwrap();
    assert_eq!(shots.scenes.len(), 2);
    let cut = shots.scenes[1].start.seconds();
    assert!((2.0..2.6).contains(&cut), "{cut}");
    let Some(request) = request(folder.path(), out.path(), config) else {
        return;
    };
    curate(&request);
    let plan = Plan::read(out.path()).unwrap();
    let clips = from(&plan.clips, "faded.mp4");
    assert!(!clips.is_empty());
    for clip in clips {
        let (start, end) = (number(clip, "start").unwrap(), number(clip, "end").unwrap());
        assert!(end <= cut || start >= cut, "{start} to {end} spans {cut}");
    }
}

/// Clarity is that of the clip's own pictures, not of those before the clear one that it starts with.
#[test]
fn clarity_is_that_of_the_clips_pictures() {
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = folder.path().join("film.mp4");
    let mut film = films::take(65, 1.9, 60.0);
    for picture in &mut film[..6] {
        *picture = imageops::blur(picture, 2.0);
    }
    films::write(&path, &film);
    let Some(request) = request(folder.path(), out.path(), config()) else {
        return;
    };
    curate(&request);
    let clips = Plan::read(out.path()).unwrap().clips;
    assert_eq!(clips.len(), 1, "{clips:#?}");
    let (first, end) = ends(&clips[0]);
    let looked_at = (first..end).contains(&24.0);
    assert!(first >= 6.0 && looked_at, "{first} {end}");
    assert_eq!(text(&clips[0], "overlays_decision"), "keep");
    // Looked at once a second: in the blur, and here.
    let probe = probe(&path, &Limits::default()).unwrap();
    let mut decoder = Decoder::open(&probe, &DecodeOptions::default()).unwrap();
    let mut picture = Picture::default();
    assert!(decoder.read(&mut picture).unwrap());
    let blurred = clarity::laplacian_variance(&picture.luma());
    while decoder.read(&mut picture).unwrap() && picture.index < 24 {}
    let expected = clarity::laplacian_variance(&picture.luma());
    assert!(blurred < 0.9 * expected, "{blurred} {expected}");
    let found = number(&clips[0], "clarity_laplacian").unwrap();
    assert!((found / expected - 1.0).abs() < 1e-9, "{found} {expected}");
}
