//! The two views of a clip that DOVER sees.
//!
//! The reference draws the places of frames and pieces at random; here they are in the middle of
//! where it may draw them, so that a clip has one score.

use burn::tensor::{DType, Device, Tensor, TensorData};
use image::RgbImage;

use crate::{Error, Result};

/// Frames of a view.
pub const FRAMES: usize = 32;
/// Clips of the technical view.
const CLIPS: usize = 3;
/// Frames from one to the next.
const STEP: usize = 2;
/// Pieces along a side of the technical view, and their side.
const PIECES: usize = 7;
const PIECE: usize = 32;
/// Side of a view.
const SIDE: usize = PIECES * PIECE;

/// ImageNet's mean and standard deviation of the channels, from 0 to 255.
const MEAN: [f32; 3] = [123.675, 116.28, 103.53];
const DEVIATION: [f32; 3] = [58.395, 57.12, 57.375];

/// The frames of the technical view of a clip of `count` frames: three times 32.
///
/// # Errors
/// When there is no frame.
pub fn technical_frames(count: usize) -> Result<Vec<usize>> {
    frames(count, CLIPS, FRAMES)
}

/// The frames of the aesthetic view of a clip of `count` frames: 32.
///
/// # Errors
/// When there is no frame.
pub fn aesthetic_frames(count: usize) -> Result<Vec<usize>> {
    frames(count, FRAMES, 1)
}

/// Runs of frames in the middle of equal parts of the clip; a short clip begins again.
fn frames(count: usize, parts: usize, length: usize) -> Result<Vec<usize>> {
    if count == 0 {
        return Err(Error::Request("there is no frame to judge".into()));
    }
    let part = count / parts;
    let spare = part.saturating_sub(length * STEP) / 2;
    let runs = (0..parts).map(|p| p * part + spare);
    let frames = runs.flat_map(|start| (0..length).map(move |f| (start + f * STEP) % count));
    Ok(frames.collect())
}

/// The technical view of some frames: 7 × 7 pieces of 32 × 32 pixels, cut from the middle of as
/// many cells of each frame. `[1, 3, frames, 224, 224]`.
///
/// # Errors
/// When a frame is smaller than the view.
pub fn fragments(frames: &[&RgbImage], device: &Device) -> Result<Tensor<5>> {
    for frame in frames {
        let (width, height) = frame.dimensions();
        if (width.min(height) as usize) < SIDE {
            return Err(Error::Request(format!(
                "DOVER judges frames of at least {SIDE} pixels a side, not {width} x {height}"
            )));
        }
    }
    Ok(view(frames, device, |frame, channel, y, x| {
        let from = |place: usize, extent: u32| {
            let cell = extent as usize / PIECES;
            (place / PIECE * cell + (cell - PIECE) / 2 + place % PIECE) as u32
        };
        let pixel = frame.get_pixel(from(x, frame.width()), from(y, frame.height()));
        f32::from(pixel[channel])
    }))
}

/// The aesthetic view of some frames: each squeezed to a square, bilinear between four pixels as
/// the reference does it. `[1, 3, frames, 224, 224]`.
pub fn squeezed(frames: &[&RgbImage], device: &Device) -> Tensor<5> {
    view(frames, device, |frame, channel, y, x| {
        let ([left, right], across) = neighbours(x, frame.width());
        let ([top, bottom], down) = neighbours(y, frame.height());
        let value = |x, y| f32::from(frame.get_pixel(x, y)[channel]);
        let above = value(left, top) * (1.0 - across) + value(right, top) * across;
        let below = value(left, bottom) * (1.0 - across) + value(right, bottom) * across;
        (above * (1.0 - down) + below * down).round_ties_even()
    })
}

/// The two pixels around a place of the view, and how near it is to the second.
fn neighbours(place: usize, extent: u32) -> ([u32; 2], f32) {
    let scale = extent as f32 / SIDE as f32;
    let at = ((place as f32 + 0.5) * scale - 0.5).max(0.0);
    let first = (at as u32).min(extent - 1);
    let second = (first + 1).min(extent - 1);
    ([first, second], at - first as f32)
}

/// Normalised channels of all frames from a value for each place.
fn view(
    frames: &[&RgbImage],
    device: &Device,
    value: impl Fn(&RgbImage, usize, usize, usize) -> f32,
) -> Tensor<5> {
    let mut values = Vec::with_capacity(3 * frames.len() * SIDE * SIDE);
    for channel in 0..3 {
        for frame in frames {
            for y in 0..SIDE {
                let row = (0..SIDE).map(|x| value(frame, channel, y, x));
                values.extend(row.map(|value| (value - MEAN[channel]) / DEVIATION[channel]));
            }
        }
    }
    let data = TensorData::new(values, [1, 3, frames.len(), SIDE, SIDE]);
    Tensor::from_data(data, (device, DType::F32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_stand_in_the_middle_of_their_parts() {
        let technical = technical_frames(300).unwrap();
        assert_eq!(technical.len(), 96);
        // Parts of 100 frames, runs that span 64 of them.
        assert_eq!(technical[..3], [18, 20, 22]);
        assert_eq!(technical[32], 118);
        assert_eq!(technical[95], 200 + 18 + 62);
        let aesthetic = aesthetic_frames(320).unwrap();
        assert_eq!(aesthetic[..3], [4, 14, 24]);
        assert_eq!(aesthetic.len(), 32);
    }

    #[test]
    fn short_clips_begin_again() {
        assert_eq!(aesthetic_frames(5).unwrap(), [0; 32]);
        let technical = technical_frames(9).unwrap();
        assert_eq!(technical[..6], [0, 2, 4, 6, 8, 1]);
        assert_eq!(technical[32], 3);
        assert!(technical_frames(0).is_err());
    }
}
