//! Kernels of convolutions as matrices to multiply with, and back.
//!
//! Weights lie as `[out, in, taps, 3, 3]`, matrices `[out, in]` one for each tap and place. From one to the other
//! neighbours come to lie pages apart, where the processor's caches hold few at a time. So both go by stretches.

use rayon::prelude::*;

use super::conv::K;

/// Inputs whose kernels are brought to another form at a time: a line of the cache.
const INPUTS: usize = 16;

/// Pairs of channels whose kernels are brought back at a time.
const PAIRS: usize = 256;

/// All kernels, each brought to a form of so many places: `[out, taps · places, in]`, a matrix `[out, in]` for each
/// tap and place.
///
/// `weight` takes the output's channel, the input's, tap and shift.
pub(super) fn by_place<const PLACES: usize>(
    [outputs, taps, inputs]: [usize; 3],
    weight: impl Fn(usize, usize, usize, usize) -> f32 + Sync,
    form: impl Fn([f32; K * K]) -> [f32; PLACES] + Sync,
) -> Vec<f32> {
    let row = taps * PLACES * inputs;
    let mut weights = vec![0.0; outputs * row];
    let rows = weights.par_chunks_exact_mut(row).enumerate();
    rows.for_each(|(output, weights)| {
        let taps = weights.chunks_exact_mut(PLACES * inputs).enumerate();
        for (tap, weights) in taps {
            for first in (0..inputs).step_by(INPUTS) {
                let count = INPUTS.min(inputs - first);
                let mut lines = [[0.0; INPUTS]; PLACES];
                for i in 0..count {
                    let kernel = std::array::from_fn(|k| weight(output, first + i, tap, k));
                    for (line, value) in lines.iter_mut().zip(form(kernel)) {
                        line[i] = value;
                    }
                }
                for (weights, line) in weights.chunks_exact_mut(inputs).zip(&lines) {
                    weights[first..first + count].copy_from_slice(&line[..count]);
                }
            }
        }
    });
    weights
}

/// The way back: `[out, in, taps, 3, 3]` of a matrix `[out, in]` for each tap and place.
pub(super) fn by_pair<const PLACES: usize>(
    matrices: &[Vec<f32>],
    taps: usize,
    form: impl Fn([f32; PLACES]) -> [f32; K * K] + Sync,
) -> Vec<f32> {
    let row = taps * K * K;
    let mut kernels = vec![0.0; matrices[0].len() * row];
    let blocks = kernels.par_chunks_mut(PAIRS * row).enumerate();
    blocks.for_each(|(block, kernels)| {
        let mut pairs = [[0.0; PLACES]; PAIRS];
        for tap in 0..taps {
            let matrices = &matrices[tap * PLACES..][..PLACES];
            for (place, matrix) in matrices.iter().enumerate() {
                for (pair, value) in pairs.iter_mut().zip(&matrix[block * PAIRS..]) {
                    pair[place] = *value;
                }
            }
            for (kernels, pair) in kernels.chunks_exact_mut(row).zip(&pairs) {
                kernels[tap * K * K..][..K * K].copy_from_slice(&form(*pair));
            }
        }
    });
    kernels
}
