//! The flash filter: cuts that follow each other too closely.

use serde::{Deserialize, Serialize};

use super::Position;

/// What becomes of cuts closer together than the minimum length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FilterMode {
    /// A burst of cuts is merged into its last one.
    #[default]
    Merge,
    /// The first cut of a burst counts, those within the minimum length after it do not.
    Suppress,
}

/// Lets through what is far enough from the cut before it.
///
/// As in PySceneDetect, a cut within the minimum length of the start is dropped, and a burst that
/// is still open at the end of the video is lost.
#[derive(Debug)]
pub(super) struct FlashFilter {
    mode: FilterMode,
    /// Minimum length in frames.
    length: u64,
    /// The last picture above the threshold; at first the first picture.
    last: Option<Position>,
    /// A cut has been let through: from now on bursts are merged.
    enabled: bool,
    /// Where the burst that is being merged began.
    burst: Option<Position>,
}

impl FlashFilter {
    pub fn new(mode: FilterMode, length: u64) -> Self {
        Self {
            mode,
            length,
            last: None,
            enabled: false,
            burst: None,
        }
    }

    /// The cut that stands now that the picture at `position` is `above` the threshold or not.
    pub fn filter(&mut self, position: Position, above: bool) -> Option<Position> {
        if self.length == 0 {
            return above.then_some(position);
        }
        let last = *self.last.get_or_insert(position);
        let far = position.frames_since(last) >= self.length;
        match self.mode {
            FilterMode::Suppress => {
                let cut = (above && far).then_some(position);
                self.last = cut.or(self.last);
                cut
            }
            FilterMode::Merge => self.merge(position, above, far, last),
        }
    }

    fn merge(
        &mut self,
        position: Position,
        above: bool,
        far: bool,
        last: Position,
    ) -> Option<Position> {
        if above {
            self.last = Some(position);
        }
        if let Some(start) = self.burst {
            if far && !above && last.frames_since(start) >= self.length {
                self.burst = None;
                return Some(last);
            }
            return None;
        }
        if !above {
            return None;
        }
        if far {
            self.enabled = true;
            return Some(position);
        }
        if self.enabled {
            self.burst = Some(position);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::FrameRate;

    /// Cuts among 100 pictures, from pictures above the threshold.
    fn cuts(mode: FilterMode, length: u64, above: &[u64]) -> Vec<u64> {
        let rate = FrameRate::new(25, 1).unwrap();
        let mut filter = FlashFilter::new(mode, length);
        let positions = (0..100).map(|i| Position::new(i, i as f64 / 25.0, rate));
        positions
            .filter_map(|p| filter.filter(p, above.contains(&p.index)))
            .map(|p| p.index)
            .collect()
    }

    /// Expectations from `scenedetect.detector.FlashFilter`.
    #[test]
    fn modes() {
        use FilterMode::*;
        let bursts = [5, 20, 24, 26, 40, 60, 61, 95];
        assert_eq!(cuts(Merge, 0, &bursts), bursts);
        assert_eq!(cuts(Merge, 10, &bursts), [20, 40, 60]);
        assert_eq!(cuts(Suppress, 10, &bursts), [20, 40, 60, 95]);
        assert_eq!(cuts(Merge, 10, &[20, 25, 30, 35, 36]), [20, 36]);
        assert_eq!(cuts(Suppress, 10, &[20, 25, 30, 35, 36]), [20, 30]);
    }
}
