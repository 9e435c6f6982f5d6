//! Edges that stay: how alike the pictures of a clip are in their fine structure, pixel by pixel.
//!
//! At a pixel, let `d_i` be the second differences across and down of `n` pictures, each cut to a
//! largest value so that one strong edge that passes does not outweigh the rest. Second differences
//! see sharp edges only: a blurred one would seem to stay while it moves by less than its width.
//! Of their mean square `t = Σ|d_i|² / n` all pictures share the mean product of different ones,
//! `s = (|Σ d_i|² − Σ|d_i|²) / (n (n − 1))`, to which whatever changes adds nothing on average.
//! `s / t` is the intraclass correlation (R. A. Fisher, Statistical Methods for Research Workers,
//! 1925): 1 where nothing changes, about 0 where the scene moves. Of a watermark that lets the
//! scene shine through it is in between.

use image::GrayImage;

use super::Borders;

/// The distance, in pixels, over which differences are taken.
const STEP: usize = 2;
/// Differences are cut to this, in levels.
const LARGEST: i16 = 48;
/// Edges this near to a border, in pixels, are the border's.
const BORDER: usize = 6;

/// Sums over the second differences of some pictures of one size.
#[derive(Clone)]
pub(super) struct Differences {
    width: usize,
    height: usize,
    /// Number of pictures.
    count: u32,
    across: Vec<i32>,
    down: Vec<i32>,
    /// Sums of the squared lengths.
    energy: Vec<u32>,
}

impl Differences {
    /// Of no picture yet.
    pub(super) fn new(width: u32, height: u32) -> Self {
        let pixels = width as usize * height as usize;
        Self {
            width: width as usize,
            height: height as usize,
            count: 0,
            across: vec![0; pixels],
            down: vec![0; pixels],
            energy: vec![0; pixels],
        }
    }

    /// Adds a picture. Its outermost pixels have no differences.
    pub(super) fn add(&mut self, luma: &GrayImage) {
        self.count += 1;
        let (width, luma) = (self.width, luma.as_raw());
        if width <= 2 * STEP {
            return;
        }
        let difference = |before: u8, at: u8, after: u8| {
            let [before, at, after] = [before, at, after].map(i16::from);
            i32::from((2 * at - before - after).clamp(-LARGEST, LARGEST))
        };
        for y in STEP..self.height.saturating_sub(STEP) {
            let inner = y * width + STEP..(y + 1) * width - STEP;
            let shifted = |by: isize| {
                let start = inner.start.wrapping_add_signed(by);
                &luma[start..start + inner.len()]
            };
            let (step, rows) = (STEP as isize, (STEP * width) as isize);
            let (left, right) = (shifted(-step), shifted(step));
            let (above, below) = (shifted(-rows), shifted(rows));
            let at = shifted(0);
            let across = &mut self.across[inner.clone()];
            let down = &mut self.down[inner.clone()];
            let energy = &mut self.energy[inner.clone()];
            for x in 0..at.len() {
                let dx = difference(left[x], at[x], right[x]);
                let dy = difference(above[x], at[x], below[x]);
                across[x] += dx;
                down[x] += dy;
                energy[x] += (dx * dx + dy * dy) as u32;
            }
        }
    }

    /// Adds the pictures of another.
    pub(super) fn merge(&mut self, other: &Self) {
        fn add<T: Copy + std::ops::AddAssign>(sums: &mut [T], terms: &[T]) {
            sums.iter_mut()
                .zip(terms)
                .for_each(|(sum, &term)| *sum += term);
        }
        self.count += other.count;
        add(&mut self.across, &other.across);
        add(&mut self.down, &other.down);
        add(&mut self.energy, &other.energy);
    }

    /// The product of the mean differences of two sets of pictures, summed over some pixels.
    pub(super) fn product(&self, other: &Self, pixels: &[usize]) -> f32 {
        let product = |&p: &usize| {
            self.across[p] as f32 * other.across[p] as f32
                + self.down[p] as f32 * other.down[p] as f32
        };
        pixels.iter().map(product).sum::<f32>() / (self.count * other.count).max(1) as f32
    }

    /// The edges of at least `edge` levels. Those stay a share `coherence` of whose energy is common
    /// to all pictures.
    pub(super) fn edges(&self, edge: f32, coherence: f32) -> Edges {
        let n = self.count as f32;
        let least = edge * edge;
        let mut edges = Edges {
            width: self.width,
            height: self.height,
            staying: vec![false; self.across.len()],
            moving: vec![false; self.across.len()],
        };
        for (i, &energy) in self.energy.iter().enumerate() {
            let energy = energy as f32;
            if energy < least * n {
                continue;
            }
            let [across, down] = [self.across[i] as f32, self.down[i] as f32];
            let shared = (across * across + down * down - energy) / (n * (n - 1.0)).max(1.0);
            if shared >= least && shared >= coherence * energy / n {
                edges.staying[i] = true;
            } else {
                edges.moving[i] = true;
            }
        }
        edges
    }
}

/// The edges of a set of pictures, pixel by pixel.
pub(super) struct Edges {
    pub(super) width: usize,
    pub(super) height: usize,
    /// Where an edge stays.
    pub(super) staying: Vec<bool>,
    /// Where there are edges that do not stay.
    pub(super) moving: Vec<bool>,
}

impl Edges {
    /// Forgets the edges where a border meets the picture: those stay too.
    pub(super) fn forget(&mut self, borders: &Borders) {
        let near = |at: usize, border: u32| border > 0 && at.abs_diff(border as usize) <= BORDER;
        for y in 0..self.height {
            let row = near(y, borders.top) || near(self.height - y, borders.bottom);
            for x in 0..self.width {
                if row || near(x, borders.left) || near(self.width - x, borders.right) {
                    self.staying[y * self.width + x] = false;
                    self.moving[y * self.width + x] = false;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A white disc at `x` on a black picture.
    fn disc(x: f32) -> GrayImage {
        GrayImage::from_fn(64, 48, |column, row| {
            let (dx, dy) = (column as f32 - x, row as f32 - 24.0);
            image::Luma([if dx * dx + dy * dy < 64.0 { 200 } else { 40 }])
        })
    }

    fn share_staying(pictures: impl Iterator<Item = GrayImage>) -> f32 {
        let mut differences = Differences::new(64, 48);
        pictures.for_each(|picture| differences.add(&picture));
        let edges = differences.edges(12.0, 0.5);
        let staying = edges.staying.iter().filter(|&&s| s).count();
        let moving = edges.moving.iter().filter(|&&m| m).count();
        staying as f32 / (staying + moving) as f32
    }

    #[test]
    fn what_stands_still_stays_and_what_moves_does_not() {
        assert_eq!(share_staying((0..12).map(|_| disc(32.0))), 1.0);
        assert_eq!(
            share_staying((0..12).map(|i| disc(10.0 + 4.0 * i as f32))),
            0.0
        );
    }

    #[test]
    fn merging_is_adding() {
        let [mut first, mut second, mut both] = [(); 3].map(|()| Differences::new(64, 48));
        for (i, picture) in (0..6).map(|i| (i, disc(20.0 + 3.0 * i as f32))) {
            if i < 2 {
                first.add(&picture)
            } else {
                second.add(&picture)
            }
            both.add(&picture);
        }
        first.merge(&second);
        assert_eq!(
            (first.count, first.across, first.down, first.energy),
            (both.count, both.across, both.down, both.energy)
        );
    }
}
