//! Blur: what a picture loses by further blurring.

use image::GrayImage;

/// Taps of the box that blurs again, as published.
const BOX: usize = 9;

/// The blur effect, from 0 (sharp) to 1 (blurred, or nothing to see): Crété-Roffet et al., *The blur
/// effect: perception and estimation with a new no-reference perceptual blur metric* (SPIE 2007).
///
/// Differences between neighbours lose much by blurring where the picture is sharp and little where
/// it is blurred already, whatever its contrast. It also tells a picture that was enlarged. The
/// larger value of the two axes counts. Noise passes for sharpness: see [`super::noise`].
pub fn blur(picture: &GrayImage) -> f64 {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if width <= BOX || height <= BOX {
        return 1.0;
    }
    let rows: Vec<&[u8]> = picture.as_raw().chunks_exact(width).collect();
    let mut across = Loss::default();
    for row in &rows {
        across.add(&row[HALF + 1..], &row[HALF..], &row[BOX..], row);
    }
    let mut down = Loss::default();
    for five in rows.windows(BOX + 1) {
        down.add(five[HALF + 1], five[HALF], five[BOX], five[0]);
    }
    across.remaining().max(down.remaining())
}

const HALF: usize = BOX / 2;

/// Differences between neighbours, and what blurring takes from them.
#[derive(Default)]
struct Loss {
    /// In ninths of a gray level.
    before: u64,
    lost: u64,
}

impl Loss {
    /// Adds the neighbours `after` and `before`. The difference of the blurred picture at the same
    /// place is that of the samples that enter and leave the box, divided by its size.
    fn add(&mut self, after: &[u8], before: &[u8], entering: &[u8], leaving: &[u8]) {
        let count = entering.len();
        let pairs = after[..count].iter().zip(&before[..count]);
        let ends = entering.iter().zip(&leaving[..count]);
        let (mut total, mut lost) = (0u32, 0u32);
        for ((after, before), (entering, leaving)) in pairs.zip(ends) {
            let difference = BOX as u32 * u32::from(after.abs_diff(*before));
            total += difference;
            lost += difference.saturating_sub(u32::from(entering.abs_diff(*leaving)));
        }
        self.before += u64::from(total);
        self.lost += u64::from(lost);
    }

    /// The share that blurring leaves.
    fn remaining(&self) -> f64 {
        match self.before {
            0 => 1.0,
            before => 1.0 - self.lost as f64 / before as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn along_x(values: &[u8]) -> f64 {
        let mut loss = Loss::default();
        loss.add(&values[HALF + 1..], &values[HALF..], &values[BOX..], values);
        loss.remaining()
    }

    #[test]
    fn closed_forms() {
        // A step loses 8 of its 9 ninths.
        let step: Vec<u8> = (0..40).map(|x| if x < 20 { 0 } else { 180 }).collect();
        assert!((along_x(&step) - 1.0 / 9.0).abs() < 1e-12);
        // A ramp loses nothing: it is as smooth as the box makes it.
        let ramp: Vec<u8> = (0..40).map(|x| 5 * x).collect();
        assert_eq!(along_x(&ramp), 1.0);
        // A line of one pixel: the box is flat where its sides were.
        let line: Vec<u8> = (0..40).map(|x| if x == 20 { 90 } else { 0 }).collect();
        assert_eq!(along_x(&line), 0.0);
        // The blurred axis counts, as does nothing to see.
        let picture =
            GrayImage::from_fn(40, 40, |x, y| [step[x as usize] / 2 + 2 * y as u8].into());
        assert_eq!(blur(&picture), 1.0);
        assert_eq!(blur(&GrayImage::new(5, 5)), 1.0);
    }
}
