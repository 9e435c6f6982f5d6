//! k-means on any device.
//!
//! The heavy part, the distances of all points to all centres, is matrix products and an argmin on
//! the device; means and sums are taken on the host in a fixed order. The result is therefore the
//! same on any number of threads. Definitions are scikit-learn's `KMeans` (Lloyd's algorithm,
//! greedy k-means++) and `MiniBatchKMeans`.

mod members;
mod mini_batch;
mod nearest;
mod start;

use burn::tensor::Device;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use members::Members;
pub use nearest::nearest;

use crate::{
    Error, Result,
    embedding::Embeddings,
    range::{Checked, within},
};
use members::{means, relocate, sizes};
use nearest::Points;

/// Hears how many more pairs of two vectors have been compared; an error ends the work.
pub type Compared<'a> = dyn FnMut(u64) -> Result<()> + 'a;

/// How points are clustered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most clusters. The paper has about 10 000.
    pub clusters: usize,
    /// Fewest points to a cluster on average: a small set gets fewer clusters, at least one. Our
    /// choice.
    pub points_per_cluster: usize,
    /// Most passes over the points (scikit-learn's default).
    pub iterations: usize,
    /// The centres stand when the sum of their squared moves is at most this times the mean
    /// variance of a coordinate (scikit-learn's default).
    pub tolerance: f64,
    /// A larger set is clustered in mini-batches. Our choice.
    pub mini_batch_above: usize,
    /// Points in a mini-batch. Our choice.
    pub mini_batch: usize,
    /// Where the random choices start: same seed, same clusters.
    pub seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            clusters: 10_000,
            points_per_cluster: 20,
            iterations: 300,
            tolerance: 1e-4,
            mini_batch_above: 500_000,
            mini_batch: 65_536,
            seed: 0,
        }
    }
}

/// Points sorted into clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct Clustering {
    /// The centre of each cluster.
    pub centres: Embeddings,
    /// The cluster of each point: the one with the nearest centre.
    pub assignment: Vec<u32>,
    /// Sum of the squared distances of the points to their centres.
    pub inertia: f64,
    /// Passes over the points, or mini-batches.
    pub iterations: usize,
}

impl Clustering {
    /// The points of each cluster.
    pub fn members(&self) -> Members {
        Members::new(&self.assignment, self.centres.len())
    }
}

impl Config {
    pub(crate) fn check(&self) -> Checked {
        within("clusters", self.clusters, 1..)?;
        within("points_per_cluster", self.points_per_cluster, 1..)?;
        within("iterations", self.iterations, 1..)?;
        within("tolerance", self.tolerance, 0.0..)?;
        within("mini_batch", self.mini_batch, 1..)
    }

    /// The number of clusters for a number of points.
    pub fn clusters_for(&self, points: usize) -> usize {
        self.clusters
            .min(points / self.points_per_cluster.max(1))
            .max(1)
    }

    /// The most pairs of a point and a centre that clustering so many points compares.
    pub fn most_pairs(&self, points: usize) -> u64 {
        let clusters = self.clusters_for(points);
        // The start, each iteration, and the assignment to the last centres.
        let rounds = self.iterations.saturating_add(start::trials(clusters) + 1);
        (points as u64)
            .saturating_mul(clusters as u64)
            .saturating_mul(rounds as u64)
    }

    /// Clusters the points, from centres chosen by k-means++. Compares at most
    /// [`most_pairs`](Self::most_pairs).
    ///
    /// # Errors
    /// When there are no points, and those of `compared`.
    pub fn fit(
        &self,
        points: &Embeddings,
        device: &Device,
        compared: &mut Compared,
    ) -> Result<Clustering> {
        if points.is_empty() {
            return Err(Error::Request("there is nothing to cluster".into()));
        }
        let clusters = self.clusters_for(points.len());
        if points.len() > self.mini_batch_above {
            return mini_batch::fit(self, points, clusters, device, compared);
        }
        let blocks = Points::new(points, &mean(points), device);
        let start = start::plus_plus(points, &blocks, clusters, self.seed, compared)?;
        self.lloyd(points, &blocks, points.select(start), compared)
    }

    /// Clusters the points by Lloyd's algorithm from the centres given.
    ///
    /// # Errors
    /// When there are no points, no centres, or their widths differ, and those of `compared`.
    pub fn fit_from(
        &self,
        points: &Embeddings,
        centres: Embeddings,
        device: &Device,
        compared: &mut Compared,
    ) -> Result<Clustering> {
        if points.is_empty() || centres.is_empty() || points.width() != centres.width() {
            return Err(Error::Request(format!(
                "cannot cluster {} points of width {} around {} centres of width {}",
                points.len(),
                points.width(),
                centres.len(),
                centres.width()
            )));
        }
        let blocks = Points::new(points, &mean(points), device);
        self.lloyd(points, &blocks, centres, compared)
    }

    /// Lloyd's algorithm: assign points to their nearest centres, move the centres to the means.
    fn lloyd(
        &self,
        points: &Embeddings,
        blocks: &Points,
        mut centres: Embeddings,
        compared: &mut Compared,
    ) -> Result<Clustering> {
        let tolerance = self.tolerance * variance(points, blocks.origin());
        let mut assignment = Vec::new();
        let mut iterations = 0;
        let mut settled = false;
        while iterations < self.iterations && !settled {
            iterations += 1;
            let latest = blocks.nearest(&centres, compared)?;
            settled = latest == assignment;
            assignment = latest;
            let sizes = sizes(&assignment, centres.len());
            let idle: Vec<bool> = sizes.iter().map(|&size| size == 0).collect();
            let relocated = relocate(points, &centres, &assignment, &idle);
            let moved = means(points, &relocated, &centres);
            let shift = shift(&centres, &moved);
            centres = moved;
            if shift <= tolerance {
                break;
            }
        }
        if !settled {
            assignment = blocks.nearest(&centres, compared)?;
        }
        let inertia = distances(points, &centres, &assignment).iter().sum();
        Ok(Clustering {
            centres,
            assignment,
            inertia,
            iterations,
        })
    }
}

/// The mean point.
fn mean(points: &Embeddings) -> Vec<f32> {
    let mut sums = vec![0.0; points.width()];
    for row in points.rows() {
        for (sum, &value) in sums.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    let count = points.len() as f64;
    sums.iter().map(|sum| (sum / count) as f32).collect()
}

/// The variance of a coordinate about the mean point, averaged over the coordinates.
fn variance(points: &Embeddings, mean: &[f32]) -> f64 {
    let squares: Vec<f64> = points
        .values()
        .par_chunks(points.width())
        .map(|row| squared_distance(row, mean))
        .collect();
    squares.iter().sum::<f64>() / points.values().len() as f64
}

/// The squared distance of each point to the centre it is assigned to.
fn distances(points: &Embeddings, centres: &Embeddings, assignment: &[u32]) -> Vec<f64> {
    let rows = points.values().par_chunks(points.width());
    rows.zip(assignment)
        .map(|(row, &cluster)| squared_distance(row, centres.row(cluster as usize)))
        .collect()
}

/// The sum of the squared moves of all centres.
fn shift(before: &Embeddings, after: &Embeddings) -> f64 {
    squared_distance(before.values(), after.values())
}

/// `Σ (a − b)²`, in four running sums so that it is not one long chain of additions.
fn squared_distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |a: &f32, b: &f32| f64::from(a - b).powi(2);
    let (heads, tails) = (a.chunks_exact(4), b.chunks_exact(4));
    let rest = heads.remainder().iter().zip(tails.remainder());
    let rest: f64 = rest.map(|(a, b)| square(a, b)).sum();
    let mut sums = [0.0; 4];
    for (a, b) in heads.zip(tails) {
        for lane in 0..4 {
            sums[lane] += square(&a[lane], &b[lane]);
        }
    }
    sums.iter().sum::<f64>() + rest
}
