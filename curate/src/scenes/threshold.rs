//! Fades: scenes that end in black (or white) and begin from it.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Detector, FilterMode, Length, Position, Stats, flash::FlashFilter};
use crate::{
    Error, Result,
    media::FrameRate,
    range::{Checked, within},
};

/// What a picture fades to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FadeMethod {
    /// To black: faded out below the threshold.
    #[default]
    Floor,
    /// To white: faded out from the threshold on.
    Ceiling,
}

/// Options of the threshold detector. The defaults are those of PySceneDetect's program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdConfig {
    /// Mean of all red, green and blue values at which a picture counts as faded out, 0 to 255; a
    /// fraction is dropped. Default 12.
    pub threshold: f64,
    /// Where between fade-out and fade-in the cut is put: -1 at the fade-out, 0 in the middle, 1 at
    /// the fade-in. Default 0.
    pub fade_bias: f64,
    /// A video that ends faded out gets a last cut at its fade-out. Default true.
    pub add_final_scene: bool,
    /// What a picture fades to.
    pub method: FadeMethod,
    /// Shortest time faded out that counts. Default 0.1 s.
    pub min_out_len: Length,
}

impl Default for ThresholdConfig {
    fn default() -> Self {
        Self {
            threshold: 12.0,
            fade_bias: 0.0,
            add_final_scene: true,
            method: FadeMethod::default(),
            min_out_len: Length::Seconds(0.1),
        }
    }
}

impl ThresholdConfig {
    pub(super) fn check(&self) -> Checked {
        within("threshold", self.threshold, 0.0..=256.0)?;
        within("fade_bias", self.fade_bias, -1.0..=1.0)
    }

    /// The detector; fades within `min_scene_len` frames of the one before are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for an option out of its range.
    pub fn init(&self, min_scene_len: u64, rate: FrameRate) -> Result<ThresholdDetector> {
        self.check().map_err(Error::Request)?;
        Ok(ThresholdDetector {
            min_out_len: self.min_out_len.frames(rate),
            config: self.clone(),
            filter: FlashFilter::new(FilterMode::Suppress, min_scene_len),
            faded_out: None,
            out: Vec::new(),
        })
    }
}

/// Finds fades by the mean brightness. It sees a cut at the fade-in.
#[derive(Debug)]
pub struct ThresholdDetector {
    config: ThresholdConfig,
    min_out_len: u64,
    /// Fade-ins that follow each other too closely make no cut.
    filter: FlashFilter,
    /// Whether the last picture was faded out; `None` before the first.
    faded_out: Option<bool>,
    /// The pictures since the last fade-out.
    out: Vec<Position>,
}

impl ThresholdDetector {
    fn is_out(&self, mean: f64) -> bool {
        let below = mean < self.config.threshold.trunc();
        match self.config.method {
            FadeMethod::Floor => below,
            FadeMethod::Ceiling => !below,
        }
    }

    /// The cut of a fade that began with the first of `out` and ended at `fade_in`.
    fn cut(&self, fade_in: Position) -> Option<Position> {
        let fade_out = *self.out.first()?;
        let (from, to) = (fade_out.frame_number(), fade_in.frame_number());
        let share = (1.0 + self.config.fade_bias) / 2.0;
        let frame = from + ((to - from) as f64 * share).round_ties_even() as u64;
        let pictures = self.out.iter().chain([&fade_in]);
        pictures.copied().find(|p| p.frame_number() >= frame)
    }
}

impl Detector for ThresholdDetector {
    fn metrics(&self) -> Vec<String> {
        vec!["average_rgb".into()]
    }

    fn process(
        &mut self,
        position: Position,
        picture: &RgbImage,
        stats: Option<&mut Stats>,
    ) -> Option<Position> {
        let values = picture.as_raw();
        let sum: u64 = values.iter().map(|&value| u64::from(value)).sum();
        let mean = sum as f64 / values.len() as f64;
        if let Some(stats) = stats {
            stats.set(position, "average_rgb", mean);
        }
        let is_out = self.is_out(mean);
        let was_out = self.faded_out.replace(is_out);
        let long = |&out: &Position| position.frames_since(out) >= self.min_out_len;
        let fades_in = !is_out && was_out == Some(true) && self.out.first().is_some_and(long);
        let fade_in = self.filter.filter(position, fades_in);
        if is_out {
            self.out.push(position);
            return None;
        }
        let cut = fade_in.and_then(|fade_in| self.cut(fade_in));
        self.out.clear();
        cut
    }

    fn waiting(&self) -> Option<Position> {
        self.out.first().copied()
    }

    fn finish(&mut self, last: Position) -> Option<Position> {
        let fade_out = *self.out.first()?;
        let counts = self.config.add_final_scene
            && self.filter.filter(last, true).is_some()
            && last.next().frames_since(fade_out) >= self.min_out_len;
        counts.then_some(fade_out)
    }
}
