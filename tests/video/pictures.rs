//! Pictures to write, and what remains of them.

use std::path::Path;

use burn_hunyuan::video::{self, Quality, RgbImage, VideoWriter};

/// A smooth picture that moves with `frame`; every channel differs.
pub fn smooth(width: u32, height: u32, frame: usize) -> RgbImage {
    let phase = frame as f32 * 0.2;
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (x as f32 / width as f32, y as f32 / height as f32);
        let wave =
            |a: f32, b: f32| (127.5 + 110.0 * (a * x * 5.0 + b * y * 4.0 + phase).sin()) as u8;
        image::Rgb([wave(1.0, 0.3), wave(-0.4, 1.0), wave(0.7, -0.8)])
    })
}

pub fn write(path: &Path, frames: &[RgbImage], fps: f64) {
    let _ = std::fs::remove_file(path);
    let (width, height) = frames[0].dimensions();
    let mut writer = VideoWriter::create(path, width, height, fps, Quality::default()).unwrap();
    for frame in frames {
        writer.write(frame).unwrap();
    }
    assert!(!path.is_file(), "the target appeared before finish");
    writer.finish().unwrap();
}

pub fn read(path: &Path) -> (f64, Vec<RgbImage>) {
    let reader = video::open(path).unwrap();
    (reader.fps, reader.map(Result::unwrap).collect())
}

/// Peak signal-to-noise ratio in dB.
pub fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares: f64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2))
        .sum();
    10.0 * (255.0f64.powi(2) * a.len() as f64 / squares).log10()
}

fn max_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The red, green, blue, yellow, magenta, grey, dark and white patches of a colour chart.
pub fn patches() -> RgbImage {
    let colors = [
        [200, 30, 40],
        [30, 180, 60],
        [40, 50, 210],
        [220, 210, 30],
        [200, 40, 190],
        [128, 128, 128],
        [12, 10, 14],
        [250, 252, 248],
    ];
    RgbImage::from_fn(256, 64, |x, _| image::Rgb(colors[x as usize / 32]))
}

/// The largest difference in the middle of each patch.
pub fn patch_difference(a: &RgbImage, b: &RgbImage) -> u8 {
    let middles = (0..8).flat_map(|p| [8, 16, 24].map(move |x| (32 * p + x, 32)));
    middles
        .map(|(x, y)| max_difference(&a[(x, y)].0, &b[(x, y)].0))
        .max()
        .unwrap()
}
