//! Gray and Laplacian against OpenCV (`tests/reference/clarity.py`); blur, noise, blockiness and
//! exposure by damage of known strength.

use std::io::Cursor;

use burn_hunyuan_curate::clarity::{
    Clarity, Exposure, blockiness, blur, clearest, gray, laplacian_variance, measure, noise,
};
use image::{
    DynamicImage, GrayImage, ImageFormat, Luma, Rgb, RgbImage,
    codecs::jpeg::JpegEncoder,
    imageops::{FilterType, resize},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rand_distr::{Distribution, Normal};

use crate::{common::fixture_path, drawn::Texture};

#[test]
fn gray_and_laplacian_are_opencv_s() {
    let text = std::fs::read_to_string(fixture_path("clarity.json")).unwrap();
    let fixture: serde_json::Value = serde_json::from_str(&text).unwrap();
    for case in fixture["cases"].as_array().unwrap() {
        let [width, height] = [0, 1].map(|i| case["size"][i].as_u64().unwrap() as u32);
        // The script's `picture`.
        let picture = RgbImage::from_fn(width, height, |x, y| {
            Rgb([x * x + 3 * y, 7 * y * x + 5 * x, x * y / 3 + 11 * y + 40].map(|v| v as u8))
        });
        let gray = gray(&picture);
        let sum = |of: fn(usize) -> u64| -> u64 {
            let levels = gray.as_raw().iter().enumerate();
            levels.map(|(i, v)| of(i) * u64::from(*v)).sum()
        };
        assert_eq!(case["gray"], sum(|_| 1), "{width} x {height}");
        assert_eq!(
            case["checksum"],
            sum(|i| i as u64 % 251),
            "{width} x {height}"
        );
        let expected = case["laplacian"].as_f64().unwrap();
        let error = (laplacian_variance(&gray) - expected).abs();
        assert!(error <= 1e-12 * expected, "{width} x {height}: {error}");
    }
}

/// Blocks of compression are lost among the edges of writing, for the measure as for the eye.
const WITHOUT_WRITING: usize = 4;

/// Surfaces, shapes with sharp edges, and writing.
fn clean_pictures() -> Vec<(&'static str, GrayImage)> {
    vec![
        ("surface", draw(surface(1, 0.004))),
        ("other surface", draw(surface(2, 0.006))),
        ("shapes", shapes(3)),
        ("other shapes", shapes(4)),
        ("writing", writing()),
    ]
}

fn draw(level: impl Fn(u32, u32) -> f64) -> GrayImage {
    let pixel = |x, y| Luma([level(x, y).round().clamp(0.0, 255.0) as u8]);
    GrayImage::from_fn(640, 360, pixel)
}

/// Texture with detail down to `shortest`, in lengths of 720 pixels.
fn surface(seed: u64, shortest: f64) -> impl Fn(u32, u32) -> f64 {
    let texture = Texture::new(seed, shortest);
    move |x, y| texture.at(f64::from(x) / 720.0, f64::from(y) / 720.0)
}

/// Discs and boxes of different brightness, one over the other, on a surface that shows through.
fn shapes(seed: u64) -> GrayImage {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let shapes: Vec<[f64; 5]> = (0..40)
        .map(|_| std::array::from_fn(|_| random.random::<f64>()))
        .collect();
    let surface = surface(seed, 0.004);
    draw(|x, y| {
        let (across, down) = (f64::from(x) / 640.0, f64::from(y) / 360.0);
        let covers = |[left, top, size, round, _]: &&[f64; 5]| {
            let (dx, dy) = ((across - left).abs(), 0.5625 * (down - top).abs());
            let reach = 0.02 + 0.1 * size;
            if *round < 0.5 {
                dx.hypot(dy) < reach
            } else {
                dx.max(dy) < reach
            }
        };
        let top = shapes.iter().rev().find(covers);
        let level = top.map_or(110.0, |[.., level]| 40.0 + 170.0 * level);
        level + 0.3 * (surface(x, y) - 120.0)
    })
}

/// Lines of strokes of uneven width, on a surface that shows through.
fn writing() -> GrayImage {
    let mut random = ChaCha12Rng::seed_from_u64(5);
    let mut ink = vec![[false; 640]; 13 * 5];
    for row in &mut ink {
        let mut x = 0;
        while x < row.len() {
            let (gap, stroke) = (random.random_range(2..12), random.random_range(2..6));
            row.iter_mut()
                .skip(x + gap)
                .take(stroke)
                .for_each(|dot| *dot = true);
            x += gap + stroke;
        }
    }
    let surface = surface(6, 0.004);
    draw(|x, y| {
        let (line, row) = (y / 29, y % 29 / 4);
        let inked = row < 5 && ink[(line * 5 + row) as usize][x as usize];
        let level = if inked { 40.0 } else { 200.0 };
        level + 0.3 * (surface(x, y) - 120.0)
    })
}

/// Damages every clean picture by steps; the measure of each has to grow with every step, from the
/// good side of the limit to the bad side.
fn check<T: std::fmt::Debug>(
    pictures: &[(&str, GrayImage)],
    of: fn(&GrayImage) -> f64,
    limit: f64,
    steps: &[T],
    damage: impl Fn(&GrayImage, &T) -> GrayImage,
) {
    for (name, picture) in pictures {
        let mut before = of(picture);
        println!("{name}: {before:.3}");
        assert!(before < limit, "{name}, clean: {before}");
        for step in steps {
            let damaged = of(&damage(picture, step));
            println!("{name}, {step:?}: {damaged:.3}");
            assert!(
                damaged > before,
                "{name}, {step:?}: {damaged}, before {before}"
            );
            before = damaged;
        }
        assert!(before > limit, "{name} at the worst: {before}");
    }
}

#[test]
fn blur_grows_with_blurring() {
    check(
        &clean_pictures(),
        blur,
        Clarity::MAX_BLUR,
        &[0.7, 1.0, 1.5, 2.5, 4.0],
        |picture, sigma| image::imageops::blur(picture, *sigma),
    );
}

/// A picture enlarged from fewer pixels has no more detail than those.
#[test]
fn blur_grows_with_enlarging() {
    check(
        &clean_pictures(),
        blur,
        Clarity::MAX_BLUR,
        &[1.5f32, 2.0, 3.0, 4.0, 6.0],
        |picture, factor| {
            let (width, height) = picture.dimensions();
            let reduced = [width, height].map(|side| (side as f32 / factor).round() as u32);
            let small = resize(picture, reduced[0], reduced[1], FilterType::Triangle);
            resize(&small, width, height, FilterType::CatmullRom)
        },
    );
}

fn add_noise(picture: &GrayImage, sigma: f64) -> GrayImage {
    let mut random = ChaCha12Rng::seed_from_u64(9);
    let normal = Normal::new(0.0, sigma).unwrap();
    let mut noisy = picture.clone();
    for Luma([level]) in noisy.pixels_mut() {
        let value = f64::from(*level) + normal.sample(&mut random);
        *level = value.round().clamp(0.0, 255.0) as u8;
    }
    noisy
}

#[test]
fn noise_grows_with_noise() {
    let limit = Clarity::MAX_NOISE;
    check(
        &clean_pictures(),
        noise,
        limit,
        &[2.0, 4.0, 6.0, 10.0, 16.0],
        |picture, sigma| add_noise(picture, *sigma),
    );
}

/// On a plain gradient the standard deviation itself is found.
#[test]
fn noise_is_its_standard_deviation() {
    let plain = draw(|x, y| 80.0 + f64::from(x) / 16.0 + f64::from(y) / 8.0);
    for sigma in [1.0, 3.0, 8.0, 15.0] {
        let found = noise(&add_noise(&plain, sigma));
        // Rounding to whole levels adds a variance of 1/12; the measure has steps of 1/4.
        let truth = (sigma * sigma + 1.0 / 12.0f64).sqrt();
        assert!(
            (found - truth).abs() < 0.13 + 0.02 * truth,
            "{found}, true {truth}"
        );
    }
}

fn jpeg(picture: &GrayImage, quality: u8) -> GrayImage {
    let mut bytes = Vec::new();
    JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode_image(picture)
        .unwrap();
    let decoded: DynamicImage = image::load(Cursor::new(bytes), ImageFormat::Jpeg).unwrap();
    decoded.to_luma8()
}

#[test]
fn blockiness_grows_with_compression() {
    let qualities = [60, 40, 25, 15, 8];
    check(
        &clean_pictures()[..WITHOUT_WRITING],
        blockiness,
        Clarity::MAX_BLOCKINESS,
        &qualities,
        |picture, quality| jpeg(picture, *quality),
    );
}

/// Blocks of 8 pixels are found at any size, and clean pictures do not become blocky.
#[test]
fn blockiness_outlives_resizing() {
    for (index, (name, picture)) in clean_pictures().iter().enumerate() {
        let compressed = jpeg(picture, 8);
        let before = blockiness(&compressed);
        for (width, height) in [(512, 288), (853, 480), (960, 540), (1440, 810), (960, 360)] {
            let resized = |picture| resize(picture, width, height, FilterType::Triangle);
            let clean = blockiness(&resized(picture));
            let found = blockiness(&resized(&compressed));
            let what = format!("{name} at {width} x {height}");
            println!("{what}: clean {clean:.2}, found {found:.2} of {before:.2}");
            assert!(clean < Clarity::MAX_BLOCKINESS, "{what}: {clean}");
            assert!(
                index >= WITHOUT_WRITING || found > before / 3.0,
                "{what}: {found}"
            );
        }
    }
}

#[test]
fn exposure_follows_the_light() {
    for (name, picture) in clean_pictures() {
        let lit = |gain: f64| {
            let mut lit = picture.clone();
            for Luma([level]) in lit.pixels_mut() {
                *level = (f64::from(*level) * gain).round().min(255.0) as u8;
            }
            Clarity::of(&lit).exposure
        };
        let clean = lit(1.0);
        assert!(
            (Exposure::MIN_MEAN..1.0 - Exposure::MIN_MEAN).contains(&clean.mean),
            "{name}"
        );
        assert!(clean.spread > Exposure::MIN_SPREAD, "{name}");
        assert!(
            clean.black.max(clean.white) < Exposure::MAX_CLIPPED,
            "{name}"
        );

        let steps: Vec<Exposure> = [0.01, 0.1, 0.4, 1.0, 2.0, 5.0, 30.0].map(lit).into();
        for two in steps.windows(2) {
            assert!(two[0].mean < two[1].mean, "{name}: {two:?}");
            assert!(two[0].black >= two[1].black, "{name}: {two:?}");
            assert!(two[0].white <= two[1].white, "{name}: {two:?}");
        }
        let (dark, bright) = (steps[0], steps[6]);
        assert!(
            dark.mean < Exposure::MIN_MEAN && dark.black > Exposure::MAX_CLIPPED,
            "{name}"
        );
        assert!(dark.spread < Exposure::MIN_SPREAD, "{name}");
        assert!(bright.mean > 1.0 - Exposure::MIN_MEAN, "{name}");
        assert!(bright.white > Exposure::MAX_CLIPPED, "{name}");
    }
}

/// Of pictures of one scene the sharp one is chosen, and the first of equals.
#[test]
fn the_clearest_picture_starts_a_clip() {
    for (name, picture) in clean_pictures() {
        let blurred = [3.0, 1.5, 0.8].map(|sigma| image::imageops::blur(&picture, sigma));
        let [far, near, nearly] = blurred;
        let head = [far, near, picture.clone(), nearly, picture.clone()];
        assert_eq!(clearest(&head), 2, "{name}");
        assert_eq!(clearest(&head[..2]), 1, "{name}");
    }
    assert_eq!(clearest(&[]), 0);
}

/// The median: a picture blurred by motion does not decide.
#[test]
fn a_clip_is_its_middle_picture() {
    let (_, sharp) = clean_pictures().swap_remove(2);
    let blurred = image::imageops::blur(&sharp, 4.0);
    let clip = measure(&[sharp.clone(), blurred, sharp.clone()]);
    assert_eq!(clip, Some(Clarity::of(&sharp)));
    assert_eq!(measure(&[]), None);
}
