//! Matrix products of bf16 by the processor's own instruction for them (AVX-512 BF16).
//!
//! burn's CPU backend widens both matrices to f32 and multiplies those: twice the memory for every
//! weight, at half the speed. Here a weight is read once as it is: rows of both matrices are cut
//! into tiles of 32 values, and the instruction adds 32 products to 16 sums in f32.

use std::arch::x86_64::{
    __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_si512, _mm512_reduce_add_ps,
    _mm512_setzero_ps,
};

use burn::{backend::flex::FlexTensor, tensor::bf16};
use rayon::prelude::*;

use super::stored::Stored;

/// Rows of the inputs and of the weights whose products are summed up side by side: 24 of the 32
/// vector registers are sums.
const X_ROWS: usize = 6;
const W_ROWS: usize = 4;

/// Values of a row that one instruction takes.
const STEP: usize = 32;

/// Values of a row that are multiplied before the next rows take their turn: a tile of inputs
/// (12 kB) stays in the first cache.
const DEPTH: usize = 1024;

/// Rows of the weights that stay in the second cache (128 kB of a depth).
const BLOCK: usize = 64;

/// Rows of the inputs that a task takes at most; its sums are `BLOCK` times as many.
const TASK_ROWS: usize = 256 * X_ROWS;

/// One step of `ROWS` rows.
type Tile<const ROWS: usize> = [[bf16; STEP]; ROWS];

/// Whether the machine has the instruction.
pub(super) fn is_supported() -> bool {
    is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f")
}

/// `x wᵀ + bias`, rounded once.
///
/// # Shapes
/// - `x`: `[rows, inputs]`
/// - `weight`: `[inputs, outputs]`, best as the transposed view of `[outputs, inputs]`
/// - `bias`: `[outputs]`
/// - output: `[rows, outputs]`
pub(super) fn linear(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    let x = x.to_contiguous();
    let weight = weight.transpose(0, 1).to_contiguous();
    let bias = bias.to_contiguous();
    let [rows, inputs] = [0, 1].map(|axis| x.layout().shape()[axis]);
    let outputs = weight.layout().shape()[0];
    let mut out = FlexTensor::empty([rows, outputs].into(), x.dtype());
    let (weight, bias): (&[bf16], &[bf16]) = (weight.storage(), bias.storage());
    let bias: Vec<f32> = bias.iter().map(|value| value.load()).collect();

    let even = rows.div_ceil(rayon::current_num_threads());
    let task = even.next_multiple_of(X_ROWS).min(TASK_ROWS);
    let tasks = out
        .storage_mut::<bf16>()
        .par_chunks_mut(task * outputs)
        .zip(x.storage::<bf16>().par_chunks(task * inputs));
    tasks.for_each(|(out, x)| multiply(x, weight, &bias, inputs, out));
    out
}

/// The products of all rows of `x` with all of `weight`, `inputs` values each.
fn multiply(x: &[bf16], weight: &[bf16], bias: &[f32], inputs: usize, out: &mut [bf16]) {
    let outputs = bias.len();
    let rows = x.len() / inputs;
    let depths = || {
        (0..inputs)
            .step_by(DEPTH)
            .map(|start| start..inputs.min(start + DEPTH))
    };
    let x_tiles: Vec<Vec<Tile<X_ROWS>>> = depths().map(|depth| tiles(x, inputs, depth)).collect();
    let mut sums = vec![0.0; rows * BLOCK];
    for start in (0..outputs).step_by(BLOCK) {
        let block = start..outputs.min(start + BLOCK);
        for row in sums.chunks_exact_mut(BLOCK) {
            row[..block.len()].copy_from_slice(&bias[block.clone()]);
        }
        let weight = &weight[block.start * inputs..block.end * inputs];
        for (depth, x_tiles) in depths().zip(&x_tiles) {
            let steps = depth.len().div_ceil(STEP);
            let w_tiles: Vec<Tile<W_ROWS>> = tiles(weight, inputs, depth);
            for (x, sums) in x_tiles
                .chunks_exact(steps)
                .zip(sums.chunks_mut(X_ROWS * BLOCK))
            {
                for (j, w) in w_tiles.chunks_exact(steps).enumerate() {
                    // SAFETY: `is_supported` was asked before.
                    let products = unsafe { multiply_tiles(x, w) };
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
                *out = bf16::store(*sum);
            }
        }
    }
}

/// A stretch of all rows of `width` values as tiles: those of the first rows step by step, then
/// those of the next. What rows and values the last ones lack is zero.
fn tiles<const ROWS: usize>(
    values: &[bf16],
    width: usize,
    stretch: std::ops::Range<usize>,
) -> Vec<Tile<ROWS>> {
    let steps = stretch.len().div_ceil(STEP);
    let blocks = values.chunks(ROWS * width);
    let mut tiles = vec![[[bf16::from_bits(0); STEP]; ROWS]; blocks.len() * steps];
    for (tiles, rows) in tiles.chunks_exact_mut(steps).zip(blocks) {
        for (i, row) in rows.chunks_exact(width).enumerate() {
            for (tile, values) in tiles.iter_mut().zip(row[stretch.clone()].chunks(STEP)) {
                tile[i][..values.len()].copy_from_slice(values);
            }
        }
    }
    tiles
}

/// The products of each row of `x` with each of `w`.
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply_tiles(x: &[Tile<X_ROWS>], w: &[Tile<W_ROWS>]) -> [[f32; W_ROWS]; X_ROWS] {
    let mut sums = [[_mm512_setzero_ps(); W_ROWS]; X_ROWS];
    for (x, w) in x.iter().zip(w) {
        let w = w.each_ref().map(|row| load(row));
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = load(x);
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum = _mm512_dpbf16_ps(*sum, x, w);
            }
        }
    }
    sums.map(|sums| sums.map(|sum| _mm512_reduce_add_ps(sum)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn load(values: &[bf16; STEP]) -> __m512bh {
    // SAFETY: 32 values of two bytes are 64 bytes, and the load asks for no alignment; the two
    // vector types differ in name only.
    unsafe {
        let values: __m512i = _mm512_loadu_si512(values.as_ptr().cast());
        std::mem::transmute::<__m512i, __m512bh>(values)
    }
}
