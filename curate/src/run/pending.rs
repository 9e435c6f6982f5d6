//! Gathers the pictures of a stream into shots, as the cuts become known.
//!
//! A detector tells of a cut some pictures after it, and one of transitions later still, so what is
//! pending is kept until no cut can come before it any more. A shot longer than the longest clip is
//! handed on in pieces: what is pending never holds more than one clip and the detectors' delay,
//! however long the film.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
};

use crate::Frame;

/// A stretch of pictures from one camera take, or a piece of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Shot<D> {
    /// The pictures' numbers.
    pub pictures: Range<u64>,
    /// Seconds of the first picture.
    pub start: f64,
    /// Seconds at which the first picture after it is shown.
    pub end: f64,
    /// The sampled pictures within.
    pub frames: Vec<Frame>,
    /// What else was taken down within, such as full-size pictures, with the pictures' numbers.
    pub details: Vec<(u64, D)>,
}

/// The pictures that belong to no finished shot yet.
pub struct Pending<D> {
    longest: f64,
    delay: u64,
    /// The first pictures of shots to come.
    cuts: BTreeSet<u64>,
    times: VecDeque<(u64, f64)>,
    frames: VecDeque<Frame>,
    details: VecDeque<(u64, D)>,
}

impl<D> Pending<D> {
    /// Nothing yet. `longest` is the length of the longest piece in seconds; cuts become known at
    /// most `delay` pictures late.
    pub fn new(longest: f64, delay: u64) -> Self {
        Self {
            longest,
            delay,
            cuts: BTreeSet::new(),
            times: VecDeque::new(),
            frames: VecDeque::new(),
            details: VecDeque::new(),
        }
    }

    /// Takes down the next picture, and what is kept of it.
    pub fn push(&mut self, index: u64, time: f64, frame: Option<Frame>, detail: Option<D>) {
        self.times.push_back((index, time));
        self.frames.extend(frame);
        self.details.extend(detail.map(|detail| (index, detail)));
    }

    /// A shot begins with this picture. Of a cut in what was handed on already nothing comes.
    pub fn cut(&mut self, first: u64) {
        self.cuts.insert(first);
    }

    /// The next shot, or a piece of the longest length, once no cut can come within it any more.
    pub fn ready(&mut self) -> Option<Shot<D>> {
        let (first, start) = *self.times.front()?;
        let (last, _) = *self.times.back()?;
        self.cuts = self.cuts.split_off(&(first + 1));
        let within = |(_, time): &(u64, f64)| time - start < self.longest;
        let long = self.times.get(self.times.partition_point(within));
        let long = long.map(|(index, _)| *index).filter(|&end| end > first);
        let end = self.cuts.first().copied().into_iter().chain(long).min()?;
        (end + self.delay < last).then(|| self.split(end)).flatten()
    }

    /// Takes out what comes before the picture `end`.
    fn split(&mut self, end: u64) -> Option<Shot<D>> {
        let count = self.times.partition_point(|(index, _)| *index < end);
        let (_, until) = *self.times.get(count)?;
        let times: Vec<_> = self.times.drain(..count).collect();
        let sampled = self.frames.partition_point(|frame| frame.index < end);
        let detailed = self.details.partition_point(|(index, _)| *index < end);
        let frames = self.frames.drain(..sampled).collect();
        let details = self.details.drain(..detailed).collect();
        let (first, start) = *times.first()?;
        Some(Shot {
            pictures: first..end,
            start,
            end: until,
            frames,
            details,
        })
    }

    /// What is left at the end of the stream, in pieces of at most the longest length, when its last
    /// picture has been shown until `end`.
    pub fn finish(mut self, end: f64) -> Vec<Shot<D>> {
        self.delay = 0;
        let mut shots = Vec::new();
        let Some(&(last, _)) = self.times.back() else {
            return shots;
        };
        self.times.push_back((last + 1, end));
        while let Some(shot) = self.ready() {
            shots.push(shot);
        }
        shots.extend(self.split(last + 1));
        shots
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    /// Ten pictures a second, every second one sampled, every fifth one detailed.
    fn push(pending: &mut Pending<u64>, index: u64) {
        let time = index as f64 / 10.0;
        let frame = index.is_multiple_of(2).then(|| Frame {
            index,
            time,
            picture: RgbImage::new(1, 1),
        });
        pending.push(index, time, frame, index.is_multiple_of(5).then_some(index));
    }

    #[test]
    fn a_cut_known_late_divides_what_is_pending() {
        let mut pending = Pending::new(100.0, 4);
        (0..15).for_each(|index| push(&mut pending, index));
        pending.cut(11);
        assert_eq!(pending.ready(), None, "a cut before it may come yet");
        (15..20).for_each(|index| push(&mut pending, index));
        let first = pending.ready().unwrap();
        assert_eq!(first.pictures, 0..11);
        assert_eq!((first.start, first.end), (0.0, 1.1));
        let sampled: Vec<u64> = first.frames.iter().map(|frame| frame.index).collect();
        assert_eq!(sampled, [0, 2, 4, 6, 8, 10]);
        assert_eq!(first.details, [(0, 0), (5, 5), (10, 10)]);
        let rest = pending.finish(2.0);
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].pictures, 11..20);
        assert_eq!((rest[0].start, rest[0].end), (1.1, 2.0));
        assert_eq!(rest[0].frames[0].index, 12);
    }

    #[test]
    fn cuts_come_in_any_order() {
        let mut pending = Pending::new(100.0, 4);
        let mut ends = Vec::new();
        for index in 0..30 {
            push(&mut pending, index);
            for (known, cuts) in [(12, [11, 14]), (15, [10, 13]), (29, [3, 40])] {
                if index == known {
                    cuts.iter().for_each(|&cut| pending.cut(cut));
                }
            }
            ends.extend(pending.ready().map(|shot| shot.pictures.end));
        }
        ends.extend(pending.finish(3.0).iter().map(|shot| shot.pictures.end));
        assert_eq!(ends, [10, 11, 13, 14, 30]);
    }

    #[test]
    fn long_shots_come_in_pieces_and_little_is_pending() {
        let mut pending = Pending::new(1.0, 3);
        let mut pieces = Vec::new();
        for index in 0..1000 {
            push(&mut pending, index);
            pieces.extend(pending.ready());
            assert!(
                pending.times.len() <= 15,
                "{} pictures are pending",
                pending.times.len()
            );
            assert!(pending.frames.len() <= 8 && pending.details.len() <= 4);
        }
        pieces.extend(pending.finish(100.0));
        assert!(
            pieces
                .iter()
                .all(|piece| piece.end - piece.start <= 1.0 + 1e-9)
        );
        let ends: Vec<u64> = pieces.iter().map(|piece| piece.pictures.end).collect();
        let starts: Vec<u64> = pieces.iter().map(|piece| piece.pictures.start).collect();
        assert_eq!(starts[0], 0);
        assert_eq!(
            starts[1..],
            ends[..ends.len() - 1],
            "nothing is lost or doubled"
        );
        assert_eq!(*ends.last().unwrap(), 1000);
    }

    #[test]
    fn an_empty_stream_has_no_shot() {
        assert_eq!(Pending::<()>::new(1.0, 3).finish(0.0), []);
    }
}
