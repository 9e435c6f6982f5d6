//! Nearest centres by matrix products.
//!
//! `|x − c|² = |x|² + [x, 1] · [−2c, |c|²]`: with one more column the nearest centre is the argmin
//! of a single product. Points and centres are taken relative to an origin near the points, which
//! keeps the rounding small where all vectors point one way, as those of neural encoders do.

use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};
use rayon::prelude::*;

use super::Compared;
use crate::{
    Result,
    embedding::{Embeddings, to_f32},
};

/// Rows to a block. A block's scores for a thousand centres stay in the cache of a CPU.
const BLOCK: usize = 2048;

/// Points on a device, in blocks of rows `[x − origin, 1]`.
pub(super) struct Points {
    blocks: Vec<Tensor<2>>,
    origin: Vec<f32>,
    device: Device,
}

impl Points {
    /// Copies the points to the device.
    pub(super) fn new(points: &Embeddings, origin: &[f32], device: &Device) -> Self {
        let blocks = points.values().chunks(BLOCK * points.width());
        Self {
            blocks: blocks.map(|rows| block(rows, origin, device)).collect(),
            origin: origin.to_vec(),
            device: device.clone(),
        }
    }

    /// What the points are taken relative to.
    pub(super) fn origin(&self) -> &[f32] {
        &self.origin
    }

    /// The nearest centre of each point.
    pub(super) fn nearest(
        &self,
        centres: &Embeddings,
        compared: &mut Compared,
    ) -> Result<Vec<u32>> {
        let columns = columns(centres, &self.origin, &self.device);
        let mut nearest = Vec::new();
        for block in &self.blocks {
            let scores = block.clone().matmul(columns.clone());
            // Read block by block: only then is it certain that the device has done its work.
            nearest.extend(indices(scores.argmin(1)));
            compared((block.dims()[0] * centres.len()) as u64)?;
        }
        Ok(nearest)
    }

    /// `|x − c|² − |x|²` of each point and every centre: `[points, centres]`, row after row; `x`
    /// relative to the origin.
    pub(super) fn scores(&self, centres: &Embeddings) -> Vec<f32> {
        let centres = columns(centres, &self.origin, &self.device);
        let blocks = self.blocks.iter();
        let scores = blocks.map(|block| block.clone().matmul(centres.clone()));
        to_f32(Tensor::cat(scores.collect(), 0))
    }
}

/// The `count` nearest centres of each point, nearest first: row after row.
///
/// `count` is at most the number of centres.
///
/// # Errors
/// Those of `compared`.
pub fn nearest(
    points: &Embeddings,
    centres: &Embeddings,
    count: usize,
    device: &Device,
    compared: &mut Compared,
) -> Result<Vec<u32>> {
    let origin = super::mean(centres);
    let columns = columns(centres, &origin, device);
    let mut nearest = Vec::new();
    for rows in points.values().chunks(BLOCK * points.width()) {
        let mut scores = block(rows, &origin, device).matmul(columns.clone());
        let mut best = vec![scores.clone().argmin(1)];
        while best.len() < count {
            let found = best[best.len() - 1].clone();
            let out = Tensor::full(found.dims(), f32::MAX / 4.0, (device, DType::F32));
            scores = scores.scatter(1, found, out, IndexingUpdateOp::Add);
            best.push(scores.clone().argmin(1));
        }
        nearest.extend(indices(Tensor::cat(best, 1)));
        compared((rows.len() / points.width() * centres.len()) as u64)?;
    }
    Ok(nearest)
}

/// Rows `[x − origin, 1]` on the device.
fn block(rows: &[f32], origin: &[f32], device: &Device) -> Tensor<2> {
    let width = origin.len();
    let count = rows.len() / width;
    let mut values = vec![1.0; count * (width + 1)];
    values
        .par_chunks_exact_mut(width + 1)
        .zip(rows.par_chunks_exact(width))
        .for_each(|(to, from)| {
            for ((to, from), origin) in to.iter_mut().zip(from).zip(origin) {
                *to = from - origin;
            }
        });
    let data = TensorData::new(values, [count, width + 1]);
    Tensor::from_data(data, (device, DType::F32))
}

/// Columns `[−2c, |c|²]` on the device, `c` relative to the origin: `[width + 1, centres]`.
fn columns(centres: &Embeddings, origin: &[f32], device: &Device) -> Tensor<2> {
    let width = centres.width();
    let mut values = Vec::with_capacity(centres.len() * (width + 1));
    for row in centres.rows() {
        let relative = row.iter().zip(origin).map(|(c, origin)| c - origin);
        let square: f64 = relative.clone().map(|c| f64::from(c).powi(2)).sum();
        values.extend(relative.map(|c| -2.0 * c));
        values.push(square as f32);
    }
    let data = TensorData::new(values, [centres.len(), width + 1]);
    Tensor::<2>::from_data(data, (device, DType::F32)).transpose()
}

fn indices<const D: usize>(tensor: Tensor<D, Int>) -> Vec<u32> {
    let data = tensor.into_data();
    data.iter::<i64>().map(|index| index as u32).collect()
}
