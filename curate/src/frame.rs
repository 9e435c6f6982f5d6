//! A decoded picture with its place in the source.

use image::RgbImage;

/// One picture of a clip, as the stages see it: reduced to the analysis size.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// Number of the picture in its source, from 0.
    pub index: u64,
    /// Presentation time in seconds from the start of the source.
    pub time: f64,
    /// 8-bit RGB.
    pub picture: RgbImage,
}
