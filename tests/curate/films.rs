//! Films that the tests shoot themselves: a camera over painted ground, written by ffmpeg.

#![allow(dead_code)] // each test binary uses its own part

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use image::{Rgb, RgbImage, imageops};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

/// Size of the films, small enough to be quick and large enough for the lowest tier.
pub const SIZE: (u32, u32) = (456, 256);

/// Pictures a second.
pub const RATE: u32 = 24;

/// Ground to film: blotches of many sizes, different for each seed.
pub fn ground(seed: u64) -> RgbImage {
    let (width, height) = (2 * SIZE.0, 2 * SIZE.1);
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    let mut ground = RgbImage::from_pixel(width, height, Rgb([128; 3]));
    for (cell, contrast) in [(160, 90.0), (48, 50.0), (12, 40.0), (4, 30.0)] {
        let coarse = RgbImage::from_fn(width / cell + 2, height / cell + 2, |_, _| {
            Rgb(std::array::from_fn(|_| random.random()))
        });
        let filter = imageops::FilterType::CatmullRom;
        let layer = imageops::resize(&coarse, width, height, filter);
        for (pixel, layer) in ground.pixels_mut().zip(layer.pixels()) {
            for (value, layer) in pixel.0.iter_mut().zip(layer.0) {
                let sum = f32::from(*value) + (f32::from(layer) / 255.0 - 0.5) * contrast;
                *value = sum.clamp(0.0, 255.0) as u8;
            }
        }
    }
    ground
}

/// A take: `seconds` over the ground of `seed`, moving by `speed` pixels a second.
pub fn take(seed: u64, seconds: f64, speed: f64) -> Vec<RgbImage> {
    let ground = ground(seed);
    let (width, height) = SIZE;
    let count = (seconds * f64::from(RATE)).round() as u32;
    let places = (0..count).map(|i| f64::from(i) * speed / f64::from(RATE));
    // Back and forth, with parts of pixels: slow motion moves less than one at a time.
    places
        .map(|place| {
            let place = place.rem_euclid(f64::from(2 * width));
            let place = place.min(f64::from(2 * width) - place) as f32;
            RgbImage::from_fn(width, height, |x, y| {
                let (x, y) = (x as f32 + place, (y + height / 4) as f32 + place / 4.0);
                let (x, y) = (x.min(911.0), y.min(511.0));
                imageops::interpolate_bilinear(&ground, x, y).unwrap_or(Rgb([0; 3]))
            })
        })
        .collect()
}

/// Writes a film as H.264.
pub fn write(path: &Path, pictures: &[RgbImage]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let size = format!("{}x{}", pictures[0].width(), pictures[0].height());
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24"])
        .args(["-s", &size, "-r", &RATE.to_string(), "-i", "pipe:0"])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-crf", "16"])
        .args(["-pix_fmt", "yuv420p", "-threads", "1"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = ffmpeg.stdin.take().unwrap();
    for picture in pictures {
        input.write_all(picture).unwrap();
    }
    drop(input);
    assert!(ffmpeg.wait().unwrap().success());
}

/// Writes `from` anew through a filter of ffmpeg.
pub fn filtered(from: &Path, path: &Path, filter: &str, crf: u32) {
    let done = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-i"])
        .arg(from)
        .args(["-vf", filter, "-c:v", "libx264", "-preset", "veryfast"])
        .args(["-crf", &crf.to_string(), "-threads", "1"])
        .arg(path)
        .status()
        .unwrap();
    assert!(done.success());
}
