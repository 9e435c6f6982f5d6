//! Matrix products of inputs with weights as files hold them: rows of both, value by value.
//!
//! burn's CPU backend copies a weight in bf16 before each product, value by value, widened to f32. For the
//! few hundred rows of a prompt that is a large part of the time. Here a weight is read once as it is: rows of
//! both matrices are cut into tiles of 32 values, whose products [`dot`] adds up. Sums are f32.

use std::ops::Range;

use burn::{
    backend::flex::FlexTensor,
    tensor::{DType, bf16},
};
use rayon::prelude::*;

use super::{
    dot::{self, Dot, Instructions, STEP, Tile, X_ROWS},
    stored::{Stored, with_stored},
};

/// Rows of the inputs that a task takes at most; its sums are as many for each row of a block.
const TASK_ROWS: usize = 256 * X_ROWS;

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
            linear_of::<bf16, bf16, _>(x, weight, bias, dot::AVX512_BF16)
        }
        Instructions::Avx512 => with_stored!(x.dtype(), T => {
            linear_of::<T, f32, _>(x, weight, bias, dot::AVX512)
        }),
        Instructions::Avx2 => with_stored!(x.dtype(), T => {
            linear_of::<T, f32, _>(x, weight, bias, dot::AVX2)
        }),
    }
}

/// Of values stored as `T`, in tiles of `E`; the machine has what `dot` takes.
fn linear_of<T, E, const W_ROWS: usize>(
    x: FlexTensor,
    weight: FlexTensor,
    bias: FlexTensor,
    dot: Dot<E, W_ROWS>,
) -> FlexTensor
where
    T: Stored + burn::tensor::Element + bytemuck::Pod,
    E: Packed<T>,
{
    let x = x.to_contiguous();
    let weight = weight.transpose(0, 1).to_contiguous();
    let bias = bias.to_contiguous();
    let [rows, inputs] = [0, 1].map(|axis| x.layout().shape()[axis]);
    let outputs = weight.layout().shape()[0];
    let mut out = FlexTensor::empty([rows, outputs].into(), x.dtype());
    let (weight, bias): (&[T], &[T]) = (weight.storage(), bias.storage());
    let bias: Vec<f32> = bias.iter().map(|value| value.load()).collect();

    let even = rows.div_ceil(rayon::current_num_threads());
    let task = even.next_multiple_of(X_ROWS).min(TASK_ROWS);
    let tasks = out
        .storage_mut::<T>()
        .par_chunks_mut(task * outputs)
        .zip(x.storage::<T>().par_chunks(task * inputs));
    tasks.for_each(|(out, x)| multiply(x, weight, &bias, inputs, out, &dot));
    out
}

/// The products of all rows of `x` with all of `weight`, `inputs` values each.
fn multiply<T: Stored, E: Packed<T>, const W_ROWS: usize>(
    x: &[T],
    weight: &[T],
    bias: &[f32],
    inputs: usize,
    out: &mut [T],
    dot: &Dot<E, W_ROWS>,
) {
    let outputs = bias.len();
    let rows = x.len() / inputs;
    let depths = || {
        (0..inputs)
            .step_by(dot.depth)
            .map(|start| start..inputs.min(start + dot.depth))
    };
    let x_tiles: Vec<Vec<Tile<E, X_ROWS>>> =
        depths().map(|depth| tiles(x, inputs, depth)).collect();
    let mut sums = vec![0.0; rows * dot.block];
    for start in (0..outputs).step_by(dot.block) {
        let block = start..outputs.min(start + dot.block);
        for row in sums.chunks_exact_mut(dot.block) {
            row[..block.len()].copy_from_slice(&bias[block.clone()]);
        }
        let weight = &weight[block.start * inputs..block.end * inputs];
        for (depth, x_tiles) in depths().zip(&x_tiles) {
            let steps = depth.len().div_ceil(STEP);
            let w_tiles: Vec<Tile<E, W_ROWS>> = tiles(weight, inputs, depth);
            for (x, sums) in x_tiles
                .chunks_exact(steps)
                .zip(sums.chunks_mut(X_ROWS * dot.block))
            {
                for (j, w) in w_tiles.chunks_exact(steps).enumerate() {
                    // SAFETY: `linear` asserts that the instructions are there.
                    let products = unsafe { (dot.products)(x, w) };
                    for (sums, products) in sums.chunks_exact_mut(dot.block).zip(&products) {
                        let sums = &mut sums[j * W_ROWS..][..W_ROWS];
                        for (sum, product) in sums.iter_mut().zip(products) {
                            *sum += product;
                        }
                    }
                }
            }
        }
        for (out, sums) in out
            .chunks_exact_mut(outputs)
            .zip(sums.chunks_exact(dot.block))
        {
            for (out, sum) in out[block.clone()].iter_mut().zip(sums) {
                *out = T::store(*sum);
            }
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
