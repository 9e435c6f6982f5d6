//! Mini-batch k-means (Sculley 2010) for sets that are too large to go through many times.

use burn::tensor::Device;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha12Rng;

use super::{
    Clustering, Compared, Config, distances, mean,
    members::{Members, relocate},
    nearest::{Points, nearest},
    shift, start, variance,
};
use crate::{Result, embedding::Embeddings};

/// Points for each cluster from which the first centres are chosen (as scikit-learn).
const SAMPLE_PER_CLUSTER: usize = 3;
/// Mini-batches without a better smoothed inertia before it ends (scikit-learn's default).
const PATIENCE: usize = 10;

/// Clusters points batch by batch: each centre is the running mean of all points that it won.
///
/// A batch is the next part of a random order of all points. It ends by scikit-learn's two rules:
/// the centres hardly move, or the smoothed inertia of the batches no longer falls.
pub(super) fn fit(
    config: &Config,
    points: &Embeddings,
    clusters: usize,
    device: &Device,
    compared: &mut Compared,
) -> Result<Clustering> {
    let mut rng = ChaCha12Rng::seed_from_u64(config.seed);
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.shuffle(&mut rng);
    let batch = config.mini_batch.clamp(1, points.len());
    let sample = (SAMPLE_PER_CLUSTER * clusters).max(batch).min(points.len());
    let sample = points.select(order[..sample].iter().copied());
    let origin = mean(&sample);
    let tolerance = config.tolerance * variance(&sample, &origin);
    let blocks = Points::new(&sample, &origin, device);
    let start = start::plus_plus(&sample, &blocks, clusters, rng.random(), compared)?;
    let mut centres = sample.select(start);
    drop((sample, blocks));

    let mut won = vec![0_u64; clusters];
    let mut trend = Trend::new(batch, points.len());
    let mut steps = 0;
    'passes: for pass in 0..config.iterations {
        order.shuffle(&mut rng);
        for part in order.chunks(batch) {
            let part = points.select(part.iter().copied());
            let blocks = Points::new(&part, &origin, device);
            let mut assignment = blocks.nearest(&centres, compared)?;
            let inertia: f64 = distances(&part, &centres, &assignment).iter().sum();
            if pass > 0 {
                let idle: Vec<bool> = won.iter().map(|&points| points == 0).collect();
                assignment = relocate(&part, &centres, &assignment, &idle);
            }
            let moved = running_means(&part, &assignment, &centres, &mut won);
            let shift = shift(&centres, &moved);
            centres = moved;
            steps += 1;
            if trend.has_levelled(inertia / part.len() as f64) || shift <= tolerance {
                break 'passes;
            }
        }
    }
    let assignment = nearest(points, &centres, 1, device, compared)?;
    let inertia = distances(points, &centres, &assignment).iter().sum();
    Ok(Clustering {
        centres,
        assignment,
        inertia,
        iterations: steps,
    })
}

/// The centres as the means of all points won, those of this batch included.
fn running_means(
    batch: &Embeddings,
    assignment: &[u32],
    centres: &Embeddings,
    won: &mut [u64],
) -> Embeddings {
    let mut moved = centres.clone();
    let members = Members::new(assignment, centres.len());
    for ((centre, members), won) in moved.rows_mut().zip(members.iter()).zip(won) {
        if members.is_empty() {
            continue;
        }
        let before = *won as f64;
        *won += members.len() as u64;
        let mut sums: Vec<f64> = centre.iter().map(|&c| f64::from(c) * before).collect();
        for &point in members {
            for (sum, &value) in sums.iter_mut().zip(batch.row(point as usize)) {
                *sum += f64::from(value);
            }
        }
        for (centre, sum) in centre.iter_mut().zip(sums) {
            *centre = (sum / *won as f64) as f32;
        }
    }
    moved
}

/// The batches' inertia, smoothed over about a pass.
struct Trend {
    weight: f64,
    smoothed: Option<f64>,
    lowest: f64,
    since_lowest: usize,
}

impl Trend {
    fn new(batch: usize, points: usize) -> Self {
        Self {
            weight: (2.0 * batch as f64 / (points + 1) as f64).min(1.0),
            smoothed: None,
            lowest: f64::INFINITY,
            since_lowest: 0,
        }
    }

    /// Takes the next batch's mean squared distance; whether it is time to end.
    fn has_levelled(&mut self, inertia: f64) -> bool {
        let smoothed = self.smoothed.map_or(inertia, |smoothed| {
            smoothed + self.weight * (inertia - smoothed)
        });
        self.smoothed = Some(smoothed);
        if smoothed < self.lowest {
            self.lowest = smoothed;
            self.since_lowest = 0;
        } else {
            self.since_lowest += 1;
        }
        self.since_lowest >= PATIENCE
    }
}
