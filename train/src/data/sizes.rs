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

    /// The duration for a clip of `frames` frames: 1, which is for images only, or the longest of
    /// the others that a video has.
    ///
    /// # Errors
    /// Why there is none, in words about `cache --frames`.
    pub fn frames_for(&self, frames: usize, is_image: bool) -> Result<usize, String> {
        if is_image {
            let found = self.frames.contains(&1).then_some(1);
            return found.ok_or_else(|| "it is an image, and --frames has no 1".into());
        }
        let videos: Vec<usize> = self.frames.iter().copied().filter(|&n| n > 1).collect();
        let Some(shortest) = videos.first() else {
            return Err("it is a video, and --frames has only 1, which is for images".into());
        };
        if let Some(longest) = videos.iter().rfind(|&&n| n <= frames) {
            return Ok(*longest);
        }
        let mut why =
            format!("too short: {frames} frames, the shortest video bucket is {shortest}");
        // The longest of the form 4 k + 1.
        let own = frames.saturating_sub(1) / 4 * 4 + 1;
        if own > 1 {
            let mut all = self.frames.clone();
            all.push(own);
            all.sort_unstable();
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            why += &format!("; --frames {} would take it", all.join(","));
        }
        Err(why)
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
    fn videos_never_become_images() {
        let refused = |durations: &[usize], frames, is_image| {
            let sizes = ClipSizes::new([64, 64], durations, false);
            sizes.frames_for(frames, is_image).unwrap_err()
        };
        assert_eq!(
            refused(&[129, 1], 101, false),
            "too short: 101 frames, the shortest video bucket is 129; --frames 1,101,129 would take it"
        );
        assert_eq!(
            refused(&[1, 9, 5], 4, false),
            "too short: 4 frames, the shortest video bucket is 5"
        );
        assert!(refused(&[1], 101, false).contains("only 1"));
        assert!(refused(&[33], 1, true).contains("no 1"));
    }

    #[test]
    fn clips_go_to_the_nearest_ratio_and_the_longest_duration_they_fill() {
        let sizes = ClipSizes::new([544, 960], &[1, 129, 33], true);
        assert_eq!(sizes.size_for(1080, 1920), [544, 960]);
        assert_eq!(sizes.size_for(1920, 1080), [960, 544]);
        let [h, w] = sizes.size_for(700, 701);
        assert_eq!(h, w);
        assert!((h * w).abs_diff(544 * 960) < 40_000, "{h}x{w}");
        assert_eq!(sizes.frames_for(200, false), Ok(129));
        assert_eq!(sizes.frames_for(129, false), Ok(129));
        assert_eq!(sizes.frames_for(128, false), Ok(33));
        assert_eq!(sizes.frames_for(33, false), Ok(33));
        assert_eq!(sizes.frames_for(1, true), Ok(1));
        assert_eq!(
            ClipSizes::new([64, 48], &[17], false).size_for(9, 16),
            [64, 48]
        );
    }
}
