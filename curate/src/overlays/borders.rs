//! Plain margins around the picture: letterbox, pillarbox, frames.

use serde::{Deserialize, Serialize};

use crate::Frame;

/// Margins that are plain over the whole clip, in pixels of the pictures looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Borders {
    /// Width of the margin on the left.
    pub left: u32,
    /// Height of the margin at the top.
    pub top: u32,
    /// Width of the margin on the right.
    pub right: u32,
    /// Height of the margin at the bottom.
    pub bottom: u32,
}

impl Borders {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Colours up to this level count as black.
const BLACK: u8 = 32;
/// A margin on one side alone may vary by no more than this.
const STEADY: u8 = 6;
/// A margin on one side alone may be no more than this part of the picture.
const SLIM: usize = 5;
/// Narrower margins are not looked for: reducing the picture blurs them.
const NARROWEST: usize = 2;

/// The margins of a clip. A margin is a strip of one colour, within `tolerance`, that ends in a
/// straight line: along most of its length the first pixels beyond it differ at some time. A
/// picture that is dark at its edge seldom ends so. A margin on one side alone has to be black.
pub(super) fn find(frames: &[Frame], tolerance: u8) -> Borders {
    let Some(extremes) = Extremes::of(frames) else {
        return Borders::default();
    };
    let [left, right, top, bottom] = [Side::Left, Side::Right, Side::Top, Side::Bottom]
        .map(|side| extremes.margin(side, tolerance));
    let [left, right] = agree(left, right, tolerance);
    let [top, bottom] = agree(top, bottom, tolerance);
    Borders {
        left,
        top,
        right,
        bottom,
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
    Top,
    Bottom,
}

/// A plain strip along a side.
struct Margin {
    depth: usize,
    color: [u8; 3],
    /// Whether it is free of noise.
    steady: bool,
    /// Whether it takes only a small part of the picture.
    slim: bool,
}

/// The depths of opposite margins. Two confirm each other if they have one colour and both are
/// black or free of noise; one alone has to be black, free of noise and slim.
fn agree(one: Option<Margin>, other: Option<Margin>, tolerance: u8) -> [u32; 2] {
    let black = |margin: &Margin| margin.color.iter().all(|&c| c <= BLACK);
    if let (Some(a), Some(b)) = (&one, &other) {
        let alike = a
            .color
            .iter()
            .zip(b.color)
            .all(|(&a, b)| a.abs_diff(b) <= tolerance);
        if alike && (a.steady && b.steady || black(a) && black(b)) {
            return [a.depth as u32, b.depth as u32];
        }
    }
    [one, other].map(|margin| match margin {
        Some(margin) if margin.steady && margin.slim && black(&margin) => margin.depth as u32,
        _ => 0,
    })
}

/// The least and largest value of every pixel over a clip, interleaved RGB.
struct Extremes {
    width: usize,
    height: usize,
    least: Vec<u8>,
    largest: Vec<u8>,
}

impl Extremes {
    fn of(frames: &[Frame]) -> Option<Self> {
        let (first, others) = frames.split_first()?;
        let mut extremes = Self {
            width: first.picture.width() as usize,
            height: first.picture.height() as usize,
            least: first.picture.as_raw().clone(),
            largest: first.picture.as_raw().clone(),
        };
        for frame in others {
            let picture = frame.picture.as_raw();
            let least = extremes.least.iter_mut().zip(picture);
            least.for_each(|(least, &value)| *least = (*least).min(value));
            let largest = extremes.largest.iter_mut().zip(picture);
            largest.for_each(|(largest, &value)| *largest = (*largest).max(value));
        }
        Some(extremes)
    }

    /// Length of a side, and how far it is to the opposite one.
    fn size(&self, side: Side) -> (usize, usize) {
        match side {
            Side::Left | Side::Right => (self.height, self.width),
            Side::Top | Side::Bottom => (self.width, self.height),
        }
    }

    /// Index of the pixel at `along` the side, `depth` into the picture.
    fn pixel(&self, side: Side, along: usize, depth: usize) -> usize {
        let (x, y) = match side {
            Side::Left => (depth, along),
            Side::Right => (self.width - 1 - depth, along),
            Side::Top => (along, depth),
            Side::Bottom => (along, self.height - 1 - depth),
        };
        y * self.width + x
    }

    /// Whether the pixel stays within `tolerance` of a colour.
    fn is_plain(&self, pixel: usize, color: [u8; 3], tolerance: u8) -> bool {
        (0..3).all(|c| {
            self.largest[3 * pixel + c] <= color[c].saturating_add(tolerance)
                && self.least[3 * pixel + c] >= color[c].saturating_sub(tolerance)
        })
    }

    /// The median colour of the outermost pixels.
    fn color(&self, side: Side) -> [u8; 3] {
        let (length, _) = self.size(side);
        [0, 1, 2].map(|c| {
            let middle = |along| {
                let value = 3 * self.pixel(side, along, 0) + c;
                self.least[value].midpoint(self.largest[value])
            };
            let mut values: Vec<u8> = (0..length).map(middle).collect();
            *values.select_nth_unstable(length / 2).1
        })
    }

    /// The plain strip along a side, if it ends in a straight line.
    fn margin(&self, side: Side, tolerance: u8) -> Option<Margin> {
        let (length, across) = self.size(side);
        let color = self.color(side);
        // How many lines across the margin have plain pixels up to a depth. Text in the margin makes
        // several ends in one line.
        let mut ends = vec![0_usize; across / 2];
        let mut ending = 0;
        for along in 0..length {
            let (mut plain, mut ended) = (0, false);
            for (depth, ends) in ends.iter_mut().enumerate() {
                if self.is_plain(self.pixel(side, along, depth), color, tolerance) {
                    plain += 1;
                    continue;
                }
                *ends += usize::from(plain >= NARROWEST);
                (plain, ended) = (0, true);
            }
            ending += usize::from(ended);
        }
        // A soft end is spread over some pixels.
        let soft = 3.max(across / 60);
        let sums = ends.windows(soft).map(|ends| ends.iter().sum::<usize>());
        let (start, most) = sums.enumerate().max_by_key(|&(start, sum)| (sum, start))?;
        let straight = 2 * most >= ending && 10 * ending >= 3 * length;
        let depth = (start..start + soft)
            .rev()
            .find(|&depth| 20 * ends[depth] > most)?;
        let plain = |tolerance| self.share_plain(side, start.max(1), color, tolerance) >= 0.7;
        (straight && depth >= NARROWEST && plain(tolerance)).then(|| Margin {
            depth,
            color,
            steady: plain(STEADY),
            slim: SLIM * depth <= across,
        })
    }

    /// Share of the pixels up to a depth that stay within `tolerance` of a colour.
    fn share_plain(&self, side: Side, depth: usize, color: [u8; 3], tolerance: u8) -> f32 {
        let (length, _) = self.size(side);
        let pixels = (0..length).flat_map(|along| (0..depth).map(move |depth| (along, depth)));
        let plain = pixels.filter(|&(along, depth)| {
            self.is_plain(self.pixel(side, along, depth), color, tolerance)
        });
        plain.count() as f32 / (length * depth) as f32
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgb, RgbImage};

    use super::*;

    /// Stripes that move, within margins of a colour.
    fn clip(margins: Borders, color: [u8; 3]) -> Vec<Frame> {
        let picture = |shift: u32| {
            RgbImage::from_fn(160, 90, |x, y| {
                let across = (margins.left..160 - margins.right).contains(&x);
                let inside = across && (margins.top..90 - margins.bottom).contains(&y);
                let stripe = (x + 2 * y + 5 * shift) / 12 % 2;
                Rgb(if inside {
                    [60 + 120 * stripe as u8; 3]
                } else {
                    color
                })
            })
        };
        let frame = |i: u32| Frame {
            index: i.into(),
            time: f64::from(i) / 8.0,
            picture: picture(i),
        };
        (0..8).map(frame).collect()
    }

    fn borders([left, top, right, bottom]: [u32; 4]) -> Borders {
        Borders {
            left,
            top,
            right,
            bottom,
        }
    }

    #[test]
    fn margins_are_measured_to_the_pixel() {
        for sides in [[0, 12, 0, 13], [30, 0, 30, 0], [9, 7, 8, 6], [0; 4]] {
            let expected = borders(sides);
            assert_eq!(find(&clip(expected, [0; 3]), 14), expected);
            assert_eq!(find(&clip(expected, [20, 60, 200]), 14), expected);
        }
    }

    #[test]
    fn one_margin_alone_has_to_be_black() {
        let below = borders([0, 0, 0, 10]);
        assert_eq!(find(&clip(below, [4; 3]), 14), below);
        assert_eq!(find(&clip(below, [20, 60, 200]), 14), borders([0; 4]));
    }

    #[test]
    fn a_crooked_dark_edge_is_no_margin() {
        let mut frames = clip(borders([0; 4]), [0; 3]);
        for frame in &mut frames {
            for (x, y, pixel) in frame.picture.enumerate_pixels_mut() {
                if y < 8 + x / 8 {
                    *pixel = Rgb([0; 3]);
                }
            }
        }
        assert_eq!(find(&frames, 14), borders([0; 4]));
    }
}
