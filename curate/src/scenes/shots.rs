//! From decoded pictures to scenes.

use std::ops::ControlFlow;

use super::{Config, Detector, Position, Scene, Stats, Transition, TransitionFinder, list};
use crate::{
    Error, Result,
    media::{DecodeOptions, Decoder, Downscale, FrameRate, Picture, Probe},
};
use image::RgbImage;

/// The shots of a video.
#[derive(Debug, Clone, PartialEq)]
pub struct Shots {
    /// In order, each beginning where the one before ends, but for transitions that were asked for:
    /// they are left out. None for a video without pictures.
    pub scenes: Vec<Scene>,
    /// What the detector measured, where it was asked for.
    pub stats: Option<Stats>,
    /// Dissolves and fades, where they were asked for.
    pub transitions: Vec<Transition>,
    /// What stopped the decoder early, if something did: the scenes are those up to there.
    pub problem: Option<String>,
}

/// Runs a detector on decoded pictures, each reduced first so that its longer side has 256 pixels.
pub struct ShotDetector {
    detector: Box<dyn Detector>,
    downscale: Downscale,
    reduced: RgbImage,
    rate: FrameRate,
    /// Least pictures of a scene.
    least: u64,
    stats: Option<Stats>,
    transitions: Option<Box<dyn TransitionFinder>>,
    found: Vec<Transition>,
    cuts: Vec<Position>,
    ends: Option<(Position, Position)>,
}

impl ShotDetector {
    /// For pictures of a video with this rate.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for an option out of its range.
    pub fn new(config: &Config, rate: FrameRate) -> Result<Self> {
        Ok(Self {
            detector: config.init(rate)?,
            downscale: Downscale::default(),
            reduced: RgbImage::default(),
            rate,
            least: config.min_scene_len.frames(rate),
            stats: None,
            transitions: None,
            found: Vec::new(),
            cuts: Vec::new(),
            ends: None,
        })
    }

    /// Keeps what the detector measures; this takes time for edges and memory for each picture.
    pub fn with_stats(mut self) -> Self {
        self.stats = Some(Stats::new(self.detector.metrics()));
        self
    }

    /// Looks for gradual transitions as well, and leaves them out of the scenes.
    pub fn with_transitions(mut self, finder: Box<dyn TransitionFinder>) -> Self {
        self.transitions = Some(finder);
        self
    }

    /// Looks at the next picture; a cut that became certain with it, at this picture or before.
    pub fn process(&mut self, picture: &Picture) -> Option<Position> {
        let position = Position::new(picture.index, picture.time, self.rate);
        let first = self.ends.map_or(position, |(first, _)| first);
        self.ends = Some((first, position));
        let (width, height) = reduced_size(picture.width(), picture.height());
        if self.reduced.dimensions() != (width, height) {
            self.reduced = RgbImage::new(width, height);
        }
        self.downscale.run(picture, &mut self.reduced);
        let cut = self
            .detector
            .process(position, &self.reduced, self.stats.as_mut());
        self.cuts.extend(cut);
        if let Some(transitions) = &mut self.transitions {
            let found = transitions.process(position, &self.reduced);
            self.found.extend(found);
        }
        cut
    }

    /// A picture before which the detector may yet find a cut, however late; see
    /// [`Detector::waiting`].
    pub fn waiting(&self) -> Option<Position> {
        self.detector.waiting()
    }

    /// The reduced picture that the detector saw last.
    pub fn reduced(&self) -> &RgbImage {
        &self.reduced
    }

    /// Decodes a file and finds its shots. `progress` hears the number of pictures so far and can
    /// end the video there.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] where the file has no picture that can be decoded. A later failure ends
    /// the video and is told in [`Shots::problem`].
    pub fn run(
        mut self,
        probe: &Probe,
        options: &DecodeOptions,
        mut progress: impl FnMut(u64) -> ControlFlow<()>,
    ) -> Result<Shots> {
        let mut decoder = Decoder::open(probe, options)?;
        let mut picture = Picture::default();
        let problem = loop {
            match decoder.read(&mut picture) {
                Ok(true) => {
                    self.process(&picture);
                    if progress(picture.index + 1).is_break() {
                        break None;
                    }
                }
                Ok(false) => break None,
                Err(Error::Unusable { problem, .. }) if self.ends.is_some() => break Some(problem),
                Err(error) => return Err(error),
            }
        };
        let shots = self.finish();
        Ok(Shots { problem, ..shots })
    }

    /// The scenes, after the last picture.
    pub fn finish(mut self) -> Shots {
        let mut scenes = Vec::new();
        if let Some(mut transitions) = self.transitions {
            self.found.extend(transitions.finish());
        }
        if let Some((first, last)) = self.ends {
            self.cuts.extend(self.detector.finish(last));
            self.cuts.sort_by_key(|cut| cut.micros);
            self.cuts.dedup();
            scenes = list::scenes(first, &self.cuts, last.next());
            scenes = list::without(scenes, &self.found, self.least);
        }
        Shots {
            scenes,
            stats: self.stats,
            transitions: self.found,
            problem: None,
        }
    }
}

/// PySceneDetect's rule: nothing below 256 pixels, else the longer side becomes 256.
fn reduced_size(width: u32, height: u32) -> (u32, u32) {
    let longer = width.max(height);
    if longer <= 256 {
        return (width, height);
    }
    let factor = f64::from(longer) / 256.0;
    let side = |side: u32| ((f64::from(side) / factor).round_ties_even() as u32).max(1);
    (side(width), side(height))
}

/// Finds the shots of a file.
///
/// # Errors
///
/// [`Error::Unusable`] where the file has no picture that can be decoded, [`Error::Request`] for an
/// option out of its range.
pub fn detect(probe: &Probe, config: &Config, options: &DecodeOptions) -> Result<Shots> {
    let detector = ShotDetector::new(config, probe.video()?.rate)?;
    detector.run(probe, options, |_| ControlFlow::Continue(()))
}
