//! Sums of products of rows, by the instructions that a machine may have.
//!
//! One instruction adds 8 or 16 products to as many sums, or 32 where the processor multiplies bf16. The
//! products are loops over indices, without closures: what the compiler does not inline, as in some builds
//! it did not, keeps the sums in memory instead of registers, and products take twice as long.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use burn::tensor::{DType, bf16};

/// Rows of the inputs whose products are summed up side by side.
pub(super) const X_ROWS: usize = 6;

/// Rows of the weights, with AVX-512: 24 of 32 vector registers are sums.
pub(super) const W_ROWS: usize = 4;

/// Values of a row in a tile.
pub(super) const STEP: usize = 32;

/// One step of `ROWS` rows.
pub(super) type Tile<T, const ROWS: usize> = [[T; STEP]; ROWS];

/// What products are added up by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Instructions {
    /// [`avx512_bf16`]
    Avx512Bf16,
    /// [`avx512`]
    Avx512,
    /// [`avx2`]
    Avx2,
}

/// Rows of inputs up to which AVX2 multiplies in f32; with more, burn's product is no slower (docs/performance.md).
const FEW: usize = 384;

impl Instructions {
    /// The fastest for `rows` of inputs in `dtype` that the machine has; none where burn's own product is as
    /// fast.
    pub fn fastest(dtype: DType, rows: usize) -> Option<Self> {
        let all: &[Self] = match dtype {
            DType::BF16 => &[Self::Avx512Bf16, Self::Avx512, Self::Avx2],
            DType::F32 if rows <= FEW => &[Self::Avx512, Self::Avx2],
            DType::F32 => &[Self::Avx512],
            _ => &[],
        };
        all.iter().copied().find(|this| this.are_here())
    }

    /// Whether the machine has them.
    pub fn are_here(self) -> bool {
        let avx512 = is_x86_feature_detected!("avx512f");
        match self {
            Self::Avx512Bf16 => avx512 && is_x86_feature_detected!("avx512bf16"),
            Self::Avx512 => avx512,
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
        }
    }
}

/// The products of each row of `x` with each of `w`, in bf16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) fn avx512_bf16(
    x: &[Tile<bf16, X_ROWS>],
    w: &[Tile<bf16, W_ROWS>],
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

/// The products of each row of `x` with each of `w`.
#[target_feature(enable = "avx512f")]
pub(super) fn avx512(x: &[Tile<f32, X_ROWS>], w: &[Tile<f32, W_ROWS>]) -> [[f32; W_ROWS]; X_ROWS] {
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

/// The products of each row of `x` with two rows of weights, of as many steps or more.
#[target_feature(enable = "avx2,fma")]
pub(super) fn avx2(x: &[Tile<f32, X_ROWS>], w: [&[f32]; 2]) -> [[f32; 2]; X_ROWS] {
    let mut sums = [[_mm256_setzero_ps(); 2]; X_ROWS];
    let (first, second) = (w[0].as_chunks().0, w[1].as_chunks().0);
    for ((x, first), second) in x.iter().zip(first).zip(second) {
        for part in 0..STEP / 8 {
            let w = [load_8(first, part), load_8(second, part)];
            for i in 0..X_ROWS {
                let x = load_8(&x[i], part);
                for j in 0..2 {
                    sums[i][j] = _mm256_fmadd_ps(x, w[j], sums[i][j]);
                }
            }
        }
    }
    let mut reduced = [[0.0; 2]; X_ROWS];
    for i in (0..X_ROWS).step_by(2) {
        let [a, b] = sums_of_8([sums[i], sums[i + 1]]);
        (reduced[i], reduced[i + 1]) = (a, b);
    }
    reduced
}

/// Asks for values that will be read soon, whole lines of the cache.
pub(super) fn prefetch<T>(values: &[T]) {
    for line in values.chunks(64 / size_of::<T>()) {
        // SAFETY: nothing is read, and every x86-64 has the instruction.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.as_ptr().cast()) }
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

/// Four sums of 8, each as one number.
#[inline]
#[target_feature(enable = "avx2")]
fn sums_of_8([a, b]: [[__m256; 2]; 2]) -> [[f32; 2]; 2] {
    // Sums of two neighbours of each, then of four; the first and the second half of each are left.
    let fours = _mm256_hadd_ps(_mm256_hadd_ps(a[0], a[1]), _mm256_hadd_ps(b[0], b[1]));
    let sums = _mm_add_ps(
        _mm256_castps256_ps128(fours),
        _mm256_extractf128_ps(fours, 1),
    );
    // SAFETY: both are 16 bytes, of which any are valid.
    unsafe { std::mem::transmute::<__m128, [[f32; 2]; 2]>(sums) }
}

/// Eight values of a step.
#[inline]
#[target_feature(enable = "avx2")]
fn load_8(values: &[f32; STEP], part: usize) -> __m256 {
    let values: &[f32; 8] = &values.as_chunks().0[part];
    // SAFETY: 8 values of four bytes are 32 bytes, and the load asks for no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
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
