//! A stretch of a file's pictures.

use super::{DecodeOptions, Decoder, Picture, Probe, Video};
use crate::{Error, Result};

/// A stretch of pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clip {
    /// Time of the first picture, as [`super::Picture::time`] gives it.
    pub start: f64,
    /// Time of the first picture after the clip; at the end of a file, of its last picture plus
    /// that picture's duration.
    pub end: f64,
    /// Pictures from `start` to before `end`.
    pub frames: u64,
}

/// Half a millisecond: less than half the time between pictures, more than what rounding to
/// microseconds moves them.
pub(super) const SLACK: f64 = 0.0005;

impl Clip {
    /// Start and end by the file's own clock, early enough for roundings.
    pub(super) fn in_file(&self, video: &Video) -> (f64, f64) {
        let begin = video.start as f64 / video.ticks.per_second() - SLACK;
        (self.start + begin, self.end + begin)
    }

    /// Decodes the clip: `each` gets every picture with its number in the clip.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] where the file cannot be decoded or does not have these pictures; those
    /// of `each`.
    pub fn pictures(
        &self,
        probe: &Probe,
        options: &DecodeOptions,
        mut each: impl FnMut(u64, &Picture) -> Result<()>,
    ) -> Result<()> {
        let mut picture = Picture::default();
        let begins = |picture: &Picture| (picture.time - self.start).abs() <= SLACK;
        // From the key picture before the clip. Where an index misleads, from the start of the file.
        let mut decoder = Decoder::open_clip(probe, self, true, options)?;
        let mut some = decoder.read(&mut picture).unwrap_or(false);
        if !some || !begins(&picture) {
            decoder = Decoder::open_clip(probe, self, false, options)?;
            some = decoder.read(&mut picture)?;
        }
        let mut count = 0;
        while some && begins(&picture) | (count > 0) {
            each(count, &picture)?;
            count += 1;
            if count == self.frames {
                return Ok(());
            }
            some = decoder.read(&mut picture)?;
        }
        let Self { start, frames, .. } = self;
        Err(Error::Unusable {
            path: probe.path.clone(),
            problem: format!(
                "{count} pictures instead of {frames} could be decoded from {start} s"
            ),
        })
    }
}
