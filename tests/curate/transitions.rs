//! Gradual transitions, drawn: textures that move, mixed over known stretches.

use burn_hunyuan_curate::{
    media::{DecodeOptions, FrameRate},
    scenes::{
        Config, Position, ShotDetector, Transition, TransitionConfig, TransitionFinder,
        TransitionKind,
    },
};
use image::{Rgb, RgbImage};
use std::{f32::consts::TAU, ops::ControlFlow};

use crate::footage::{probed, shots};

/// A texture of coarse and fine waves that moves by `speed` pixels a frame.
fn scene(seed: u32, speed: f32, frame: u64) -> RgbImage {
    let wave = |x: f32, y: f32, k: u32| {
        let angle = (seed * 7 + k * 13) as f32;
        let length = [80.0, 40.0, 21.0, 5.0, 3.0][k as usize];
        (TAU * (x * angle.cos() + y * angle.sin()) / length + angle).sin()
    };
    RgbImage::from_fn(256, 144, |x, y| {
        let (x, y) = (x as f32 + speed * frame as f32, y as f32);
        let fine = wave(x, y, 3) + wave(x, y, 4);
        Rgb([0, 1, 2].map(|c| (128.0 + 60.0 * wave(x, y, c) + 25.0 * fine) as u8))
    })
}

fn mix(a: &RgbImage, b: &RgbImage, share: f32) -> RgbImage {
    let mixed = a.as_raw().iter().zip(b.as_raw());
    let mixed = mixed.map(|(&a, &b)| (f32::from(a) * (1.0 - share) + f32::from(b) * share) as u8);
    RgbImage::from_raw(a.width(), a.height(), mixed.collect()).unwrap()
}

/// What is found in 120 pictures at 24 a second.
fn found(picture: impl Fn(u64) -> RgbImage) -> Vec<Transition> {
    let rate = FrameRate::new(24, 1).unwrap();
    let mut detector = TransitionConfig::default().init(rate).unwrap();
    let mut found = Vec::new();
    for i in 0..120 {
        found.extend(detector.process(Position::new(i, i as f64 / 24.0, rate), &picture(i)));
    }
    found.extend(detector.finish());
    found
}

/// The share of the second scene in a transition over `length` frames from frame 40 on.
fn share(frame: u64, length: u64) -> f32 {
    ((frame as f32 - 40.0) / length as f32).clamp(0.0, 1.0)
}

#[test]
fn dissolves_and_fades() {
    let black = RgbImage::new(256, 144);
    for length in [6, 15, 48] {
        for speed in [0.0, 0.3] {
            let dissolve =
                found(|i| mix(&scene(1, speed, i), &scene(2, -speed, i), share(i, length)));
            let fade_out = found(|i| mix(&scene(3, speed, i), &black, share(i, length)));
            let fade_in = found(|i| mix(&black, &scene(4, speed, i), share(i, length)));
            for (found, kind) in [
                (dissolve, TransitionKind::Dissolve),
                (fade_out, TransitionKind::FadeOut),
                (fade_in, TransitionKind::FadeIn),
            ] {
                let what = format!("{kind:?} over {length} frames at {speed}: {found:?}");
                assert_eq!(found.len(), 1, "{what}");
                assert_eq!(found[0].kind, kind, "{what}");
                let (start, end) = (found[0].start.index, found[0].end.index);
                let tolerance = 2 + length / 4;
                assert!(start.abs_diff(40) <= tolerance, "{what}");
                assert!(end.abs_diff(40 + length) <= tolerance, "{what}");
                let (from, until) = (found[0].from.index, found[0].until.index);
                assert!(from <= 41 && until >= 40 + length, "{what}");
            }
        }
    }
}

/// Neither a moving camera nor a cut nor a change of light is a transition.
#[test]
fn no_transitions() {
    for speed in [0.0, 0.5, 2.0, 6.0] {
        assert_eq!(found(|i| scene(1, speed, i)), [], "{speed}");
        let cut = |i| scene(if i < 50 { 1 } else { 2 }, speed, i);
        assert_eq!(found(cut), [], "{speed}");
    }
    let dim = |i| {
        mix(
            &scene(5, 0.0, i),
            &RgbImage::new(256, 144),
            0.5 * share(i, 24),
        )
    };
    assert_eq!(found(dim), []);
}

/// In the fixture: the fade out of the third shot and into the fourth, the dissolve, the last fade.
#[test]
fn in_a_video() {
    let source = probed(&shots("shots.mp4"));
    let detector = ShotDetector::new(&Config::default(), source.video().unwrap().rate).unwrap();
    let rate = source.video().unwrap().rate;
    let finder = TransitionConfig::default().finder(rate, None).unwrap();
    let detector = detector.with_transitions(finder);
    let run = |_| ControlFlow::Continue(());
    let found = detector
        .run(&source, &DecodeOptions::default(), run)
        .unwrap()
        .transitions;
    let at = |kind: TransitionKind, seconds: f64| {
        let near = |t: &Transition| t.start.seconds() < seconds && seconds < t.end.seconds();
        assert!(
            found.iter().any(|t| t.kind == kind && near(t)),
            "{kind:?} {found:?}"
        );
    };
    at(TransitionKind::FadeOut, 5.2);
    at(TransitionKind::Dissolve, 11.05);
    at(TransitionKind::FadeOut, 13.5);
}
