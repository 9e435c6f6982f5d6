//! DOVER against the reference's own modules (`tests/reference/dover.py`).

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_hunyuan_curate::aesthetics::dover::{
    Dover, DoverConfig, DoverScores, convnext::ConvNextConfig, swin::SwinConfig, views,
};
use image::RgbImage;

use crate::common::{Fixture, assert_close, device, fixture_path};

const BOUND: f32 = 1e-4;

fn dover(device: &Device) -> Dover {
    let technical = SwinConfig::new()
        .with_channels(8)
        .with_blocks(vec![2, 2, 2])
        .with_heads(vec![1, 2, 4])
        .with_window([2, 3, 3])
        .with_gated(2);
    let aesthetic = ConvNextConfig::new()
        .with_blocks([4, 1, 2, 1])
        .with_channels([4, 8, 12, 16]);
    DoverConfig::new()
        .with_technical(technical)
        .with_aesthetic(aesthetic)
        .with_head(6)
        .open(&fixture_path("dover.safetensors"), device)
        .unwrap()
}

/// The script's `wave`.
fn wave(shape: [usize; 5], device: &Device) -> Tensor<5> {
    let index = (0..shape.iter().product()).map(|i: usize| i as f64);
    let values: Vec<f32> = index
        .map(|i| (0.7 * i + 3.0 * (0.013 * i).cos()).cos() as f32)
        .collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// The script's `picture`.
fn picture(frame: u32) -> RgbImage {
    RgbImage::from_fn(300, 260, |x, y| {
        let value = |c: u32| ((x * 7 + y * 13 + c * 50 + frame * 31 + x * y % 97) % 256) as u8;
        image::Rgb([value(0), value(1), value(2)])
    })
}

#[test]
fn both_networks_give_the_references_features() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("dover.safetensors");
    let dover = dover(&device);
    for (name, features) in [
        (
            "technical",
            dover.technical_features(wave([2, 3, 8, 48, 48], &device)),
        ),
        (
            "aesthetic",
            dover.aesthetic_features(wave([1, 3, 4, 64, 64], &device)),
        ),
    ] {
        let expected = fixture.tensor::<5>(&format!("features.{name}"), &device);
        assert_close(name, &features, &expected, BOUND);
    }
}

#[test]
fn raw_scores_are_the_references() {
    let Some(device) = device() else { return };
    let expected = Fixture::open("dover.safetensors").config();
    let dover = dover(&device);
    for (name, score) in [
        (
            "technical",
            dover.technical(wave([2, 3, 8, 48, 48], &device)),
        ),
        (
            "aesthetic",
            dover.aesthetic(wave([1, 3, 4, 64, 64], &device)),
        ),
    ] {
        let expected = expected[name].as_f64().unwrap();
        assert!(
            (score - expected).abs() < 1e-5,
            "{name}: {score} {expected}"
        );
    }
}

/// Every fifth pixel of both views.
#[test]
fn views_are_the_references() {
    let Some(device) = device() else { return };
    let fixture = Fixture::open("dover.safetensors");
    let pictures = [picture(0), picture(1)];
    let fragments = pictures.each_ref().map(|p| views::fragments(p).unwrap());
    let squeezed = pictures.each_ref().map(views::squeezed);
    for (name, shown) in [("fragments", fragments), ("squeezed", squeezed)] {
        let view = views::tensor(&shown.each_ref(), &device);
        let places = Tensor::<1, burn::tensor::Int>::arange_step(0..224, 5, &device);
        let view = view.select(3, places.clone()).select(4, places);
        let expected = fixture.tensor::<4>(&format!("view.{name}"), &device);
        assert_close(name, &view.squeeze_dim::<4>(0), &expected, 1e-6);
    }
    assert!(views::fragments(&RgbImage::new(223, 500)).is_err());
}

/// Frames come once and in any order; the technical view of nine has them as the reference does:
/// three clips of every second frame, from a third on to the next, beginning again at the end.
#[test]
fn views_are_gathered_frame_by_frame() {
    let Some(device) = device() else { return };
    let frames: Vec<_> = (0..9).map(picture).collect();
    let mut views = views::Views::new(9).unwrap();
    assert!(views.technical(&device).is_err(), "no frame is there yet");
    for index in (0..9)
        .rev()
        .filter(|&index| views::Views::new(9).unwrap().need(index))
    {
        views.add(index, &frames[index]).unwrap();
    }
    let clips = (0..3).map(|clip| {
        let shown = (0..32).map(|i| views::fragments(&frames[(3 * clip + 2 * i) % 9]).unwrap());
        let shown: Vec<_> = shown.collect();
        views::tensor(&shown.iter().collect::<Vec<_>>(), &device)
    });
    let expected = Tensor::cat(clips.collect(), 0);
    assert_close(
        "technical",
        &views.technical(&device).unwrap(),
        &expected,
        0.0,
    );
    assert_eq!(
        views.aesthetic(&device).unwrap().dims(),
        [1, 3, 32, 224, 224]
    );
}

/// The reference's formulas, by hand: at its means all qualities are one half.
#[test]
fn scores_are_standardised() {
    let middle = DoverScores::from_raw(0.1107, -0.08285);
    assert_eq!(
        [middle.technical, middle.aesthetic, middle.overall],
        [0.5; 3]
    );
    let better = DoverScores::from_raw(0.1107 + 0.07355, -0.08285 - 0.03774);
    assert!((better.technical - 0.731_058_578_630_005).abs() < 1e-12);
    assert!((better.aesthetic - 0.268_941_421_369_995).abs() < 1e-12);
    assert!((better.overall - 1.0 / (1.0 + (-0.2208_f64).exp())).abs() < 1e-12);
}
