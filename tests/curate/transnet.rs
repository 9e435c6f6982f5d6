//! TransNetV2 against its PyTorch version, at narrow widths with random weights.

use burn_hunyuan_curate::{
    media::FrameRate,
    scenes::{LearnedFinder, Position, TransNet, TransNetConfig, TransitionFinder},
};
use image::{Rgb, RgbImage};
use std::path::Path;

use crate::common::{Fixture, device, values};

/// The frames that `tests/reference/transnet.py` draws.
fn frames(count: u32) -> Vec<RgbImage> {
    let frame = |t: u32| {
        RgbImage::from_fn(48, 27, |x, y| {
            let shot = t / 23;
            Rgb([0, 1, 2]
                .map(|c| ((x * (3 + shot) + y * (5 + c) + t * (c + 2) + 60 * shot) % 256) as u8))
        })
    };
    (0..count).map(frame).collect()
}

#[test]
fn parity() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("transnet.safetensors");
    let config = TransNetConfig::new().with_filters(2).with_hidden(16);
    let network = config.init(&device).with_weights(fixture.path()).unwrap();
    for (head, name) in ["probabilities", "probabilities.many"]
        .into_iter()
        .enumerate()
    {
        let expected = fixture.tensor::<1>(name, &device).into_data();
        let expected: Vec<f32> = expected.iter().collect();
        let probabilities = network.predict(&frames(expected.len() as u32));
        assert_eq!(probabilities.len(), expected.len());
        let spread = expected.iter().fold((1.0f32, 0.0f32), |(low, high), &p| {
            (low.min(p), high.max(p))
        });
        assert!(spread.1 - spread.0 > 0.1, "{spread:?}");
        for (i, (ours, theirs)) in probabilities.iter().zip(&expected).enumerate() {
            let ours = ours[head];
            assert!((ours - theirs).abs() <= 1e-4, "{name} {i}: {ours} {theirs}");
        }
    }
    assert!(network.predict(&[]).is_empty());
}

/// The published weights, read from the package's own file, on real videos.
#[test]
#[ignore = "needs the fixture that `python tests/reference/transnet.py official VIDEO…` writes"]
fn published_weights() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("transnet_official.safetensors");
    let config = fixture.config();
    let weights = Path::new(config["weights"].as_str().unwrap());
    let network = TransNet::load(weights, &device).unwrap();
    for video in 0..config["videos"].as_u64().unwrap() {
        let frames = values(&fixture.tensor::<4>(&format!("{video}.frames"), &device));
        let bytes: Vec<u8> = frames.iter().map(|&value| value as u8).collect();
        let pictures = bytes.chunks_exact(48 * 27 * 3);
        let pictures: Vec<RgbImage> = pictures
            .map(|picture| RgbImage::from_raw(48, 27, picture.into()).unwrap())
            .collect();
        let expected = fixture.tensor::<2>(&format!("{video}.probabilities"), &device);
        let ours = network.predict(&pictures).concat();
        let expected = values(&expected);
        assert_eq!(ours.len(), expected.len());
        let differences = ours.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let greatest = differences.fold(0.0, f32::max);
        println!("{} pictures: {greatest:.1e}", pictures.len());
        assert!(greatest <= 1e-4, "{greatest}");
    }
}

/// Picture by picture the same transitions are found as in the probabilities of all at once.
#[test]
fn windows_follow_each_other() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("transnet.safetensors");
    let config = TransNetConfig::new().with_filters(2).with_hidden(16);
    let network = config.init(&device).with_weights(fixture.path()).unwrap();
    let frames = frames(113);
    let probabilities = network.predict(&frames);
    let is_in = |p: &[f32; 2]| p[0] > 0.5 || p[1] > 0.5;
    let mut expected = Vec::new();
    let mut start = 0;
    for run in probabilities.chunk_by(|a, b| is_in(a) == is_in(b)) {
        let end = start + run.len();
        if is_in(&run[0]) && run.iter().any(|p| p[0] > 0.5) {
            expected.push((start.saturating_sub(1) as u64, end as u64));
        }
        start = end;
    }
    assert!(expected.len() > 1, "{probabilities:?}");
    let rate = FrameRate::new(25, 1).unwrap();
    let mut finder = LearnedFinder::new(network, 1);
    let mut found = Vec::new();
    for (index, frame) in (0..).zip(&frames) {
        found.extend(finder.process(Position::new(index, index as f64 / 25.0, rate), frame));
    }
    found.extend(finder.finish());
    let found: Vec<_> = found.iter().map(|t| (t.start.index, t.end.index)).collect();
    assert_eq!(found, expected);
}

#[test]
fn weights_of_another_model() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("transnet.safetensors");
    let error = TransNetConfig::new()
        .init(&device)
        .with_weights(fixture.path());
    let error = error.err().unwrap().to_string();
    assert!(error.contains("transnet.safetensors"), "{error}");
}
