//! TransNetV2 against its PyTorch version, at narrow widths with random weights.

use burn_hunyuan_curate::scenes::TransNetConfig;
use image::{Rgb, RgbImage};

use crate::common::{Fixture, device};

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
    let expected = fixture.tensor::<1>("probabilities", &device).into_data();
    let expected: Vec<f32> = expected.iter().collect();
    let probabilities = network.predict(&frames(expected.len() as u32));
    assert_eq!(probabilities.len(), expected.len());
    let spread = expected.iter().fold((1.0f32, 0.0f32), |(low, high), &p| {
        (low.min(p), high.max(p))
    });
    assert!(spread.1 - spread.0 > 0.1, "{spread:?}");
    for (i, (ours, theirs)) in probabilities.iter().zip(&expected).enumerate() {
        assert!((ours - theirs).abs() <= 1e-4, "{i}: {ours} {theirs}");
    }
    assert!(network.predict(&[]).is_empty());
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
