//! Cuts by perceptual hashes.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::{Detector, FilterMode, Position, Stats, flash::FlashFilter};
use crate::{
    Error, Result,
    range::{Checked, within},
};

/// Options of the hash detector. The defaults are PySceneDetect's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HashConfig {
    /// Share of differing bits from which on a picture begins a new scene, 0 to 1. Default 0.35.
    pub threshold: f64,
    /// Side of the square of frequencies that make the hash, 1 to 256. Default 8.
    pub size: usize,
    /// How many times more frequencies are computed than kept, in either direction, 1 to 256. Times
    /// `size` at most 1024. Default 2.
    pub lowpass: usize,
}

impl Default for HashConfig {
    fn default() -> Self {
        Self {
            threshold: 0.35,
            size: 8,
            lowpass: 2,
        }
    }
}

impl HashConfig {
    pub(super) fn check(&self) -> Checked {
        within("threshold", self.threshold, 0.0..=1.0)?;
        within("size", self.size, 1..=256)?;
        within("lowpass", self.lowpass, 1..=256)?;
        within("size * lowpass", self.size * self.lowpass, 1..=1024)
    }

    /// The detector; cuts closer than `min_scene_len` frames to the one before are dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Request`] for an option out of its range.
    pub fn init(&self, min_scene_len: u64) -> Result<HashDetector> {
        self.check().map_err(Error::Request)?;
        let Self { size, lowpass, .. } = *self;
        Ok(HashDetector {
            metric: format!("hash_dist [size={size} lowpass={lowpass}]"),
            threshold: self.threshold,
            hasher: Hasher::new(size, size * lowpass),
            last_hash: None,
            filter: FlashFilter::new(FilterMode::Suppress, min_scene_len),
        })
    }
}

/// Finds cuts between pictures whose coarse structure differs.
#[derive(Debug)]
pub struct HashDetector {
    metric: String,
    threshold: f64,
    hasher: Hasher,
    last_hash: Option<Vec<bool>>,
    filter: FlashFilter,
}

impl Detector for HashDetector {
    fn metrics(&self) -> Vec<String> {
        vec![self.metric.clone()]
    }

    fn process(
        &mut self,
        position: Position,
        picture: &RgbImage,
        stats: Option<&mut Stats>,
    ) -> Option<Position> {
        let hash = self.hasher.hash(picture);
        let distance = self.last_hash.as_ref().map(|last| {
            let differing = last.iter().zip(&hash).filter(|(a, b)| a != b).count();
            differing as f64 / hash.len() as f64
        });
        self.last_hash = Some(hash);
        if let (Some(stats), Some(distance)) = (stats, distance) {
            stats.set(position, &self.metric, distance);
        }
        let differs = distance.is_some_and(|distance| distance >= self.threshold);
        self.filter.filter(position, differs)
    }
}

/// The signs of the low frequencies of a shrunken grey picture.
#[derive(Debug)]
struct Hasher {
    size: usize,
    /// Side of the shrunken picture.
    side: usize,
    /// The cosines of the transform, [size, side].
    cosines: Vec<f64>,
}

impl Hasher {
    fn new(size: usize, side: usize) -> Self {
        let cosine = |i: usize| {
            let (k, n) = (i / side, i % side);
            let norm = if k == 0 { 1.0 } else { 2.0 } / side as f64;
            let angle = (2 * n + 1) as f64 * k as f64 / (2 * side) as f64;
            norm.sqrt() * (std::f64::consts::PI * angle).cos()
        };
        Self {
            size,
            side,
            cosines: (0..size * side).map(cosine).collect(),
        }
    }

    fn hash(&self, picture: &RgbImage) -> Vec<bool> {
        let (size, side) = (self.size, self.side);
        let small = shrink(picture, side);
        let peak = small.iter().copied().fold(1.0, f32::max);
        let rows = |k: usize| &self.cosines[k * side..][..side];
        // Along rows [side, size], then along columns [size, size].
        let across: Vec<f64> = (0..side * size)
            .map(|i| {
                let row = &small[i / size * side..][..side];
                let terms = row.iter().zip(rows(i % size));
                terms.map(|(&v, cosine)| f64::from(v / peak) * cosine).sum()
            })
            .collect();
        let mut frequencies: Vec<f64> = (0..size * size)
            .map(|i| {
                let column = across.iter().skip(i % size).step_by(size);
                column
                    .zip(rows(i / size))
                    .map(|(v, cosine)| v * cosine)
                    .sum()
            })
            .collect();
        // What is zero but for rounding is zero: an even picture has one frequency only.
        for frequency in &mut frequencies {
            if frequency.abs() < 1e-6 {
                *frequency = 0.0;
            }
        }
        let median = median(&frequencies);
        frequencies.iter().map(|&f| f > median).collect()
    }
}

/// The mean of the two middle values where their number is even.
fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0
}

/// OpenCV's grey picture resized to `side` x `side` with `INTER_AREA`: each value the mean of what
/// it covers, rounded. As there, shares below a thousandth of a pixel count as none, and where all
/// shares are whole the sum is divided once: half a level rounds as it does there.
fn shrink(picture: &RgbImage, side: usize) -> Vec<f32> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let whole = width % side == 0 && height % side == 0;
    let covered = |i: usize, source: usize| -> Vec<(usize, f32)> {
        let shares = shares(i, side, source);
        let weight = |(i, share)| (i, if whole { 1.0 } else { share });
        shares.into_iter().map(weight).collect()
    };
    let scale = match whole {
        true => 1.0 / ((width / side) * (height / side)) as f32,
        false => 1.0,
    };
    let columns: Vec<_> = (0..side).map(|x| covered(x, width)).collect();
    let mut small = vec![0.0f32; side * side];
    let mut grey = vec![0.0f32; width];
    for (y, target) in small.chunks_exact_mut(side).enumerate() {
        for (row, share) in covered(y, height) {
            let pixels = &picture.as_raw()[3 * row * width..];
            for (grey, rgb) in grey.iter_mut().zip(pixels.chunks_exact(3)) {
                let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(u32::from);
                *grey = ((9798 * r + 19235 * g + 3735 * b + (1 << 14)) >> 15) as f32;
            }
            for (target, columns) in target.iter_mut().zip(&columns) {
                let sum: f32 = columns.iter().map(|&(x, share)| grey[x] * share).sum();
                *target += sum * share;
            }
        }
        target
            .iter_mut()
            .for_each(|v| *v = (*v * scale).round_ties_even());
    }
    small
}

/// The pixels of `source` that pixel `index` of `target` covers, and their shares.
fn shares(index: usize, target: usize, source: usize) -> Vec<(usize, f32)> {
    let scale = source as f64 / target as f64;
    let (from, to) = (index as f64 * scale, (index + 1) as f64 * scale);
    let covered = from as usize..(to.ceil() as usize).min(source);
    let share = |i: usize| to.min((i + 1) as f64) - from.max(i as f64);
    covered
        .map(|i| (i, share(i)))
        .filter(|&(_, share)| share > 1e-3)
        .map(|(i, share)| (i, (share / (to - from)) as f32))
        .collect()
}
