//! What is measured on a clip: every stage is a function of its pictures.

use std::io::Cursor;

use burn::tensor::Device;
use image::{GrayImage, ImageFormat, RgbImage, imageops};
use serde::{Deserialize, Serialize};

use super::{Clip, Measured, OverlaySummary, clip::pixels, pending::Shot};
use crate::{
    Frame, Result,
    aesthetics::{Models, dover::DoverScores, statistics::Statistics},
    clarity::{self, gray},
    config,
    embedding::descriptor::descriptor,
    media::{self, Crop, DecodeOptions, Picture, Probe},
    motion,
    overlays::{self, Decision, Reason, Rect},
    range::{Checked, above_to, within},
    scenes::TransNet,
    tiers::Medium,
};

/// How clips are taken from footage. The paper publishes none of these numbers: all are our choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Length of the longest clip in seconds; longer shots become several clips. HunyuanVideo's
    /// longest training clips have 129 pictures, which is 5.4 s at 24 a second.
    pub longest: f64,
    /// Pictures a second that the stages look at.
    pub analysis_rate: f64,
    /// Shorter side, in pixels, to which those pictures are reduced.
    pub analysis_side: u32,
    /// Seconds between the full-size pictures on which clarity is measured.
    pub clarity_interval: f64,
    /// Longer side of thumbnails in pixels.
    pub thumbnail_side: u32,
    /// Quality of the clips that are written, as x264's constant rate factor: less is better.
    pub crf: u8,
    /// x264's preset: `ultrafast` to `veryslow`.
    pub preset: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            longest: 10.0,
            analysis_rate: 8.0,
            analysis_side: 360,
            clarity_interval: 1.0,
            thumbnail_side: 192,
            crf: 18,
            preset: "veryfast".into(),
        }
    }
}

/// x264's presets.
const PRESETS: [&str; 10] = [
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
    "placebo",
];

impl Config {
    pub(crate) fn check(&self) -> Checked {
        within("longest", self.longest, above_to(0.0, 3600.0))?;
        within("analysis_rate", self.analysis_rate, above_to(0.0, 1000.0))?;
        within("analysis_side", self.analysis_side, 16..=8192)?;
        within(
            "clarity_interval",
            self.clarity_interval,
            above_to(0.0, 3600.0),
        )?;
        within("thumbnail_side", self.thumbnail_side, 1..=4096)?;
        within("crf", self.crf, 0..=51)?;
        match PRESETS.contains(&self.preset.as_str()) {
            true => Ok(()),
            false => Err(format!(
                "preset is `{}`; it has to be one of {}",
                self.preset,
                PRESETS.join(", ")
            )),
        }
    }
}

/// Measures clips and images by the run's configuration.
pub struct Measure {
    /// The configuration.
    pub config: config::Config,
    device: Device,
    models: Models,
    /// Finds transitions, if its weights are given.
    pub(super) transnet: Option<TransNet>,
}

/// A clip that was measured, and a small JPEG of its first picture.
pub(super) struct Picked {
    pub measured: Measured,
    pub thumbnail: Vec<u8>,
}

impl Measure {
    /// Loads what the configuration names.
    ///
    /// # Errors
    /// If weights cannot be loaded.
    pub fn new(config: &config::Config, device: &Device) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            device: device.clone(),
            models: Models::open(&config.aesthetics, device)?,
            transnet: config.transitions.network(device)?,
        })
    }

    /// A picture at the size that the stages look at.
    pub(super) fn reduced(&self, picture: &Picture) -> RgbImage {
        let (width, height) = self.analysis_size(picture.width(), picture.height());
        picture.reduced(width, height)
    }

    fn analysis_size(&self, width: u32, height: u32) -> (u32, u32) {
        let shorter = width.min(height).max(1);
        let scale = f64::from(self.config.clips.analysis_side) / f64::from(shorter);
        let side = |side: u32| ((f64::from(side) * scale.min(1.0)).round() as u32).max(1);
        (side(width), side(height))
    }

    /// Measures a shot of a video; nothing for one so short that no picture of it was sampled.
    pub(super) fn clip(
        &self,
        shot: Shot<GrayImage>,
        probe: &Probe,
        source: &str,
    ) -> Result<Option<Picked>> {
        let mut frames = shot.frames;
        frames.drain(..self.clearest(&frames, shot.start));
        let Some(first) = frames.first() else {
            return Ok(None);
        };
        let (first_picture, start) = (first.index, first.time);
        let end_picture = shot.pictures.end;
        let pictures = end_picture - first_picture;
        let seconds = shot.end - start;
        let video = probe.video()?;
        let place = Place {
            id: format!("{source}-{first_picture:06}-{end_picture:06}"),
            source: source.into(),
            kind: Medium::Video,
            first_picture,
            end_picture,
            start,
            end: shot.end,
            rate: pictures as f64 / seconds,
            width: video.width,
            height: video.height,
        };
        let lumas = shot.details.into_iter();
        let lumas = lumas.filter(|(index, _)| *index >= first_picture);
        let lumas = lumas.map(|(_, luma)| luma).collect();
        let original = Original::Video(probe);
        self.measure(place, frames, lumas, &original).map(Some)
    }

    /// Measures an image.
    pub(super) fn image(&self, picture: &RgbImage, source: &str) -> Result<Option<Picked>> {
        let (width, height) = picture.dimensions();
        let place = Place {
            id: format!("{source}-000000-000001"),
            source: source.into(),
            kind: Medium::Image,
            first_picture: 0,
            end_picture: 1,
            start: 0.0,
            end: 0.0,
            rate: 0.0,
            width,
            height,
        };
        let luma = gray(picture);
        let (width, height) = self.analysis_size(width, height);
        let original = Original::Image(picture);
        let picture = imageops::resize(picture, width, height, imageops::FilterType::Triangle);
        let frame = Frame {
            index: 0,
            time: 0.0,
            picture,
        };
        self.measure(place, vec![frame], vec![luma], &original)
            .map(Some)
    }

    /// The clearest of the pictures near the head.
    fn clearest(&self, frames: &[Frame], start: f64) -> usize {
        let near = |frame: &&Frame| frame.time - start <= self.config.clarity.head;
        let head = frames.iter().take_while(near);
        let head: Vec<GrayImage> = head.map(|frame| gray(&frame.picture)).collect();
        clarity::clearest(&head)
    }

    /// DOVER's scores of what is kept at full size, where its weights are given and that is large
    /// enough for it. The pictures are decoded a second time, since the first pass keeps none.
    fn dover(&self, place: &Place, crop: Crop, original: &Original) -> Result<Option<DoverScores>> {
        if crop.width.min(crop.height) < 224 {
            return Ok(None);
        }
        match *original {
            Original::Image(picture) => {
                let picture = cut(picture, crop);
                self.models.dover(1, |views| views.add(0, &picture))
            }
            Original::Video(probe) => {
                let clip = media::Clip {
                    start: place.start,
                    end: place.end,
                    frames: place.end_picture - place.first_picture,
                };
                let options = DecodeOptions {
                    threads: 0,
                    limits: self.config.limits.clone(),
                };
                self.models.dover(clip.frames as usize, |views| {
                    clip.pictures(probe, &options, |index, picture| {
                        if !views.need(index as usize) {
                            return Ok(());
                        }
                        let picture = picture.downscaled(picture.width(), picture.height());
                        views.add(index as usize, &cut(&picture, crop))
                    })
                })
            }
        }
    }

    /// All stages: what lies over the pictures first, since the others look at what is kept.
    fn measure(
        &self,
        place: Place,
        mut frames: Vec<Frame>,
        mut lumas: Vec<GrayImage>,
        original: &Original,
    ) -> Result<Picked> {
        let config = &self.config;
        let found = overlays::find(&frames, &config.overlays);
        let (width, height) = (place.width, place.height);
        let reduced = frames[0].picture.dimensions();
        let decision = match found.crop(&config.overlays) {
            // Of a tiny picture nothing may be left between whole and even pixels.
            Decision::Crop(part) if is_empty(part, (width, height)) || is_empty(part, reduced) => {
                Decision::Reject(Reason::TooLittleLeft(0.0))
            }
            decision => decision,
        };
        let thumbnail = thumbnail(&frames[0].picture, config.clips.thumbnail_side)?;
        let mut crop = Crop {
            x: 0,
            y: 0,
            width: width - width % 2,
            height: height - height % 2,
        };
        if let Decision::Crop(part) = decision {
            crop = pixels(part, width, height);
            let small = pixels(part, reduced.0, reduced.1);
            for frame in &mut frames {
                frame.picture = cut(&frame.picture, small);
            }
            for luma in &mut lumas {
                *luma = cut(luma, crop);
            }
        }
        let motion = match place.kind {
            Medium::Video => Some(motion::measure(&frames, &config.motion, &self.device)?),
            Medium::Image => None,
        };
        let learned = self.models.look(&frames);
        let dover = self.dover(&place, crop, original)?;
        let kept = f64::from(crop.width) * f64::from(crop.height);
        let clip = Clip {
            id: place.id,
            source: place.source,
            kind: place.kind,
            first_picture: place.first_picture,
            end_picture: place.end_picture,
            pictures: place.end_picture - place.first_picture,
            start: place.start,
            end: place.end,
            seconds: place.end - place.start,
            rate: place.rate,
            width,
            height,
            crop,
            crop_share: kept / (f64::from(width) * f64::from(height)),
            short_side: crop.width.min(crop.height),
            aspect: f64::from(crop.width) / f64::from(crop.height),
            transition: 0.0,
            overlays: OverlaySummary::new(&found, &decision),
            clarity: clarity::measure(&lumas),
            motion,
            statistics: Statistics::of_clip(&frames),
            aesthetic: learned.aesthetic,
            dover,
        };
        let embedding = learned.embedding.unwrap_or_else(|| descriptor(&frames));
        let measured = Measured { clip, embedding };
        Ok(Picked {
            measured,
            thumbnail,
        })
    }
}

/// Where the pictures at full size are.
enum Original<'a> {
    Image(&'a RgbImage),
    Video(&'a Probe),
}

/// Where a clip lies.
struct Place {
    id: String,
    source: String,
    kind: Medium,
    first_picture: u64,
    end_picture: u64,
    start: f64,
    end: f64,
    rate: f64,
    width: u32,
    height: u32,
}

/// Whether no pixel of a picture of this size lies within the part.
fn is_empty(part: Rect, (width, height): (u32, u32)) -> bool {
    let crop = pixels(part, width, height);
    crop.width.min(crop.height) == 0
}

fn cut<P: image::Pixel<Subpixel = u8> + 'static>(
    picture: &image::ImageBuffer<P, Vec<u8>>,
    crop: Crop,
) -> image::ImageBuffer<P, Vec<u8>> {
    imageops::crop_imm(picture, crop.x, crop.y, crop.width, crop.height).to_image()
}

/// A small JPEG.
fn thumbnail(picture: &RgbImage, longer_side: u32) -> Result<Vec<u8>> {
    let (width, height) = picture.dimensions();
    let scale = f64::from(longer_side) / f64::from(width.max(height));
    let side = |side: u32| ((f64::from(side) * scale.min(1.0)).round() as u32).max(1);
    let small = imageops::thumbnail(picture, side(width), side(height));
    let mut jpeg = Cursor::new(Vec::new());
    small
        .write_to(&mut jpeg, ImageFormat::Jpeg)
        .map_err(|error| crate::Error::Request(format!("a thumbnail cannot be made: {error}")))?;
    Ok(jpeg.into_inner())
}
