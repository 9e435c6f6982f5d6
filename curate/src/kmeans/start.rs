//! The first centres: greedy k-means++ (Arthur and Vassilvitskii 2007), as scikit-learn does it.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use rayon::prelude::*;

use super::{Compared, nearest::Points, squared_distance};
use crate::{Result, embedding::Embeddings};

/// Points whose potentials are summed together. The order of the sums, and with it the choice, does
/// not depend on the number of threads.
const CHUNK: usize = 4096;

/// Candidates for each of so many centres: `2 + ln k`.
pub(super) fn trials(clusters: usize) -> usize {
    2 + (clusters as f64).ln() as usize
}

/// The points that become the first centres.
///
/// Each is the best of some candidates ([`trials`]), drawn with a probability that grows with the squared
/// distance to the nearest centre so far: the one that leaves the smallest sum of those distances.
pub(super) fn plus_plus(
    points: &Embeddings,
    blocks: &Points,
    clusters: usize,
    seed: u64,
    compared: &mut Compared,
) -> Result<Vec<usize>> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed);
    let squares: Vec<f32> = points
        .values()
        .par_chunks(points.width())
        .map(|row| squared_distance(row, blocks.origin()) as f32)
        .collect();

    let mut closest = vec![f32::INFINITY; points.len()];
    let mut chosen = Vec::with_capacity(clusters);
    let mut candidates = vec![rng.random_range(0..points.len())];
    loop {
        let scores = blocks.scores(&points.select(candidates.iter().copied()));
        let count = candidates.len();
        compared((points.len() * count) as u64)?;
        let potentials = potentials(&scores, count, &squares, &closest);
        let best = (0..count)
            .min_by(|&a, &b| potentials[a].total_cmp(&potentials[b]))
            .unwrap_or(0);
        chosen.push(candidates[best]);
        if chosen.len() == clusters {
            return Ok(chosen);
        }
        closest
            .par_iter_mut()
            .zip(scores.par_chunks(count))
            .zip(&squares)
            .for_each(|((closest, scores), square)| {
                *closest = closest.min((scores[best] + square).max(0.0));
            });
        candidates = draw(&closest, trials(clusters), &mut rng);
    }
}

/// For each candidate the sum of the squared distances to the nearest centre if it became one,
/// from its score for each point.
fn potentials(scores: &[f32], candidates: usize, squares: &[f32], closest: &[f32]) -> Vec<f64> {
    let chunks = scores
        .par_chunks(CHUNK * candidates)
        .zip(squares.par_chunks(CHUNK));
    let sums: Vec<Vec<f64>> = chunks
        .zip(closest.par_chunks(CHUNK))
        .map(|((scores, squares), closest)| {
            let mut sums = vec![0.0; candidates];
            let points = scores.chunks(candidates).zip(squares).zip(closest);
            for ((scores, square), &closest) in points {
                for (sum, score) in sums.iter_mut().zip(scores) {
                    *sum += f64::from(closest.min((score + square).max(0.0)));
                }
            }
            sums
        })
        .collect();
    (0..candidates)
        .map(|candidate| sums.iter().map(|sums| sums[candidate]).sum())
        .collect()
}

/// Draws points with probabilities proportional to `closest`.
fn draw(closest: &[f32], count: usize, rng: &mut ChaCha12Rng) -> Vec<usize> {
    let sums = closest.iter().scan(0.0, |sum, &distance| {
        *sum += f64::from(distance);
        Some(*sum)
    });
    let sums: Vec<f64> = sums.collect();
    let total = sums[sums.len() - 1];
    let last = sums.len() - 1;
    (0..count)
        .map(|_| {
            let target = rng.random::<f64>() * total;
            sums.partition_point(|&sum| sum <= target).min(last)
        })
        .collect()
}
