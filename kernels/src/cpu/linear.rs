//! Matrix products of inputs with weights as files hold them: rows of both, value by value.
//!
//! burn's CPU backend copies a weight in bf16 before each product, widened to f32. For the few hundred
//! rows of a prompt that is a large part of the time. Here a weight is read once as it is: rows of both
//! matrices are cut into tiles of 32 values, and one instruction adds 16 products to 16 sums, or 32
//! where the processor multiplies bf16 (AVX-512 BF16). Sums are f32. In f32 burn's product copies
//! nothing either and takes a quarter longer.
//!
//! The products are loops over indices, without closures: what the compiler does not inline, as in some builds
//! it did not, keeps the sums in memory instead of registers, and products take twice as long.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::{
    __m512, __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_reduce_add_ps, _mm512_setzero_ps,
};

use burn::{
    backend::flex::FlexTensor,
    tensor::{DType, bf16},
};
use rayon::prelude::*;

use super::stored::Stored;

/// Rows of the inputs and of the weights whose products are summed up side by side: 24 of the 32
/// vector registers are sums.
const X_ROWS: usize = 6;
const W_ROWS: usize = 4;

/// Values of a row in a tile.
const STEP: usize = 32;

/// Values of a row that are multiplied before the next rows take their turn: a tile of inputs
/// (12 or 24 kB) stays in the first cache.
const DEPTH: usize = 1024;

/// Rows of the weights that stay in the second cache (128 or 256 kB of a depth).
const BLOCK: usize = 64;

/// Rows of the inputs that a task takes at most; its sums are `BLOCK` times as many.
const TASK_ROWS: usize = 256 * X_ROWS;

/// One step of `ROWS` rows.
type Tile<T, const ROWS: usize> = [[T; STEP]; ROWS];

/// A number format whose products the machine may have.
trait Multiplied: Stored + burn::tensor::Element + bytemuck::Pod {
    /// The products of each row of `x` with each of `w`.
    ///
    /// # Safety
    /// [`is_supported`] was asked.
    unsafe fn multiply(
        x: &[Tile<Self, X_ROWS>],
        w: &[Tile<Self, W_ROWS>],
    ) -> [[f32; W_ROWS]; X_ROWS];
}

/// Whether the machine has the instruction for values of `dtype`.
pub(super) fn is_supported(dtype: DType) -> bool {
    let has_format = match dtype {
        DType::BF16 => is_x86_feature_detected!("avx512bf16"),
        dtype => dtype == DType::F32,
    };
    has_format && is_x86_feature_detected!("avx512f")
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
/// Where it [is not supported](is_supported).
pub(super) fn linear(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
    assert!(is_supported(x.dtype()), "the instructions that this takes");
    match x.dtype() {
        DType::BF16 => linear_of::<bf16>(x, weight, bias),
        _ => linear_of::<f32>(x, weight, bias),
    }
}

fn linear_of<T: Multiplied>(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
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
    tasks.for_each(|(out, x)| multiply(x, weight, &bias, inputs, out));
    out
}

/// The products of all rows of `x` with all of `weight`, `inputs` values each.
fn multiply<T: Multiplied>(x: &[T], weight: &[T], bias: &[f32], inputs: usize, out: &mut [T]) {
    let outputs = bias.len();
    let rows = x.len() / inputs;
    let depths = || {
        (0..inputs)
            .step_by(DEPTH)
            .map(|start| start..inputs.min(start + DEPTH))
    };
    let x_tiles: Vec<Vec<Tile<T, X_ROWS>>> =
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
            let w_tiles: Vec<Tile<T, W_ROWS>> = tiles(weight, inputs, depth);
            for (x, sums) in x_tiles
                .chunks_exact(steps)
                .zip(sums.chunks_mut(X_ROWS * BLOCK))
            {
                for (j, w) in w_tiles.chunks_exact(steps).enumerate() {
                    // SAFETY: `linear` asserts that the instructions are there.
                    let products = unsafe { T::multiply(x, w) };
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

/// A stretch of all rows of `width` values as tiles: those of the first rows step by step, then
/// those of the next. What rows and values the last ones lack is zero.
fn tiles<T: Multiplied, const ROWS: usize>(
    values: &[T],
    width: usize,
    stretch: std::ops::Range<usize>,
) -> Vec<Tile<T, ROWS>> {
    let steps = stretch.len().div_ceil(STEP);
    let blocks = values.chunks(ROWS * width);
    let mut tiles = vec![[[T::store(0.0); STEP]; ROWS]; blocks.len() * steps];
    for (tiles, rows) in tiles.chunks_exact_mut(steps).zip(blocks) {
        for (i, row) in rows.chunks_exact(width).enumerate() {
            for (tile, values) in tiles.iter_mut().zip(row[stretch.clone()].chunks(STEP)) {
                tile[i][..values.len()].copy_from_slice(values);
            }
        }
    }
    tiles
}

impl Multiplied for bf16 {
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn multiply(
        x: &[Tile<Self, X_ROWS>],
        w: &[Tile<Self, W_ROWS>],
    ) -> [[f32; W_ROWS]; X_ROWS] {
        let mut sums = [[_mm512_setzero_ps(); W_ROWS]; X_ROWS];
        for (x, w) in x.iter().zip(w) {
            let w = [load(&w[0]), load(&w[1]), load(&w[2]), load(&w[3])];
            for i in 0..X_ROWS {
                let x = load(&x[i]);
                for j in 0..W_ROWS {
                    sums[i][j] = _mm512_dpbf16_ps(sums[i][j], x, w[j]);
                }
            }
        }
        reduced(sums)
    }
}

impl Multiplied for f32 {
    #[target_feature(enable = "avx512f")]
    unsafe fn multiply(
        x: &[Tile<Self, X_ROWS>],
        w: &[Tile<Self, W_ROWS>],
    ) -> [[f32; W_ROWS]; X_ROWS] {
        let mut sums = [[_mm512_setzero_ps(); W_ROWS]; X_ROWS];
        for (x, w) in x.iter().zip(w) {
            let low = [low(&w[0]), low(&w[1]), low(&w[2]), low(&w[3])];
            for i in 0..X_ROWS {
                let x = self::low(&x[i]);
                for j in 0..W_ROWS {
                    sums[i][j] = _mm512_fmadd_ps(x, low[j], sums[i][j]);
                }
            }
            let high = [high(&w[0]), high(&w[1]), high(&w[2]), high(&w[3])];
            for i in 0..X_ROWS {
                let x = self::high(&x[i]);
                for j in 0..W_ROWS {
                    sums[i][j] = _mm512_fmadd_ps(x, high[j], sums[i][j]);
                }
            }
        }
        reduced(sums)
    }
}

/// Each sum of 16 as one number.
#[inline]
#[target_feature(enable = "avx512f")]
fn reduced(sums: [[__m512; W_ROWS]; X_ROWS]) -> [[f32; W_ROWS]; X_ROWS] {
    let mut reduced = [[0.0; W_ROWS]; X_ROWS];
    for i in 0..X_ROWS {
        for j in 0..W_ROWS {
            reduced[i][j] = _mm512_reduce_add_ps(sums[i][j]);
        }
    }
    reduced
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

/// The first half of a step.
#[inline]
#[target_feature(enable = "avx512f")]
fn low(values: &[f32; STEP]) -> __m512 {
    // SAFETY: 16 values of four bytes are 64 bytes, and the load asks for no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// The second half of a step.
#[inline]
#[target_feature(enable = "avx512f")]
fn high(values: &[f32; STEP]) -> __m512 {
    // SAFETY: as the first half's; it begins half a step later.
    unsafe { _mm512_loadu_ps(values.as_ptr().add(STEP / 2)) }
}
