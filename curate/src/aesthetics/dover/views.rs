//! The two views of a clip that DOVER sees.
//!
//! The reference draws the places of frames and pieces at random; here they are in the middle of
//! where it may draw them, so that a clip has one score.

use std::collections::BTreeMap;

use burn::tensor::{DType, Device, Tensor, TensorData};
use image::{Rgb, RgbImage};

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
fn technical_frames(count: usize) -> Result<Vec<usize>> {
    frames(count, CLIPS, FRAMES)
}

/// The frames of the aesthetic view of a clip of `count` frames: 32.
///
/// # Errors
/// When there is no frame.
fn aesthetic_frames(count: usize) -> Result<Vec<usize>> {
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

/// What DOVER sees of a clip, gathered from its frames one by one: of each only the view is kept.
#[derive(Debug)]
pub struct Views {
    technical: View,
    aesthetic: View,
}

/// Frames in the order in which a view has them, and what it shows of each.
#[derive(Debug)]
struct View {
    frames: Vec<usize>,
    shown: BTreeMap<usize, RgbImage>,
}

impl Views {
    /// Of a clip of `count` frames; nothing is gathered yet.
    ///
    /// # Errors
    /// When there is no frame.
    pub fn new(count: usize) -> Result<Self> {
        let view = |frames| View {
            frames,
            shown: BTreeMap::new(),
        };
        Ok(Self {
            technical: view(technical_frames(count)?),
            aesthetic: view(aesthetic_frames(count)?),
        })
    }

    /// Whether a view shows the frame with this number.
    pub fn need(&self, index: usize) -> bool {
        self.technical.frames.contains(&index) || self.aesthetic.frames.contains(&index)
    }

    /// Takes what the views show of a frame, which comes at its own size: technical quality is in
    /// the pixels.
    ///
    /// # Errors
    /// When the frame is smaller than the views.
    pub fn add(&mut self, index: usize, frame: &RgbImage) -> Result<()> {
        if self.technical.frames.contains(&index) {
            self.technical.shown.insert(index, fragments(frame)?);
        }
        if self.aesthetic.frames.contains(&index) {
            self.aesthetic.shown.insert(index, squeezed(frame));
        }
        Ok(())
    }

    /// The technical view: three clips, `[3, 3, 32, 224, 224]`.
    ///
    /// # Errors
    /// When a frame was not added.
    pub fn technical(&self, device: &Device) -> Result<Tensor<5>> {
        self.technical.tensor(device)
    }

    /// The aesthetic view: `[1, 3, 32, 224, 224]`.
    ///
    /// # Errors
    /// When a frame was not added.
    pub fn aesthetic(&self, device: &Device) -> Result<Tensor<5>> {
        self.aesthetic.tensor(device)
    }
}

impl View {
    fn tensor(&self, device: &Device) -> Result<Tensor<5>> {
        let missing = |index| Error::Request(format!("DOVER lacks frame {index} of the clip"));
        let shown = |index| self.shown.get(index).ok_or_else(|| missing(index));
        let shown: Vec<&RgbImage> = self.frames.iter().map(shown).collect::<Result<_>>()?;
        let clips = shown.chunks(FRAMES).map(|clip| tensor(clip, device));
        Ok(Tensor::cat(clips.collect(), 0))
    }
}

/// The technical view of a frame: 7 × 7 pieces of 32 × 32 pixels, cut from the middle of as many
/// cells.
///
/// # Errors
/// When the frame is smaller than the view.
pub fn fragments(frame: &RgbImage) -> Result<RgbImage> {
    let (width, height) = frame.dimensions();
    if (width.min(height) as usize) < SIDE {
        return Err(Error::Request(format!(
            "DOVER judges frames of at least {SIDE} pixels a side, not {width} x {height}"
        )));
    }
    let from = |place: u32, extent: u32| {
        let (place, cell) = (place as usize, extent as usize / PIECES);
        (place / PIECE * cell + (cell - PIECE) / 2 + place % PIECE) as u32
    };
    let pixel = |x, y| *frame.get_pixel(from(x, width), from(y, height));
    Ok(RgbImage::from_fn(SIDE as u32, SIDE as u32, pixel))
}

/// The aesthetic view of a frame: squeezed to a square, bilinear between four pixels as the
/// reference does it.
pub fn squeezed(frame: &RgbImage) -> RgbImage {
    RgbImage::from_fn(SIDE as u32, SIDE as u32, |x, y| {
        let ([left, right], across) = neighbours(x, frame.width());
        let ([top, bottom], down) = neighbours(y, frame.height());
        Rgb([0, 1, 2].map(|channel: usize| {
            let value = |x, y| f32::from(frame.get_pixel(x, y)[channel]);
            let above = value(left, top) * (1.0 - across) + value(right, top) * across;
            let below = value(left, bottom) * (1.0 - across) + value(right, bottom) * across;
            (above * (1.0 - down) + below * down).round_ties_even() as u8
        }))
    })
}

/// The two pixels around a place of the view, and how near it is to the second.
fn neighbours(place: u32, extent: u32) -> ([u32; 2], f32) {
    let scale = extent as f32 / SIDE as f32;
    let at = ((place as f32 + 0.5) * scale - 0.5).max(0.0);
    let first = (at as u32).min(extent - 1);
    let second = (first + 1).min(extent - 1);
    ([first, second], at - first as f32)
}

/// What a view shows of some frames, normalised: `[1, 3, frames, 224, 224]`.
pub fn tensor(shown: &[&RgbImage], device: &Device) -> Tensor<5> {
    let mut values = Vec::with_capacity(3 * shown.len() * SIDE * SIDE);
    for channel in 0..3 {
        for frame in shown {
            let levels = frame.pixels().map(|pixel| f32::from(pixel[channel]));
            values.extend(levels.map(|level| (level - MEAN[channel]) / DEVIATION[channel]));
        }
    }
    let data = TensorData::new(values, [1, 3, shown.len(), SIDE, SIDE]);
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
