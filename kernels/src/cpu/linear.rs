//! Matrix products of inputs with weights as files hold them: rows of both, value by value.
//!
//! burn's CPU backend copies a weight in bf16 before each product, value by value, widened to f32. For the
//! few hundred rows of a prompt that is a large part of the time. Here a weight is read once as it is: rows are
//! cut into tiles of 32 values, whose products [`dot`] adds up. Sums are f32. In f32 burn's product copies
//! nothing either, and takes a quarter longer with AVX-512, and for few rows with AVX2.

use std::ops::Range;

use burn::{
    backend::flex::FlexTensor,
    tensor::{DType, Element, bf16},
};
use bytemuck::Pod;
use rayon::prelude::*;

use super::{
    dot::{self, Instructions, STEP, Tile, W_ROWS, X_ROWS},
    stored::{Stored, with_stored},
};

/// Values of a row that are multiplied before the next rows take their turn: a tile of inputs
/// (12 or 24 kB) stays in the first cache.
const DEPTH: usize = 1024;

/// Rows of the weights that stay in the second cache (128 or 256 kB of a depth).
const BLOCK: usize = 64;

/// Rows of the inputs that a task takes at most; its sums are `BLOCK` times as many.
const TASK_ROWS: usize = 256 * X_ROWS;

/// The same for AVX2, whose rows of inputs all tasks share.
const ROWS_DEPTH: usize = 768;
const ROWS_BLOCK: usize = 32;
const ROWS: usize = 64 * X_ROWS;

/// A value as tiles hold it.
trait Packed<T>: Copy + Default + Send + Sync {
    /// Copies values into a tile.
    fn pack(values: &[T], tile: &mut [Self]);
}

impl<T: Stored> Packed<T> for f32 {
    fn pack(values: &[T], tile: &mut [Self]) {
        for (out, value) in tile.iter_mut().zip(values) {
            *out = value.load();
        }
    }
}

impl Packed<bf16> for bf16 {
    fn pack(values: &[bf16], tile: &mut [Self]) {
        tile[..values.len()].copy_from_slice(values);
    }
}

/// Whether a weight `[inputs, outputs]` is the transposed view of `[outputs, inputs]`.
pub(super) fn is_as_files_hold_it(weight: &FlexTensor) -> bool {
    weight.transpose(0, 1).is_contiguous()
}

/// `x · weight + bias`, rounded once.
///
/// # Shapes
/// - `x`: `[rows, inputs]`
/// - `weight`: `[inputs, outputs]`, best as the transposed view of `[outputs, inputs]`
/// - `bias`: `[outputs]`
/// - output: `[rows, outputs]`
///
/// # Panics
/// Where the machine [has](Instructions::are_here) not got the instructions, or they are for bf16 and `x` is
/// not.
pub(super) fn linear(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    instructions: Instructions,
) -> FlexTensor {
    assert!(instructions.are_here(), "the instructions that this takes");
    match instructions {
        Instructions::Avx512Bf16 => {
            assert_eq!(x.dtype(), DType::BF16, "what is multiplied in bf16");
            fill::<bf16>(x, weight, bias, |operands, out| {
                by_tiles::<bf16, bf16>(operands, out, dot::avx512_bf16);
            })
        }
        Instructions::Avx512 => with_stored!(x.dtype(), T => {
            fill::<T>(x, weight, bias, |operands, out| {
                by_tiles::<T, f32>(operands, out, dot::avx512);
            })
        }),
        Instructions::Avx2 => with_stored!(x.dtype(), T => fill::<T>(x, weight, bias, by_rows)),
    }
}

/// What is multiplied, where it lies.
#[derive(Clone, Copy)]
struct Operands<'a, T> {
    /// `[rows, inputs]`
    x: &'a [T],
    /// `[outputs, inputs]`
    weight: &'a [T],
    /// `[outputs]`
    bias: &'a [f32],
    inputs: usize,
}

/// A tensor that `product` computes, `[rows, outputs]`.
fn fill<T: Stored + Element + Pod>(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    product: impl FnOnce(Operands<T>, &mut [T]),
) -> FlexTensor {
    let [x, weight, bias] = [x, weight.transpose(0, 1), bias].map(|x| x.to_contiguous());
    let [rows, inputs] = x.layout().shape().dims();
    let bias: Vec<f32> = bias.storage::<T>().iter().map(|x| x.load()).collect();
    let operands = Operands {
        x: x.storage(),
        weight: weight.storage(),
        bias: &bias,
        inputs,
    };
    let mut out = FlexTensor::empty([rows, bias.len()].into(), x.dtype());
    product(operands, out.storage_mut());
    out
}

/// Adds up the products of each row of the first tiles with each of the second.
type Dot<E> = unsafe fn(&[Tile<E, X_ROWS>], &[Tile<E, W_ROWS>]) -> [[f32; W_ROWS]; X_ROWS];

/// Of values stored as `T`, in tiles of `E`; the machine has what `dot` takes.
fn by_tiles<T, E>(operands: Operands<T>, out: &mut [T], dot: Dot<E>)
where
    T: Stored,
    E: Packed<T>,
{
    let Operands { x, inputs, .. } = operands;
    let even = (x.len() / inputs).div_ceil(rayon::current_num_threads());
    let task = even.next_multiple_of(X_ROWS).min(TASK_ROWS);
    let tasks = out.par_chunks_mut(task * operands.bias.len());
    let tasks = tasks.zip(x.par_chunks(task * inputs));
    tasks.for_each(|(out, x)| multiply(Operands { x, ..operands }, out, dot));
}

/// The products of all rows with all of the weight's.
fn multiply<T: Stored, E: Packed<T>>(operands: Operands<T>, out: &mut [T], dot: Dot<E>) {
    let Operands {
        x,
        weight,
        bias,
        inputs,
    } = operands;
    let outputs = bias.len();
    let rows = x.len() / inputs;
    let depths = || {
        (0..inputs)
            .step_by(DEPTH)
            .map(|start| start..inputs.min(start + DEPTH))
    };
    let x_tiles: Vec<Vec<Tile<E, X_ROWS>>> =
        depths().map(|depth| tiles(x, inputs, depth)).collect();
    let mut sums = vec![0.0; rows * BLOCK];
    for start in (0..outputs).step_by(BLOCK) {
        let block = start..outputs.min(start + BLOCK);
        for row in sums.chunks_exact_mut(BLOCK) {
            row[..block.len()].copy_from_slice(&bias[block.clone()]);
        }
        let weight = &weight[block.start * inputs..block.end * inputs];
        for (depth, x_tiles) in depths().zip(&x_tiles) {
            let steps = depth.len().div_ceil(STEP);
            let w_tiles: Vec<Tile<E, W_ROWS>> = tiles(weight, inputs, depth);
            for (x, sums) in x_tiles
                .chunks_exact(steps)
                .zip(sums.chunks_mut(X_ROWS * BLOCK))
            {
                for (j, w) in w_tiles.chunks_exact(steps).enumerate() {
                    // SAFETY: `linear` asserts that the instructions are there.
                    let products = unsafe { dot(x, w) };
                    for (sums, products) in sums.chunks_exact_mut(BLOCK).zip(&products) {
                        let sums = &mut sums[j * W_ROWS..][..W_ROWS];
                        for (sum, product) in sums.iter_mut().zip(products) {
                            *sum += product;
                        }
                    }
                }
            }
        }
        for (out, sums) in out.chunks_exact_mut(outputs).zip(sums.chunks_exact(BLOCK)) {
            for (out, sum) in out[block.clone()].iter_mut().zip(sums) {
                *out = T::store(*sum);
            }
        }
    }
}

/// With AVX2, rows of weights being read where they lie if they are in f32, else widened a block at a time.
fn by_rows<T: Stored + Element + Pod>(operands: Operands<T>, out: &mut [T]) {
    let Operands {
        x,
        weight,
        bias,
        inputs,
    } = operands;
    let outputs = bias.len();
    let chunks = out.chunks_mut(ROWS * outputs).zip(x.chunks(ROWS * inputs));
    for (out, x) in chunks {
        let x_tiles: Vec<Vec<Tile<f32, X_ROWS>>> = x
            .par_chunks(X_ROWS * inputs)
            .map(|x| tiles(x, inputs, 0..inputs))
            .collect();
        // A task computes a block of outputs; it owns these columns of every row.
        let mut columns: Vec<Vec<&mut [T]>> = Vec::new();
        columns.resize_with(outputs.div_ceil(ROWS_BLOCK), Vec::new);
        for row in out.chunks_exact_mut(outputs) {
            for (columns, values) in columns.iter_mut().zip(row.chunks_mut(ROWS_BLOCK)) {
                columns.push(values);
            }
        }
        let blocks = columns.into_par_iter().zip(bias.par_chunks(ROWS_BLOCK));
        blocks.enumerate().for_each(|(block, (columns, bias))| {
            let (weight, rest) =
                weight[block * ROWS_BLOCK * inputs..].split_at(bias.len() * inputs);
            let next = &rest[..rest.len().min(weight.len())];
            block_by_rows(&x_tiles, weight, next, bias, columns);
        });
    }
}

/// The products of all rows in `x` with a block of the weights; `next` is brought into the cache meanwhile.
fn block_by_rows<T: Stored + Element + Pod>(
    x: &[Vec<Tile<f32, X_ROWS>>],
    weight: &[T],
    next: &[T],
    bias: &[f32],
    out: Vec<&mut [T]>,
) {
    let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
    let mut sums = bias.repeat(out.len());
    let mut widened = Vec::new();
    let products = inputs.div_ceil(ROWS_DEPTH) * x.len() * outputs.div_ceil(2);
    let mut ahead = next.chunks(next.len().div_ceil(products).max(1));
    for start in (0..inputs).step_by(ROWS_DEPTH) {
        let depth = ROWS_DEPTH.min(inputs - start);
        let width = depth.next_multiple_of(STEP);
        let is_whole = width == depth && T::dtype() == DType::F32;
        let (weight, row): (&[f32], usize) = if is_whole {
            (&bytemuck::cast_slice(weight)[start..], inputs)
        } else {
            widened.clear();
            widened.resize(outputs * width, 0.0);
            let pairs = widened
                .chunks_exact_mut(width)
                .zip(weight.chunks_exact(inputs));
            pairs.for_each(|(widened, row)| f32::pack(&row[start..start + depth], widened));
            (&widened, width)
        };
        for (x, sums) in x.iter().zip(sums.chunks_mut(X_ROWS * outputs)) {
            let x = &x[start / STEP..][..width / STEP];
            for j in (0..outputs).step_by(2) {
                if let Some(values) = ahead.next() {
                    dot::prefetch(values);
                }
                // The last of an odd number stands in for the one that is missing.
                let w = [j, (j + 1).min(outputs - 1)].map(|j| &weight[j * row..][..width]);
                // SAFETY: `linear` asserts that the instructions are there.
                let products = unsafe { dot::avx2(x, w) };
                for (sums, products) in sums.chunks_exact_mut(outputs).zip(&products) {
                    for (sum, product) in sums[j..].iter_mut().zip(products) {
                        *sum += product;
                    }
                }
            }
        }
    }
    for (out, sums) in out.into_iter().zip(sums.chunks_exact(outputs)) {
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = T::store(*sum);
        }
    }
}

/// A stretch of all rows of `width` values as tiles: those of the first rows step by step, then
/// those of the next. What rows and values the last ones lack is zero.
fn tiles<T, E: Packed<T>, const ROWS: usize>(
    values: &[T],
    width: usize,
    stretch: Range<usize>,
) -> Vec<Tile<E, ROWS>> {
    let steps = stretch.len().div_ceil(STEP);
    let blocks = values.chunks(ROWS * width);
    let mut tiles = vec![[[E::default(); STEP]; ROWS]; blocks.len() * steps];
    for (tiles, rows) in tiles.chunks_exact_mut(steps).zip(blocks) {
        for (i, row) in rows.chunks_exact(width).enumerate() {
            for (tile, values) in tiles.iter_mut().zip(row[stretch.clone()].chunks(STEP)) {
                E::pack(values, &mut tile[i]);
            }
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use crate::random::random;

    /// By all instructions that this machine has, not by the fastest alone.
    #[test]
    fn products_are_sums_of_products() {
        let [rows, inputs, outputs] = [13, 1_070, 67];
        let all = [
            Instructions::Avx512Bf16,
            Instructions::Avx512,
            Instructions::Avx2,
        ];
        for (instructions, dtype) in all
            .iter()
            .flat_map(|i| [DType::F32, DType::BF16].map(|dtype| (*i, dtype)))
        {
            let is_of_bf16 = instructions == Instructions::Avx512Bf16;
            if !instructions.are_here() || is_of_bf16 && dtype != DType::BF16 {
                continue;
            }
            let values = |shape| random::<2>(shape).cast(dtype).into_data();
            let data = [[rows, inputs], [outputs, inputs], [1, outputs]].map(values);
            let [x, weight, bias] = data.clone().map(FlexTensor::from_data);
            let bias = bias.reshape([outputs].into());
            let out = linear(x, weight.transpose(0, 1), bias, instructions);

            let numbers = |data: &TensorData| data.iter::<f64>().collect::<Vec<_>>();
            let [x, weight, bias] = data.each_ref().map(numbers);
            let out = numbers(&out.into_data());
            let step = if dtype == DType::BF16 {
                1.0 / 256.0
            } else {
                0.0
            };
            for (i, out) in out.into_iter().enumerate() {
                let x = x[i / outputs * inputs..].iter().take(inputs);
                let weight = &weight[i % outputs * inputs..];
                let products = x.zip(weight).map(|(x, w)| x * w).sum::<f64>();
                let expected = products + bias[i % outputs];
                let bound = expected.abs() * step + 1e-4;
                assert!(
                    (out - expected).abs() < bound,
                    "{instructions:?} {dtype:?}: {i}"
                );
            }
        }
    }
}
