//! Reduces an image to 256 colours.

use std::collections::HashMap;

use image::{Rgb, RgbImage};

/// A palette of at most 256 colours and each pixel's index in it: the image's own colours where
/// they suffice, else the best for it, dithered.
pub(super) fn quantize(image: &RgbImage) -> (Vec<u8>, Vec<u8>) {
    exact(image).unwrap_or_else(|| {
        let palette = variance_cut(histogram(image));
        let pixels = dither(image, &palette);
        let bytes = palette.iter().flatten().map(|v| v.round() as u8).collect();
        (bytes, pixels)
    })
}

/// The image's own colours where there are no more than 256.
fn exact(image: &RgbImage) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut palette = Vec::new();
    let mut index_of: HashMap<Rgb<u8>, usize> = HashMap::new();
    let mut pixels = Vec::with_capacity(image.len() / 3);
    for pixel in image.pixels() {
        let index = *index_of.entry(*pixel).or_insert_with(|| {
            palette.extend(pixel.0);
            palette.len() / 3 - 1
        });
        pixels.push(u8::try_from(index).ok()?);
    }
    Some((palette, pixels))
}

/// Pixels of nearly the same colour.
#[derive(Clone, Copy, Default)]
struct Bin {
    sum: [f64; 3],
    count: f64,
}

impl Bin {
    fn mean(&self) -> [f64; 3] {
        self.sum.map(|sum| sum / self.count)
    }

    fn add(&mut self, other: &Self) {
        self.sum = [0, 1, 2].map(|c| self.sum[c] + other.sum[c]);
        self.count += other.count;
    }

    /// How much one channel of all pixels, taken as their mean, falls short of their energy.
    fn energy(&self, channel: usize) -> f64 {
        if self.count == 0.0 {
            0.0
        } else {
            self.sum[channel].powi(2) / self.count
        }
    }
}

/// Cells of 4 x 4 x 4 colours.
const CELLS: usize = 1 << 18;

fn cell(color: [f64; 3]) -> usize {
    let [r, g, b] = color.map(|v| v as usize >> 2);
    r << 12 | g << 6 | b
}

/// The filled cells of the colour cube.
fn histogram(image: &RgbImage) -> Vec<Bin> {
    let mut bins = vec![Bin::default(); CELLS];
    for pixel in image.pixels() {
        let color = pixel.0.map(f64::from);
        bins[cell(color)].add(&Bin {
            sum: color,
            count: 1.0,
        });
    }
    bins.retain(|bin| bin.count > 0.0);
    bins
}

/// Splits the colours where that lowers the squared error most, until there are 256 groups; gives
/// the mean of each (X. Wu, "Efficient statistical computations for optimal color quantization").
fn variance_cut(bins: Vec<Bin>) -> Vec<[f64; 3]> {
    let mut groups = vec![Split::best(bins)];
    while groups.len() < 256 {
        let Some(widest) =
            (0..groups.len()).max_by(|&a, &b| groups[a].gain.total_cmp(&groups[b].gain))
        else {
            break;
        };
        if groups[widest].gain <= 0.0 {
            break;
        }
        let mut left = groups.swap_remove(widest).sorted();
        let right = left.bins.split_off(left.position);
        groups.push(Split::best(left.bins));
        groups.push(Split::best(right));
    }
    let mean = |group: &Split| {
        let mut all = Bin::default();
        group.bins.iter().for_each(|bin| all.add(bin));
        all.mean()
    };
    groups.iter().map(mean).collect()
}

/// A group of colours and the best way to split it.
struct Split {
    bins: Vec<Bin>,
    channel: usize,
    /// The first bin of the upper part, in order of the channel.
    position: usize,
    /// How much the split lowers the squared error.
    gain: f64,
}

impl Split {
    fn best(bins: Vec<Bin>) -> Self {
        let mut best = Self {
            bins,
            channel: 0,
            position: 0,
            gain: 0.0,
        };
        for channel in 0..3 {
            best.bins
                .sort_by(|a, b| a.mean()[channel].total_cmp(&b.mean()[channel]));
            let mut upper = Bin::default();
            best.bins.iter().for_each(|bin| upper.add(bin));
            let whole = upper.energy(channel);
            let mut lower = Bin::default();
            for position in 1..best.bins.len() {
                let bin = best.bins[position - 1];
                lower.add(&bin);
                upper.add(&Bin {
                    sum: bin.sum.map(|v| -v),
                    count: -bin.count,
                });
                let gain = lower.energy(channel) + upper.energy(channel) - whole;
                if gain > best.gain {
                    (best.channel, best.position, best.gain) = (channel, position, gain);
                }
            }
        }
        best
    }

    fn sorted(mut self) -> Self {
        let channel = self.channel;
        self.bins
            .sort_by(|a, b| a.mean()[channel].total_cmp(&b.mean()[channel]));
        self
    }
}

/// The nearest colours with Floyd and Steinberg's diffusion of the error: 7/16 to the right,
/// 3/16, 5/16 and 1/16 to the row below.
fn dither(image: &RgbImage, palette: &[[f64; 3]]) -> Vec<u8> {
    let width = image.width() as usize;
    let mut nearest = vec![None; CELLS];
    let mut pixels = Vec::with_capacity(image.len() / 3);
    // Errors of this row and the next, with a margin of a pixel on both sides.
    let mut row = vec![[0f64; 3]; width + 2];
    let mut below = row.clone();
    for colors in image.chunks_exact(3 * width) {
        for (x, color) in colors.chunks_exact(3).enumerate() {
            let wanted = [0, 1, 2].map(|c| (f64::from(color[c]) + row[x + 1][c]).clamp(0.0, 255.0));
            let index = *nearest[cell(wanted)].get_or_insert_with(|| nearest_to(wanted, palette));
            for c in 0..3 {
                let error = wanted[c] - palette[usize::from(index)][c];
                row[x + 2][c] += error * 7.0 / 16.0;
                below[x][c] += error * 3.0 / 16.0;
                below[x + 1][c] += error * 5.0 / 16.0;
                below[x + 2][c] += error / 16.0;
            }
            pixels.push(index);
        }
        std::mem::swap(&mut row, &mut below);
        below.fill([0.0; 3]);
    }
    pixels
}

fn nearest_to(color: [f64; 3], palette: &[[f64; 3]]) -> u8 {
    let distance = |entry: &[f64; 3]| (0..3).map(|c| (color[c] - entry[c]).powi(2)).sum::<f64>();
    let mut best = (0, f64::INFINITY);
    for (index, entry) in palette.iter().enumerate() {
        let distance = distance(entry);
        if distance < best.1 {
            best = (index as u8, distance);
        }
    }
    best.0
}
