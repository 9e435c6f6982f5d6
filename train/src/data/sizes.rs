//! The sizes that clips are brought to, so that many of them have the same.

/// Ratios of height to width, as numerators and denominators.
const ASPECTS: [[usize; 2]; 9] = [
    [9, 21],
    [9, 16],
    [2, 3],
    [3, 4],
    [1, 1],
    [4, 3],
    [3, 2],
    [16, 9],
    [21, 9],
];

/// Heights and widths are multiples of this: the VAE's compression times the transformer's patch.
const MULTIPLE: usize = 16;

/// The sizes that clips are cropped and cut to: one area in several aspect ratios, and several
/// durations (arXiv 2412.03603, "Model-pretraining": duration buckets by aspect ratio buckets).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipSizes {
    sizes: Vec<[usize; 2]>,
    frames: Vec<usize>,
}

impl ClipSizes {
    /// Sizes of about `height · width` pixels and the given numbers of frames, each of the form
    /// `4 k + 1`. With `any_aspect` the ratio follows each clip's own, else it is the given size.
    pub fn new([height, width]: [usize; 2], frames: &[usize], any_aspect: bool) -> Self {
        let area = (height * width) as f64;
        let size = |[h, w]: [usize; 2]| {
            let unit = (area / (h * w) as f64).sqrt();
            let extent = |n: usize| {
                let units = (n as f64 * unit / MULTIPLE as f64).round() as usize;
                units.max(1) * MULTIPLE
            };
            [extent(h), extent(w)]
        };
        let sizes = match any_aspect {
            true => ASPECTS.into_iter().map(size).collect(),
            false => vec![[height, width]],
        };
        let mut frames = frames.to_vec();
        frames.sort_unstable();
        Self { sizes, frames }
    }

    /// The height and width for a clip of these: the nearest in ratio.
    pub fn size_for(&self, height: usize, width: usize) -> [usize; 2] {
        let ratio = (height as f64 / width as f64).ln();
        let distance = |size: &[usize; 2]| ((size[0] as f64 / size[1] as f64).ln() - ratio).abs();
        let nearest = self
            .sizes
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)));
        nearest.copied().unwrap_or([height, width])
    }

    /// The most of the durations that a clip of `frames` frames has; `None` if it is too short.
    pub fn frames_for(&self, frames: usize) -> Option<usize> {
        self.frames.iter().copied().rfind(|&n| n <= frames)
    }

    /// The longest duration.
    pub fn longest(&self) -> usize {
        self.frames.last().copied().unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clips_go_to_the_nearest_ratio_and_the_longest_duration_they_fill() {
        let sizes = ClipSizes::new([544, 960], &[1, 129, 33], true);
        assert_eq!(sizes.size_for(1080, 1920), [544, 960]);
        assert_eq!(sizes.size_for(1920, 1080), [960, 544]);
        let [h, w] = sizes.size_for(700, 701);
        assert_eq!(h, w);
        assert!((h * w).abs_diff(544 * 960) < 40_000, "{h}x{w}");
        assert_eq!(sizes.frames_for(200), Some(129));
        assert_eq!(sizes.frames_for(128), Some(33));
        assert_eq!(sizes.frames_for(0), None);
        assert_eq!(
            ClipSizes::new([64, 48], &[17], false).size_for(9, 16),
            [64, 48]
        );
    }
}
