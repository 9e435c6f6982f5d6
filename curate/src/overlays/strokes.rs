//! The strokes of letters in a row of pixels, and what those of one line have in common.

/// A stretch of a row that is brighter than both its sides.
pub(super) struct Stroke {
    pub(super) start: usize,
    pub(super) width: usize,
    /// Its brightest level.
    peak: u8,
    /// By how much it is brighter than both sides.
    contrast: u8,
    /// That, as a share of what is between the sides and white.
    opacity: f32,
}

/// What the strokes of a line have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Look {
    /// Their level.
    Opaque,
    /// Their opacity.
    Sheer,
}

impl Look {
    /// Height of the tallest line, as a share of the picture's: words laid across it are larger than
    /// subtitles.
    pub(super) fn tallest(self) -> f32 {
        match self {
            Self::Opaque => 0.1,
            Self::Sheer => 0.16,
        }
    }

    /// How many cells the strokes of neighbouring letters are apart, in a line of the tallest.
    pub(super) fn reach(self) -> usize {
        match self {
            Self::Opaque => 2,
            Self::Sheer => 4,
        }
    }

    /// Width of the widest strokes, in a picture of this height: those of the tallest text.
    fn widest(self, height: usize) -> usize {
        ((height as f32 * self.tallest() / 4.5) as usize).max(3)
    }

    /// Whether fainter strokes are not looked at.
    fn is_faint(self, stroke: &Stroke) -> bool {
        match self {
            Self::Opaque => stroke.contrast < 50,
            Self::Sheer => stroke.contrast < 15 || stroke.opacity < 0.2,
        }
    }

    /// By how many levels strokes stand out: their median contrast less the spread of their levels.
    /// Sheer ones those over black: their median opacity less its spread, times 255; `None` where they
    /// are not of one opacity.
    pub(super) fn clearness(self, strokes: &[&Stroke]) -> Option<f32> {
        match self {
            Self::Opaque => {
                let mut peaks: Vec<u8> = strokes.iter().map(|s| s.peak).collect();
                peaks.sort_unstable();
                let mut contrasts: Vec<u8> = strokes.iter().map(|s| s.contrast).collect();
                let contrast = *contrasts.select_nth_unstable(strokes.len() / 2).1;
                // Where letters are thin, or the line changes in between, some strokes are fainter.
                let spread = peaks[peaks.len() - 1] - peaks[(peaks.len() - 1) * 3 / 8];
                Some(f32::from(contrast) - f32::from(spread))
            }
            Self::Sheer => {
                let mut opacities: Vec<f32> = strokes.iter().map(|s| s.opacity).collect();
                opacities.sort_unstable_by(f32::total_cmp);
                // Quartiles: where a letter crosses an edge of the scene, its opacity is not known.
                let quartile = |q| opacities[(opacities.len() - 1) * q / 4];
                let (middle, spread) = (quartile(2), quartile(3) - quartile(1));
                // Near 1 are opaque strokes, and highlights, which are as bright as can be.
                let is_even = middle < 0.75 && 4.0 * spread <= middle;
                is_even.then_some(255.0 * (middle - spread))
            }
        }
    }
}

/// The strokes of a row of a picture of this height: runs of pixels that are brighter, and not
/// faintly, than some pixel on the left and some pixel on the right, each at most the widest stroke
/// away.
pub(super) fn strokes(row: &[u8], height: usize, look: Look) -> Vec<Stroke> {
    let widest = look.widest(height);
    let (mut left, mut right) = (row.to_vec(), row.to_vec());
    let darken = |sides: &mut [u8], shifted: &[u8]| {
        sides
            .iter_mut()
            .zip(shifted)
            .for_each(|(side, &level)| *side = (*side).min(level));
    };
    for by in 1..=widest.min(row.len() - 1) {
        darken(&mut left[by..], row);
        darken(&mut right, &row[by..]);
    }
    let mut strokes: Vec<Stroke> = Vec::new();
    for (x, &level) in row.iter().enumerate() {
        let side = left[x].max(right[x]);
        let contrast = level - side;
        let stroke = Stroke {
            start: x,
            width: 1,
            peak: level,
            contrast,
            opacity: f32::from(contrast) / f32::from(255 - side).max(1.0),
        };
        if look.is_faint(&stroke) {
            continue;
        }
        match strokes.last_mut() {
            Some(last) if last.start + last.width == x => {
                last.width += 1;
                last.peak = last.peak.max(level);
                last.contrast = last.contrast.max(contrast);
                last.opacity = last.opacity.max(stroke.opacity);
            }
            _ => strokes.push(stroke),
        }
    }
    strokes
}
