//! Near-duplicates by cosine, within clusters.
//!
//! Comparing all items with all is quadratic; near-duplicates share a k-means cell or lie just
//! across a border (SemDeDup, arXiv 2303.09540; section 3 of arXiv 2412.03603). Each item is
//! compared in the cells of its nearest centres.
//!
//! Items are taken from the best to the worst, and one is a duplicate when it is near to an item
//! that has been kept. So the best copy stays, and every duplicate has a representative that stays.

use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Result,
    embedding::{Embeddings, to_f32},
    kmeans::{Clustering, Compared, Members, nearest},
    range::{Checked, within},
};

/// Items compared at once: bounds the memory that similarities take.
const BLOCK: usize = 1024;

/// What counts as a near-duplicate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Least cosine of two near-duplicates. The paper publishes none; our choice.
    pub threshold: f32,
    /// Cells in which an item is compared: those of its nearest centres. 1 misses pairs that a
    /// border divides. Our choice.
    pub cells: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            threshold: 0.95,
            cells: 2,
        }
    }
}

/// All items from the highest quality to the lowest, equal ones by their ids.
pub fn best_first<Q: Ord, I: Ord>(quality: &[Q], ids: &[I]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..quality.len() as u32).collect();
    order.sort_by(|&a, &b| {
        let (a, b) = (a as usize, b as usize);
        quality[b].cmp(&quality[a]).then(ids[a].cmp(&ids[b]))
    });
    order
}

impl Config {
    pub(crate) fn check(&self) -> Checked {
        within("threshold", self.threshold, -1.0..=1.0)?;
        within("cells", self.cells, 1..)
    }

    /// The most pairs, of two items or of an item and a centre, that a search in these clusters
    /// compares.
    pub fn most_pairs(&self, clustering: &Clustering) -> u64 {
        let cells = clustering.members();
        let largest = cells.iter().map(<[u32]>::len).max().unwrap_or(0) as u64;
        let centres = cells.len() as u64;
        let searched = (self.cells as u64).min(centres);
        clustering.assignment.len() as u64 * (searched * largest + centres)
    }

    /// For each item the item that it duplicates, which is itself none; nothing where it is kept.
    ///
    /// A duplicate is at least as near as the threshold to its representative. The exception: where
    /// that one duplicates an item of another cell, both are given that item.
    ///
    /// `embeddings` have length one, `clustering` is theirs, and `order` lists all items, the best
    /// first ([`best_first`]). Compares at most [`most_pairs`](Self::most_pairs).
    ///
    /// # Errors
    /// When the three do not fit together, and those of `compared`.
    pub fn find(
        &self,
        embeddings: &Embeddings,
        clustering: &Clustering,
        order: &[u32],
        device: &Device,
        compared: &mut Compared,
    ) -> Result<Vec<Option<u32>>> {
        let items = embeddings.len();
        let ranks = ranks(order, items)
            .filter(|_| clustering.assignment.len() == items)
            .ok_or_else(|| {
                Error::Request(format!(
                    "the clusters and the order of quality have to be of the {items} items compared"
                ))
            })?;
        let mut search = Search {
            embeddings,
            ranks,
            threshold: self.threshold,
            device,
            compared,
            original: vec![None; items],
        };
        for cell in clustering.members().iter() {
            search.within(cell)?;
        }
        if self.cells > 1 {
            search.across(clustering, self.cells)?;
        }
        Ok(search.original)
    }
}

/// The place of each item in `order`; nothing if that is not an order of all items.
fn ranks(order: &[u32], items: usize) -> Option<Vec<u32>> {
    let mut ranks = vec![u32::MAX; items];
    for (rank, &item) in (0..).zip(order) {
        *ranks.get_mut(item as usize)? = rank;
    }
    (order.len() == items && !ranks.contains(&u32::MAX)).then_some(ranks)
}

/// A search under way.
struct Search<'a> {
    embeddings: &'a Embeddings,
    /// Place of each item in the order of quality.
    ranks: Vec<u32>,
    threshold: f32,
    device: &'a Device,
    compared: &'a mut Compared<'a>,
    /// What each item has been found to duplicate.
    original: Vec<Option<u32>>,
}

impl Search<'_> {
    /// Finds the duplicates within a cell.
    fn within(&mut self, cell: &[u32]) -> Result<()> {
        let mut cell = cell.to_vec();
        cell.sort_by_key(|&item| self.ranks[item as usize]);
        let mut kept: Vec<u32> = Vec::new();
        for block in cell.chunks(BLOCK) {
            // The nearest of the items kept so far, then of those kept from this block.
            let mut nearest: Vec<(f32, u32)> = vec![(f32::NEG_INFINITY, 0); block.len()];
            for kept in kept.chunks(BLOCK) {
                let cosines = self.cosines(block, kept)?;
                for (nearest, cosines) in nearest.iter_mut().zip(cosines.chunks(kept.len())) {
                    for (&item, &cosine) in kept.iter().zip(cosines) {
                        if cosine > nearest.0 {
                            *nearest = (cosine, item);
                        }
                    }
                }
            }
            let cosines = self.cosines(block, block)?;
            let mut kept_here: Vec<usize> = Vec::new();
            for (place, cosines) in cosines.chunks(block.len()).enumerate() {
                for &other in &kept_here {
                    if cosines[other] > nearest[place].0 {
                        nearest[place] = (cosines[other], block[other]);
                    }
                }
                if nearest[place].0 >= self.threshold {
                    self.original[block[place] as usize] = Some(nearest[place].1);
                } else {
                    kept_here.push(place);
                }
            }
            kept.extend(kept_here.into_iter().map(|place| block[place]));
        }
        Ok(())
    }

    /// Finds the duplicates between cells, among the items that their own cells keep.
    fn across(&mut self, clustering: &Clustering, cells: usize) -> Result<()> {
        let count = cells.min(clustering.centres.len());
        let kept: Vec<u32> = (0..self.embeddings.len() as u32)
            .filter(|&item| self.original[item as usize].is_none())
            .collect();
        let rows = self.embeddings.select(kept.iter().map(|&k| k as usize));
        let centres = &clustering.centres;
        let nearest = nearest(&rows, centres, count, self.device, self.compared)?;
        let own = kept.iter().map(|&k| clustering.assignment[k as usize]);
        let residents = Members::new(&own.collect::<Vec<_>>(), centres.len());

        let mut pairs: Vec<(u32, u32, f32)> = Vec::new();
        for step in 1..count {
            let next: Vec<u32> = nearest.chunks(count).map(|cells| cells[step]).collect();
            let visitors = Members::new(&next, centres.len());
            for (visitors, residents) in visitors.iter().zip(residents.iter()) {
                let of = |places: &[u32]| places.iter().map(|&p| kept[p as usize]).collect();
                self.pairs(of(visitors), of(residents), &mut pairs)?;
            }
        }
        self.resolve(pairs);
        Ok(())
    }

    /// Adds the pairs of near-duplicates, the better item first.
    fn pairs(
        &mut self,
        visitors: Vec<u32>,
        residents: Vec<u32>,
        pairs: &mut Vec<(u32, u32, f32)>,
    ) -> Result<()> {
        for visitors in visitors.chunks(BLOCK) {
            for residents in residents.chunks(BLOCK) {
                let cosines = self.cosines(visitors, residents)?;
                for (&a, cosines) in visitors.iter().zip(cosines.chunks(residents.len())) {
                    for (&b, &cosine) in residents.iter().zip(cosines) {
                        if cosine >= self.threshold && a != b {
                            let a_is_better = self.ranks[a as usize] < self.ranks[b as usize];
                            let (best, worst) = if a_is_better { (a, b) } else { (b, a) };
                            pairs.push((best, worst, cosine));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Decides the pairs from the best item to the worst: one that is near to a kept item goes.
    fn resolve(&mut self, mut pairs: Vec<(u32, u32, f32)>) {
        let rank = |item: u32| self.ranks[item as usize];
        // All pairs of a worse item together, its nearest better item first.
        pairs.sort_by(|a, b| {
            let nearness = b.2.total_cmp(&a.2);
            rank(a.1)
                .cmp(&rank(b.1))
                .then(nearness)
                .then(rank(a.0).cmp(&rank(b.0)))
        });
        for (best, worst, _) in pairs {
            let undecided = self.original[worst as usize].is_none();
            if undecided && self.original[best as usize].is_none() {
                self.original[worst as usize] = Some(best);
            }
        }
        // Duplicates within a cell whose representative has just gone.
        for item in 0..self.original.len() {
            if let Some(original) = self.original[item]
                && let Some(kept) = self.original[original as usize]
            {
                self.original[item] = Some(kept);
            }
        }
    }

    /// The cosines of each item of `a` to each of `b`, row after row.
    fn cosines(&mut self, a: &[u32], b: &[u32]) -> Result<Vec<f32>> {
        let cosines = to_f32(self.rows(a).matmul(self.rows(b).transpose()));
        (self.compared)(cosines.len() as u64)?;
        Ok(cosines)
    }

    fn rows(&self, items: &[u32]) -> Tensor<2> {
        let rows = self.embeddings.select(items.iter().map(|&i| i as usize));
        rows.to_tensor(self.device)
    }
}
