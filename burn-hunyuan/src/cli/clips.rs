//! Clips of a dataset as frames.

use burn_hunyuan_train::data::{Entry, Part};
use image::{RgbImage, imageops};

use crate::video::{self, VideoReader};

/// A clip being read: frames of one size, or why there are no more.
pub(super) struct Clip {
    pub height: usize,
    pub width: usize,
    pub frames: Box<dyn Iterator<Item = Result<RgbImage, String>>>,
}

/// Opens a clip. With `rate`, a video's frames are those nearest in time to the moments of this
/// many frames a second.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn open(entry: &Entry, rate: Option<f64>) -> Result<Clip, String> {
    let reader = video::open(&entry.path).map_err(|e| e.to_string())?;
    let (height, width, fps) = (reader.height as usize, reader.width as usize, reader.fps);
    let clip = match entry.part {
        None => Clip {
            height,
            width,
            frames: Box::new(reader.map(|frame| frame.map_err(|e| e.to_string()))),
        },
        Some(part) => open_part(reader, part, entry.is_image())?,
    };
    Ok(match rate.filter(|_| !entry.is_image()) {
        None => clip,
        Some(rate) => Clip {
            frames: Box::new(Resampled::new(clip.frames, fps / rate)),
            ..clip
        },
    })
}

/// The part of a video or image that is the clip.
fn open_part(reader: VideoReader, part: Part, is_image: bool) -> Result<Clip, String> {
    let [x, y, width, height] = part.crop;
    let inside = |from: u32, length: u32, all: u32| {
        length > 0 && from.checked_add(length).is_some_and(|end| end <= all)
    };
    if !inside(x, width, reader.width) || !inside(y, height, reader.height) {
        let (w, h) = (reader.width, reader.height);
        return Err(format!("its crop {:?} is not within {w}x{h}", part.crop));
    }
    let frame = |seconds: f64| (seconds * reader.fps).round() as usize;
    let (first, end) = match is_image {
        true => (0, 1),
        false => (frame(part.start), frame(part.end)),
    };
    let frames = reader.skip(first).take(end.saturating_sub(first));
    let cut = move |frame: RgbImage| imageops::crop_imm(&frame, x, y, width, height).to_image();
    Ok(Clip {
        height: height as usize,
        width: width as usize,
        frames: Box::new(frames.map(move |frame| frame.map(cut).map_err(|e| e.to_string()))),
    })
}

/// Frames at another rate: the `n`-th is the source's frame nearest to `n · step`.
struct Resampled<I> {
    frames: I,
    /// Frames of the source for one of these.
    step: f64,
    /// Frames taken from the source, and the latest of them.
    taken: usize,
    latest: Option<RgbImage>,
    /// Frames given.
    given: usize,
}

impl<I> Resampled<I> {
    fn new(frames: I, step: f64) -> Self {
        Self {
            frames,
            step,
            taken: 0,
            latest: None,
            given: 0,
        }
    }
}

impl<I: Iterator<Item = Result<RgbImage, String>>> Iterator for Resampled<I> {
    type Item = Result<RgbImage, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let wanted = (self.given as f64 * self.step).round() as usize;
        while self.taken <= wanted {
            match self.frames.next()? {
                Ok(frame) => self.latest = Some(frame),
                Err(why) => return Some(Err(why)),
            }
            self.taken += 1;
        }
        self.given += 1;
        self.latest.clone().map(Ok)
    }
}

/// The middle of a frame, scaled to `height` by `width`.
pub(super) fn cropped(frame: RgbImage, [height, width]: [usize; 2]) -> RgbImage {
    let (height, width) = (height as u32, width as u32);
    let (h, w) = (f64::from(frame.height()), f64::from(frame.width()));
    let scale = (f64::from(height) / h).max(f64::from(width) / w);
    let scaled = [(h * scale).round(), (w * scale).round()].map(|x| x as u32);
    let [h, w] = [scaled[0].max(height), scaled[1].max(width)];
    let frame = match (h, w) == (frame.height(), frame.width()) {
        true => frame,
        false => imageops::resize(&frame, w, h, imageops::FilterType::CatmullRom),
    };
    imageops::crop_imm(&frame, (w - width) / 2, (h - height) / 2, width, height).to_image()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames whose value is their number, resampled.
    fn resampled(count: u8, step: f64) -> Vec<u8> {
        let frame = |n| Ok(RgbImage::from_pixel(1, 1, image::Rgb([n; 3])));
        Resampled::new((0..count).map(frame), step)
            .map(|frame| frame.unwrap().get_pixel(0, 0).0[0])
            .collect()
    }

    #[test]
    fn the_nearest_frame_in_time_is_taken() {
        // 30 to 24 a second: moments 0, 1.25, 2.5, 3.75, 5 in frames.
        assert_eq!(resampled(6, 30.0 / 24.0), [0, 1, 3, 4, 5]);
        assert_eq!(resampled(9, 60.0 / 24.0), [0, 3, 5, 8]);
        // 12 to 24: each once more, but for the last, which is half a frame's time from its end.
        assert_eq!(resampled(3, 12.0 / 24.0), [0, 1, 1, 2, 2]);
        assert_eq!(resampled(4, 1.0), [0, 1, 2, 3]);
    }

    #[test]
    fn an_error_is_passed_on() {
        let frames = [Ok(RgbImage::new(1, 1)), Err("damaged".to_string())];
        let mut frames = Resampled::new(frames.into_iter(), 1.0);
        assert!(frames.next().unwrap().is_ok());
        assert_eq!(frames.next().unwrap().unwrap_err(), "damaged");
    }

    #[test]
    fn frames_are_scaled_to_cover_and_cut_to_the_middle() {
        let mut frame = RgbImage::from_pixel(64, 16, image::Rgb([0; 3]));
        for (x, _, pixel) in frame.enumerate_pixels_mut() {
            pixel.0 = [x as u8 * 4; 3];
        }
        let out = cropped(frame, [32, 32]);
        assert_eq!(out.dimensions(), (32, 32));
        // The middle quarter of the width, twice as large: its first pixel lies at column 23.75, its
        // last at 39.25. A column is 4 in value.
        let value = |x| i32::from(out.get_pixel(x, 16).0[0]);
        assert!((value(0) - 95).abs() <= 2 && (value(31) - 157).abs() <= 2);
    }
}
