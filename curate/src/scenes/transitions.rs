//! Gradual transitions: dissolves and fades, which the detectors of cuts pass over.
//!
//! The middle of a dissolve is a mixture of its ends. For windows of several lengths, each ending
//! at the latest picture, four things are asked of small pictures: do the ends differ enough, does
//! the way from one to the other go straight through the pictures between, does it go evenly, and
//! do the pictures between have less fine detail than the ends? Detail mixes like noise: at equal
//! parts half of it is left. A moving camera keeps its detail.

use std::{collections::VecDeque, path::PathBuf};

use burn::tensor::Device;
use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{
    LearnedFinder, Position, TransNet,
    sketch::{Sketch, contrast, dot, likeness, place},
};
use crate::{
    Error, Result,
    media::FrameRate,
    range::{Checked, above_to, within},
};

/// What counts as a transition. All thresholds are our choice; `benches/transitions.py` tells what
/// they find and what they take for one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransitionConfig {
    /// Seconds of the shortest transition. Default 0.25.
    pub shortest: f64,
    /// Seconds of the longest window; of a longer transition the best part is found. Default 2.
    pub longest: f64,
    /// Root mean square difference of the ends, in levels of 0 to 255, from which on they can be
    /// two scenes. Default 20.
    pub min_change: f64,
    /// How far a picture may lie beside the straight way between the ends, as a share of its
    /// length. Default 0.35.
    pub max_residual: f64,
    /// How far a picture may lie before or behind its place on an even way, as a share of the
    /// whole. Default 0.25.
    pub max_lag: f64,
    /// Correlation of the ends from which on they count as one scene under another light.
    /// Default 0.75.
    pub max_likeness: f64,
    /// How far a picture's fine detail may be from that of a mixture, as a share of the greater of
    /// the ends. Default 0.25.
    pub max_detail_error: f64,
    /// Fine detail of the middle picture from which on it counts as no mixture, as a share of the
    /// mean of the ends. Default 0.8.
    pub max_detail: f64,
    /// Weights of TransNetV2, which then finds the transitions; of the numbers above only
    /// `shortest` counts.
    pub transnet: Option<PathBuf>,
}

impl Default for TransitionConfig {
    fn default() -> Self {
        Self {
            shortest: 0.25,
            longest: 2.0,
            min_change: 20.0,
            max_residual: 0.35,
            max_lag: 0.25,
            max_likeness: 0.75,
            max_detail_error: 0.25,
            max_detail: 0.8,
            transnet: None,
        }
    }
}

impl TransitionConfig {
    pub(crate) fn check(&self) -> Checked {
        within("shortest", self.shortest, above_to(0.0, 30.0))?;
        within("longest", self.longest, self.shortest..=30.0)?;
        within("min_change", self.min_change, 0.0..=255.0)?;
        within("max_residual", self.max_residual, 0.0..)?;
        within("max_lag", self.max_lag, 0.0..)?;
        within("max_likeness", self.max_likeness, -1.0..=1.0)?;
        within("max_detail_error", self.max_detail_error, 0.0..)?;
        within("max_detail", self.max_detail, 0.0..)
    }

    /// TransNetV2, if its weights are given.
    ///
    /// # Errors
    ///
    /// Where the weights cannot be loaded.
    pub fn network(&self, device: &Device) -> Result<Option<TransNet>> {
        let weights = self.transnet.as_ref();
        weights.map(|path| TransNet::load(path, device)).transpose()
    }

    /// What looks for transitions in a video of this rate: the network, if there is one.
    ///
    /// # Errors
    ///
    /// As for [`TransitionConfig::init`].
    pub fn finder(
        &self,
        rate: FrameRate,
        network: Option<&TransNet>,
    ) -> Result<Box<dyn TransitionFinder>> {
        let windows = self.init(rate)?;
        Ok(match network {
            None => Box::new(windows),
            Some(network) => {
                let shortest = windows.lengths.first().copied().unwrap_or(0);
                Box::new(LearnedFinder::new(network.clone(), shortest as u64))
            }
        })
    }

    /// The detector for a video of this rate.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for an option out of its range.
    pub fn init(&self, rate: FrameRate) -> Result<TransitionDetector> {
        self.check().map_err(Error::Request)?;
        let frames = |seconds: f64| ((seconds * rate.per_second()).round() as usize).max(3);
        let (shortest, longest) = (frames(self.shortest), frames(self.longest));
        // Steps of about 4 : 3.
        let next = |&length: &usize| Some((length + length.div_ceil(3)).min(longest));
        let mut lengths: Vec<_> = std::iter::successors(Some(shortest), next)
            .take_while(|&length| length < longest)
            .collect();
        lengths.push(longest);
        Ok(TransitionDetector {
            config: self.clone(),
            lengths,
            window: VecDeque::new(),
            positions: VecDeque::new(),
            candidates: Vec::new(),
        })
    }
}

/// What kind of transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionKind {
    /// From one scene into another.
    Dissolve,
    /// From an even surface, as a rule black, into a scene.
    FadeIn,
    /// From a scene into an even surface.
    FadeOut,
}

/// A gradual transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// What kind.
    pub kind: TransitionKind,
    /// About the last picture before it.
    pub start: Position,
    /// About the first picture after it.
    pub end: Position,
    /// The first picture that may belong to it: a transition is found to about a quarter of its
    /// length. What comes before is surely of the scene before.
    pub from: Position,
    /// The first picture that is surely of the scene after it.
    pub until: Position,
}

/// Finds gradual transitions as mixtures of the pictures around them.
#[derive(Debug)]
pub struct TransitionDetector {
    config: TransitionConfig,
    /// Lengths of windows in frames, rising.
    lengths: Vec<usize>,
    /// The last pictures, as many as the longest window and one.
    window: VecDeque<Sketch>,
    /// Where the pictures are, from before the first candidate on.
    positions: VecDeque<Position>,
    /// Possible transitions that later ones may overlap, and how good they are.
    candidates: Vec<Candidate>,
}

/// What may be a transition.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    score: f64,
    kind: TransitionKind,
    start: Position,
    end: Position,
}

/// Finds gradual transitions in pictures that come one after the other.
pub trait TransitionFinder: Send {
    /// Looks at the next picture: 8-bit RGB, of some 256 pixels on the longer side. Returns the
    /// transitions that became certain with it, in order: none of the later ones overlaps them.
    fn process(&mut self, position: Position, picture: &RgbImage) -> Vec<Transition>;

    /// After the last picture: the transitions that are left.
    fn finish(&mut self) -> Vec<Transition>;
}

impl TransitionFinder for TransitionDetector {
    fn process(&mut self, position: Position, picture: &RgbImage) -> Vec<Transition> {
        let longest = self.lengths.last().copied().unwrap_or(0);
        self.window.push_back(Sketch::new(position, picture));
        self.positions.push_back(position);
        while self.window.len() > longest + 1 {
            self.window.pop_front();
        }
        let first = self.window[0].position.index;
        let over = self.candidates.iter().all(|c| c.end.index <= first);
        let found = if over { self.settle() } else { Vec::new() };
        for &length in &self.lengths {
            if let Some(start) = self.window.len().checked_sub(length + 1) {
                self.candidates.extend(self.candidate(start, length));
            }
        }
        let starts = self.candidates.iter().map(|c| c.start.index);
        let needed = starts.fold(first, u64::min).saturating_sub(longest as u64);
        while self.positions[0].index < needed {
            self.positions.pop_front();
        }
        found
    }

    fn finish(&mut self) -> Vec<Transition> {
        if let Some(last) = self.positions.back() {
            self.positions.push_back(last.next());
        }
        self.settle()
    }
}

impl TransitionDetector {
    /// The best of the candidates that overlap, in order.
    fn settle(&mut self) -> Vec<Transition> {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut best: Vec<Candidate> = Vec::new();
        for new in candidates {
            let apart = |old: &Candidate| {
                new.end.index <= old.start.index || new.start.index >= old.end.index
            };
            if best.iter().all(apart) {
                best.push(new);
            }
        }
        best.sort_by_key(|candidate| candidate.start.index);
        best.iter().map(|best| self.transition(best)).collect()
    }

    /// With the pictures around that may belong to it.
    fn transition(&self, found: &Candidate) -> Transition {
        let Candidate {
            kind, start, end, ..
        } = *found;
        let margin = (end.index - start.index) / 4 + 2;
        let nearest = |index: u64| {
            let place = self.positions.partition_point(|p| p.index < index);
            self.positions[place.min(self.positions.len() - 1)]
        };
        Transition {
            kind,
            start,
            end,
            from: nearest(start.index.saturating_sub(margin)),
            until: nearest(end.index + margin),
        }
    }

    /// Whether the window from `start` over `length` frames is a transition, and how good a one.
    fn candidate(&self, start: usize, length: usize) -> Option<Candidate> {
        let config = &self.config;
        let (first, last) = (&self.window[start], &self.window[start + length]);
        let way: Vec<f32> = first
            .cells
            .iter()
            .zip(&last.cells)
            .map(|(a, b)| b - a)
            .collect();
        let squared = dot(&way, &way);
        let change = (squared / way.len() as f64).sqrt();
        let middle = self.window[start + length / 2].detail;
        let ends = (first.detail + last.detail) / 2.0;
        if change < config.min_change || middle > config.max_detail * ends {
            return None;
        }
        let (mut residual, mut lag) = (0.0f64, 0.0f64);
        for i in 1..length {
            let here = &self.window[start + i];
            let (along, beside) = place(&here.cells, &first.cells, &way, squared);
            residual = residual.max(beside);
            lag = lag.max((along - i as f64 / length as f64).abs());
            let share = along.clamp(0.0, 1.0);
            let mixed = (1.0 - share).powi(2) * first.detail + share.powi(2) * last.detail;
            let error = (here.detail - mixed).abs() / first.detail.max(last.detail);
            if residual > config.max_residual
                || lag > config.max_lag
                || error > config.max_detail_error
            {
                return None;
            }
        }
        let (from, to) = (contrast(&first.cells), contrast(&last.cells));
        let even = |this: f64, other: f64| this < EVEN.max(0.3 * other);
        let kind = match (even(from, to), even(to, from)) {
            (true, _) => TransitionKind::FadeIn,
            (false, true) => TransitionKind::FadeOut,
            _ if likeness(&first.cells, &last.cells) > config.max_likeness => return None,
            _ => TransitionKind::Dissolve,
        };
        Some(Candidate {
            score: change * (1.0 - residual) * (1.0 - lag),
            kind,
            start: first.position,
            end: last.position,
        })
    }
}

/// Standard deviation in levels below which a picture is an even surface; one with less than a
/// third of the other end's is on the way to one.
const EVEN: f64 = 6.0;
