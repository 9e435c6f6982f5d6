//! Which points belong to which cluster, and what follows from it: the means.

use rayon::prelude::*;

use super::distances;
use crate::embedding::Embeddings;

/// The points of each cluster, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members {
    /// The points, cluster after cluster.
    points: Vec<u32>,
    /// Where each cluster begins in `points`, and the end.
    starts: Vec<usize>,
}

impl Members {
    /// Sorts the points by their clusters, which are below `clusters`.
    pub fn new(assignment: &[u32], clusters: usize) -> Self {
        let mut starts = vec![0];
        for size in sizes(assignment, clusters) {
            starts.push(starts[starts.len() - 1] + size);
        }
        let mut points = vec![0; assignment.len()];
        let mut next = starts.clone();
        for (point, &cluster) in (0..).zip(assignment) {
            points[next[cluster as usize]] = point;
            next[cluster as usize] += 1;
        }
        Self { points, starts }
    }

    /// Number of clusters.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether there is no cluster.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The points of a cluster.
    pub fn of(&self, cluster: usize) -> &[u32] {
        &self.points[self.starts[cluster]..self.starts[cluster + 1]]
    }

    /// The points of each cluster in turn.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        (0..self.len()).map(|cluster| self.of(cluster))
    }
}

/// The mean of each cluster's points; an empty cluster keeps its centre.
pub(super) fn means(points: &Embeddings, assignment: &[u32], centres: &Embeddings) -> Embeddings {
    let members = Members::new(assignment, centres.len());
    let width = points.width();
    let mut means = centres.clone();
    means
        .values_mut()
        .par_chunks_mut(width)
        .enumerate()
        .for_each(|(cluster, mean)| {
            let members = members.of(cluster);
            if members.is_empty() {
                return;
            }
            let mut sums = vec![0.0; width];
            for &point in members {
                for (sum, &value) in sums.iter_mut().zip(points.row(point as usize)) {
                    *sum += f64::from(value);
                }
            }
            for (mean, sum) in mean.iter_mut().zip(sums) {
                *mean = (sum / members.len() as f64) as f32;
            }
        });
    means
}

/// The assignment with each idle cluster given the point that is farthest from its own centre, as
/// scikit-learn does.
///
/// No cluster loses its last point by it, and no point moves that lies on its centre: where there
/// are fewer distinct points than clusters, some stay idle.
pub(super) fn relocate(
    points: &Embeddings,
    centres: &Embeddings,
    assignment: &[u32],
    idle: &[bool],
) -> Vec<u32> {
    if !idle.contains(&true) {
        return assignment.to_vec();
    }
    let distances = distances(points, centres, assignment);
    let mut farthest: Vec<usize> = (0..points.len()).filter(|&p| distances[p] > 0.0).collect();
    farthest.sort_by(|&a, &b| distances[b].total_cmp(&distances[a]).then(a.cmp(&b)));

    let mut sizes = sizes(assignment, centres.len());
    let mut relocated = assignment.to_vec();
    let mut farthest = farthest.into_iter();
    for (cluster, _) in idle.iter().enumerate().filter(|(_, idle)| **idle) {
        let spare = |&point: &usize| sizes[relocated[point] as usize] > 1;
        let Some(point) = farthest.by_ref().find(spare) else {
            break;
        };
        sizes[relocated[point] as usize] -= 1;
        sizes[cluster] += 1;
        relocated[point] = cluster as u32;
    }
    relocated
}

/// The number of points in each cluster.
pub(super) fn sizes(assignment: &[u32], clusters: usize) -> Vec<usize> {
    let mut sizes = vec![0; clusters];
    for &cluster in assignment {
        sizes[cluster as usize] += 1;
    }
    sizes
}
