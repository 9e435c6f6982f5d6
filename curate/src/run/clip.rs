//! The rows of a run.

use serde::{Deserialize, Serialize};

use crate::{
    aesthetics::{dover::DoverScores, statistics::Statistics},
    clarity::Clarity,
    media::{Crop, Probe},
    motion::Motion,
    overlays::{Decision, Kind, Overlays, Rect},
    tiers::Medium,
};

/// What a source was found to hold.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Media {
    /// ffmpeg's name of the container format.
    pub format: Option<String>,
    /// ffmpeg's name of the codec.
    pub codec: Option<String>,
    /// Width in pixels as shown.
    pub width: Option<u32>,
    /// Height in pixels as shown.
    pub height: Option<u32>,
    /// Pictures a second.
    pub rate: Option<f64>,
    /// Whether the time between pictures varies.
    pub variable_rate: Option<bool>,
    /// Length in seconds, as the container states it.
    pub seconds: Option<f64>,
    /// Degrees clockwise by which players turn the picture.
    pub rotation: Option<u32>,
    /// Whether there is sound.
    pub audio: Option<bool>,
    /// Pictures that could be decoded.
    pub pictures: Option<u64>,
}

impl From<&Probe> for Media {
    fn from(probe: &Probe) -> Self {
        let video = probe.video.as_ref();
        Self {
            format: Some(probe.format.clone()),
            codec: video.map(|video| video.codec.clone()),
            width: video.map(|video| video.width),
            height: video.map(|video| video.height),
            rate: video.map(|video| video.rate.per_second()),
            variable_rate: video.map(|video| video.variable_rate),
            seconds: video.and_then(|video| video.duration).or(probe.duration),
            rotation: video.map(|video| video.rotation),
            audio: Some(probe.audio.is_some()),
            pictures: None,
        }
    }
}

/// A clip or an image and all that was measured on it, before it is compared with others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Clip {
    /// The source's id and the numbers of the first picture and of the first after the last.
    pub id: String,
    /// The source's id.
    pub source: String,
    /// Clip or image.
    pub kind: Medium,
    /// Number of the first picture in the source.
    pub first_picture: u64,
    /// Number of the first picture after the clip.
    pub end_picture: u64,
    /// Pictures in the clip.
    pub pictures: u64,
    /// Seconds of the first picture in the source.
    pub start: f64,
    /// Seconds at which the first picture after the clip is shown.
    pub end: f64,
    /// Length in seconds.
    pub seconds: f64,
    /// Pictures a second, on average over the clip.
    pub rate: f64,
    /// Width of the source's pictures.
    pub width: u32,
    /// Height of the source's pictures.
    pub height: u32,
    /// The part that is kept, in pixels of the source.
    pub crop: Crop,
    /// The part that is kept, as a share of the picture.
    pub crop_share: f64,
    /// Shorter side of what is kept, in pixels.
    pub short_side: u32,
    /// Width over height of what is kept.
    pub aspect: f64,
    /// Seconds of it that lie in dissolves and fades.
    pub transition: f64,
    /// What lies over the picture.
    pub overlays: OverlaySummary,
    /// How clear the pictures are; absent for clips too short to have been looked at.
    pub clarity: Option<Clarity>,
    /// How they move; absent for images.
    pub motion: Option<Motion>,
    /// What the pictures look like.
    pub statistics: Statistics,
    /// LAION's aesthetic score; absent without its weights.
    pub aesthetic: Option<f64>,
    /// DOVER's scores; absent without its weights.
    pub dover: Option<DoverScores>,
}

/// What lies over a clip's pictures, in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OverlaySummary {
    /// `keep`, `crop` or `reject`.
    pub decision: String,
    /// The share of the picture that borders take.
    pub borders: f64,
    /// Subtitles found.
    pub subtitles: u32,
    /// Logos and watermarks found.
    pub logos: u32,
    /// Share of the scene's edges that stay where they are.
    pub stillness: f64,
}

impl OverlaySummary {
    /// Counts what was found, and names what is done about it.
    pub fn new(overlays: &Overlays, decision: &Decision) -> Self {
        let count = |kind| {
            overlays
                .regions
                .iter()
                .filter(|region| region.kind == kind)
                .count()
        };
        let decision = match decision {
            Decision::Keep => "keep",
            Decision::Crop(_) => "crop",
            Decision::Reject(_) => "reject",
        };
        let borders = overlays.borders;
        let inside = |size: u32, before: u32, after: u32| {
            let left = size.saturating_sub(before).saturating_sub(after);
            f64::from(left) / f64::from(size.max(1))
        };
        let across = inside(overlays.width, borders.left, borders.right);
        let down = inside(overlays.height, borders.top, borders.bottom);
        Self {
            decision: decision.into(),
            borders: 1.0 - across * down,
            subtitles: count(Kind::Subtitle) as u32,
            logos: count(Kind::Logo) as u32,
            stillness: f64::from(overlays.stillness),
        }
    }
}

/// The whole pixels within a part of a picture, with even sides and corners as chroma needs them.
pub(super) fn pixels(part: Rect, width: u32, height: u32) -> Crop {
    let span = |from: f32, to: f32, size: u32| {
        let size_f = f64::from(size);
        // Within the picture, so the conversions hold. What is less than a hundredth of a pixel
        // over an edge is rounding.
        let low = (f64::from(from) * size_f - 0.01).ceil().max(0.0) as u32;
        let high = (f64::from(to) * size_f + 0.01).floor() as u32;
        let low = low.next_multiple_of(2).min(size);
        let length = high.min(size).saturating_sub(low);
        (low, length - length % 2)
    };
    let (x, width) = span(part.left, part.right, width);
    let (y, height) = span(part.top, part.bottom, height);
    Crop {
        x,
        y,
        width,
        height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crops_are_even_and_within_the_part() {
        let part = |left, top, right, bottom| Rect {
            left,
            top,
            right,
            bottom,
        };
        let crop = |x, y, width, height| Crop {
            x,
            y,
            width,
            height,
        };
        assert_eq!(
            pixels(part(0.0, 0.0, 1.0, 1.0), 640, 360),
            crop(0, 0, 640, 360)
        );
        assert_eq!(
            pixels(part(0.0, 0.125, 1.0, 0.875), 640, 360),
            crop(0, 46, 640, 268)
        );
        assert_eq!(
            pixels(part(0.1, 0.0, 0.9, 1.0), 101, 51),
            crop(12, 0, 78, 50)
        );
        assert_eq!(pixels(part(1.0, 1.0, 1.0, 1.0), 9, 9).width, 0);
    }
}
