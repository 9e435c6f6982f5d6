//! Borders, subtitles, watermarks and logos.
//!
//! What was laid over a picture stays where it is while the scene behind it moves. [`find`] looks for
//! shapes that do, for lines of text and for plain margins; [`Overlays::crop`] says which part of the
//! picture is free of them.
//!
//! Where the camera does not move, every edge of the scene stays, and edges that stay prove
//! nothing. There only borders and evident lines of text are reported, and an overlay without text
//! is missed rather than a part of the scene taken for one.

mod area;
mod borders;
mod coherence;
mod crop;
mod shapes;
mod strokes;
mod text;

use image::{GrayImage, RgbImage};
use serde::{Deserialize, Serialize};

pub use borders::Borders;
pub use crop::{Decision, Reason};

use crate::{
    Frame,
    range::{Checked, above, within},
};
use area::Area;
use coherence::Differences;
use shapes::Cells;

/// What is looked for, and what is done about it. The paper publishes no thresholds: all defaults
/// are our choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How far, in 8-bit levels, a border's pixels may be from its colour.
    pub border_tolerance: u8,
    /// Least sharpness of an edge, as its second difference in levels: lower finds fainter
    /// watermarks and takes more of the scene for one.
    pub edge: f32,
    /// Share of an edge's energy that all pictures have to have in common for it to stay, in
    /// `0..=1`: 1 for opaque overlays, lower for those that the scene shines through.
    pub coherence: f32,
    /// From this stillness on the scene counts as still, and edges that stay prove nothing.
    pub still: f32,
    /// By how many levels the strokes of text have to stand out from what is beside them, less the
    /// spread of their own levels; those of text that the scene shines through, over black.
    pub text_contrast: f32,
    /// A crop has to keep this share of the picture within the borders (HunyuanVideo 1.5 crops
    /// "unless less than 60 % remains").
    pub min_area: f32,
    /// Narrowest picture a crop may leave, as width over height.
    pub min_aspect: f32,
    /// Widest picture a crop may leave, as width over height.
    pub max_aspect: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            border_tolerance: 14,
            edge: 12.0,
            coherence: 0.5,
            still: 0.15,
            text_contrast: 70.0,
            min_area: 0.6,
            min_aspect: 9.0 / 16.0,
            max_aspect: 2.4,
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> Checked {
        within("edge", self.edge, 0.0..)?;
        within("coherence", self.coherence, 0.0..=1.0)?;
        within("still", self.still, 0.0..=1.0)?;
        within("text_contrast", self.text_contrast, 0.0..)?;
        within("min_area", self.min_area, 0.0..=1.0)?;
        within("min_aspect", self.min_aspect, above(0.0))?;
        within("max_aspect", self.max_aspect, self.min_aspect..)
    }
}

/// What was found on a clip.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Overlays {
    /// Width of the pictures looked at, in pixels.
    pub width: u32,
    /// Height of the pictures looked at, in pixels.
    pub height: u32,
    /// The plain margins around the picture.
    pub borders: Borders,
    /// Subtitles and logos, from the top.
    pub regions: Vec<Region>,
    /// Share of the scene's edges that stay where they are, in `0..=1`: near 1 for a camera on a
    /// tripod, near 0 for one that pans.
    pub stillness: f32,
}

/// A part of the picture that something is laid over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Region {
    /// What it is taken for.
    pub kind: Kind,
    /// Where it is.
    pub area: Rect,
    /// How sure its edges stay, or how evenly its strokes are coloured, in `0..=1`.
    pub strength: f32,
}

/// What lies over a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A line of text, or a shape like one, across the lower or upper part.
    Subtitle,
    /// A logo or watermark: whatever else stays.
    Logo,
}

/// A rectangle in fractions of the picture: `left..right` of its width, `top..bottom` of its height.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub left: f32,
    /// Upper edge.
    pub top: f32,
    /// Right edge.
    pub right: f32,
    /// Lower edge.
    pub bottom: f32,
}

/// A line of text counts once it is there for this many seconds, or all the time.
const TEXT_SECONDS: f64 = 1.5;
/// Text is looked for in the mean picture of stretches of this length, in seconds: behind it, a
/// scene that moves is blurred.
const STRETCH: f64 = 0.5;
/// Fewer pictures do not show what stays.
const FEW: usize = 6;
/// In a row of text, edges stay only if all pictures have this share of their energy in common: lines
/// that take turns in one place have rows and strokes in common, and may share half of it.
const IN_ROWS: f32 = 0.8;
/// Regions are this many pixels larger than what was found: outlines, shadows, blur.
const MARGIN: usize = 3;

/// What lies over the pictures of a clip, which have to be of one size. Of a single picture, or one
/// that stands still, only borders and evident text are found.
pub fn find(frames: &[Frame], config: &Config) -> Overlays {
    let Some(first) = frames.first() else {
        return Overlays::default();
    };
    let (width, height) = first.picture.dimensions();
    let borders = borders::find(frames, config.border_tolerance);
    let clip = Observed::of(frames, config);

    let differences = clip.differences();
    let edges_that_stay = |coherence: f32| {
        let mut edges = differences.edges(config.edge, coherence);
        edges.forget(&borders);
        edges
    };
    let edges = edges_that_stay(config.coherence);
    let cells = Cells::new(&edges, &clip.mean);
    let few = frames.len() < FEW;
    let stillness = if few { 1.0 } else { cells.stillness() };

    let needed = clip.lines.len().min((TEXT_SECONDS / STRETCH) as usize);
    let mut found: Vec<(Area, f32)> = text::blocks(&clip.lines)
        .into_iter()
        .filter(|block| block.stretches.len() >= needed)
        .map(|block| (block.area, (block.clearness / 128.0).min(1.0)))
        .collect();
    if stillness < config.still {
        let texts: Vec<Area> = found.iter().map(|(area, _)| *area).collect();
        for shape in cells.shapes(&clip.thirds) {
            if !found.iter().any(|(area, _)| area.overlaps(&shape.area)) {
                found.push((shape.area, shape.strength));
            }
        }
        if !texts.is_empty() {
            let edges = edges_that_stay(config.coherence.max(IN_ROWS));
            let mut shapes = Cells::new(&edges, &clip.mean).shapes(&clip.thirds);
            shapes.retain(|shape| texts.iter().any(|text| shape.is_beside(text)));
            found.extend(shapes.iter().map(|shape| (shape.area, shape.strength)));
        }
    }
    let region = |(area, strength): (Area, f32)| {
        let area = area.grown(MARGIN, MARGIN).fractions(width, height);
        Region {
            kind: Kind::of(&area, width as f32 / height as f32),
            area,
            strength,
        }
    };
    let mut regions: Vec<Region> = found.into_iter().map(region).collect();
    regions.sort_by(|a, b| a.area.top.total_cmp(&b.area.top));
    Overlays {
        width,
        height,
        borders,
        regions,
        stillness,
    }
}

/// What one pass over a clip's pictures collects.
struct Observed {
    /// The mean of all pictures.
    mean: GrayImage,
    /// The differences of each third of the clip.
    thirds: [Differences; 3],
    /// The lines of text of each stretch.
    lines: Vec<Vec<text::Line>>,
}

impl Observed {
    fn of(frames: &[Frame], config: &Config) -> Self {
        let (width, height) = frames[0].picture.dimensions();
        let stretch = |frame: &Frame| ((frame.time - frames[0].time) / STRETCH).floor();
        let mut thirds = [(); 3].map(|()| Differences::new(width, height));
        let mut lines = Vec::new();
        let mut total = Mean::new(width, height);
        for frames_of_stretch in frames.chunk_by(|a, b| stretch(a) == stretch(b)) {
            let mut mean = Mean::new(width, height);
            for frame in frames_of_stretch {
                let luma = luma(&frame.picture);
                thirds[3 * total.count as usize / frames.len()].add(&luma);
                mean.add(&luma);
                total.add(&luma);
            }
            lines.push(text::lines(&mean.picture(), config.text_contrast));
        }
        Self {
            mean: total.picture(),
            thirds,
            lines,
        }
    }

    /// Those of the whole clip.
    fn differences(&self) -> Differences {
        let [mut clip, middle, last] = self.thirds.clone();
        clip.merge(&middle);
        clip.merge(&last);
        clip
    }
}

/// The mean of some pictures.
struct Mean {
    width: u32,
    height: u32,
    count: u32,
    sum: Vec<u32>,
}

impl Mean {
    /// Of no picture yet.
    fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            count: 0,
            sum: vec![0; width as usize * height as usize],
        }
    }

    fn add(&mut self, luma: &GrayImage) {
        self.count += 1;
        let sums = self.sum.iter_mut().zip(luma.as_raw());
        sums.for_each(|(sum, &level)| *sum += u32::from(level));
    }

    fn picture(&self) -> GrayImage {
        let count = self.count.max(1);
        let mean = |sum: &u32| ((sum + count / 2) / count) as u8;
        let mean = self.sum.iter().map(mean).collect();
        GrayImage::from_raw(self.width, self.height, mean).unwrap_or_default()
    }
}

impl Kind {
    /// Subtitles lie across the lower or upper part of the picture, in its middle or far across.
    fn of(area: &Rect, aspect: f32) -> Self {
        let (x, y) = (
            (area.left + area.right) / 2.0,
            (area.top + area.bottom) / 2.0,
        );
        let placed = !(0.3..0.6).contains(&y);
        let wide = area.width() >= 0.4 || area.width() >= 0.12 && (x - 0.5).abs() <= 0.2;
        let low = aspect * area.width() >= 3.0 * area.height();
        if placed && wide && low {
            Self::Subtitle
        } else {
            Self::Logo
        }
    }
}

/// BT.601 luma.
fn luma(picture: &RgbImage) -> GrayImage {
    let weigh = |rgb: &[u8]| {
        ((77 * u32::from(rgb[0]) + 150 * u32::from(rgb[1]) + 29 * u32::from(rgb[2])) >> 8) as u8
    };
    let luma = picture.as_raw().chunks_exact(3).map(weigh).collect();
    GrayImage::from_raw(picture.width(), picture.height(), luma).unwrap_or_default()
}
