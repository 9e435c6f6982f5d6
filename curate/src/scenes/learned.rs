//! Transitions as TransNetV2 sees them, found while the pictures come.

use std::collections::VecDeque;

use image::{RgbImage, imageops};

use super::{
    Position, TransNet, Transition, TransitionFinder, TransitionKind,
    transnet::{FRAME, STEP, WINDOW},
};

/// Probability from which on a picture belongs to a transition; the reference's.
const THRESHOLD: f32 = 0.5;

/// Runs [`TransNet`] over windows of pictures. A run of pictures that a transition passes over is
/// one, if it has its middle and is longer than a cut: cuts are the detectors' task. What kind it is
/// the network does not say; all count as dissolves.
#[derive(Debug)]
pub struct LearnedFinder {
    network: TransNet,
    /// Pictures of the shortest transition.
    shortest: u64,
    /// What the next window begins with: pictures at the network's size.
    pictures: VecDeque<RgbImage>,
    /// Where the pictures are that have no probability yet.
    waiting: VecDeque<Position>,
    /// The last picture with a probability.
    last: Option<Position>,
    /// The run of pictures that the last one belongs to.
    run: Option<Run>,
}

/// Pictures that a transition passes over.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// The last picture before.
    start: Position,
    pictures: u64,
    /// Whether the middle of a transition is among them.
    middle: bool,
}

impl LearnedFinder {
    /// Transitions of less than `shortest` pictures count as cuts.
    pub fn new(network: TransNet, shortest: u64) -> Self {
        Self {
            network,
            shortest,
            pictures: VecDeque::new(),
            waiting: VecDeque::new(),
            last: None,
            run: None,
        }
    }

    /// Runs the network on the next window; the transitions that end in its middle.
    fn judge(&mut self) -> Vec<Transition> {
        let window: Vec<&RgbImage> = self.pictures.iter().take(WINDOW).collect();
        let probabilities = self.network.window(&window);
        self.pictures.drain(..STEP);
        let judged = self.waiting.len().min(STEP);
        let judged: Vec<Position> = self.waiting.drain(..judged).collect();
        let pairs = judged.into_iter().zip(probabilities);
        pairs.filter_map(|(at, p)| self.follow(at, p)).collect()
    }

    /// The transition that ends before the picture `at`, if one does.
    fn follow(&mut self, at: Position, [middle, within]: [f32; 2]) -> Option<Transition> {
        let start = self.last.replace(at).unwrap_or(at);
        if middle <= THRESHOLD && within <= THRESHOLD {
            return self.end(at);
        }
        let run = self.run.get_or_insert(Run {
            start,
            pictures: 0,
            middle: false,
        });
        run.pictures += 1;
        run.middle |= middle > THRESHOLD;
        None
    }

    fn end(&mut self, end: Position) -> Option<Transition> {
        let run = self.run.take()?;
        (run.middle && run.pictures >= self.shortest).then_some(Transition {
            kind: TransitionKind::Dissolve,
            start: run.start,
            end,
            from: run.start,
            until: end,
        })
    }
}

impl TransitionFinder for LearnedFinder {
    fn process(&mut self, position: Position, picture: &RgbImage) -> Vec<Transition> {
        let (width, height) = FRAME;
        let small = imageops::resize(picture, width, height, imageops::FilterType::Triangle);
        if self.last.is_none() && self.waiting.is_empty() {
            let before = std::iter::repeat_n(&small, STEP / 2);
            self.pictures.extend(before.cloned());
        }
        self.pictures.push_back(small);
        self.waiting.push_back(position);
        match self.pictures.len() {
            WINDOW.. => self.judge(),
            _ => Vec::new(),
        }
    }

    fn finish(&mut self) -> Vec<Transition> {
        let Some(last) = self.pictures.back().cloned() else {
            return Vec::new();
        };
        let mut found = Vec::new();
        while !self.waiting.is_empty() {
            let missing = WINDOW.saturating_sub(self.pictures.len());
            let after = std::iter::repeat_n(&last, missing);
            self.pictures.extend(after.cloned());
            found.extend(self.judge());
        }
        let end = self.last.map(Position::next);
        found.extend(end.and_then(|end| self.end(end)));
        found
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{media::FrameRate, scenes::TransNetConfig};

    fn at(index: u64) -> Position {
        Position::new(
            index,
            index as f64 / 25.0,
            FrameRate {
                numerator: 25,
                denominator: 1,
            },
        )
    }

    /// The numbers of the pictures between which transitions are found.
    fn found(probabilities: &[[f32; 2]], shortest: u64) -> Vec<(u64, u64)> {
        let network = TransNetConfig::new()
            .with_filters(1)
            .with_hidden(1)
            .init(&Device::default());
        let mut finder = LearnedFinder::new(network, shortest);
        let pairs = probabilities.iter().enumerate();
        let mut found: Vec<_> = pairs
            .filter_map(|(i, &p)| finder.follow(at(i as u64), p))
            .collect();
        found.extend(finder.end(at(probabilities.len() as u64)));
        found.iter().map(|t| (t.start.index, t.end.index)).collect()
    }

    #[test]
    fn runs_with_a_middle_are_transitions() {
        let (no, within, middle) = ([0.1, 0.2], [0.3, 0.9], [0.8, 0.9]);
        assert_eq!(
            found(&[no, no, within, middle, within, no, no], 3),
            [(1, 5)]
        );
        assert_eq!(found(&[no, no, within, middle, within, no, no], 4), []);
        assert_eq!(found(&[no, within, within, within, no], 3), [], "no middle");
        assert_eq!(
            found(&[no, middle, middle, middle], 3),
            [(0, 4)],
            "to the end"
        );
        let twice = [no, middle, within, no, no, within, middle, no];
        assert_eq!(found(&twice, 2), [(0, 3), (4, 7)]);
    }
}
