//! Attention in memory linear in the length, forward and backward.
//!
//! A few queries at a time meet all keys: their scores stay in the processor's cache, and the
//! backward pass computes them again (arXiv 2112.05682; the formulas are those of arXiv 2205.14135,
//! algorithm 4). Computed in f32.

use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{
    matrix::{Matrix, View, product},
    simd::{LANES, exp, for_each_cpu, multiply_add},
    stored::{Stored, with_stored},
};

/// Scores that a thread has in memory at a time: 1 MiB of them.
const SCORES: usize = 1 << 18;

/// Rows of a head, times `factor`: `[rows, d]`.
fn head(x: &FlexTensor, [sample, head]: [usize; 2], rows: usize, factor: f32) -> Matrix {
    let (shape, strides) = (x.layout().shape(), x.layout().strides());
    let columns = shape[3];
    let start = x.layout().start_offset() as isize
        + sample as isize * strides[0]
        + head as isize * strides[1];
    let mut values = Vec::with_capacity(rows * columns);
    with_stored!(x.dtype(), T => {
        let stored: &[T] = x.storage();
        for row in 0..rows as isize {
            let first = start + row * strides[2];
            match strides[3] {
                1 => {
                    let row = &stored[first as usize..][..columns];
                    values.extend(row.iter().map(|x| x.load() * factor));
                }
                stride => values.extend((0..columns as isize).map(|column| {
                    stored[(first + column * stride) as usize].load() * factor
                })),
            }
        }
    });
    Matrix {
        values,
        rows,
        columns,
    }
}

/// Queries whose scores a thread has in memory at a time.
fn queries_at_once(keys: usize) -> usize {
    (SCORES / keys.max(1)).clamp(16, 256)
}

/// Applies `of` to the sample and number of each of `[batch, heads]`. No more heads than there are
/// threads are under way, with their matrices: threads that wait would otherwise begin all others.
fn for_heads<T: Send>([batch, heads]: [usize; 2], of: impl Fn([usize; 2]) -> T + Sync) -> Vec<T> {
    let mut results = Vec::with_capacity(batch * heads);
    for first in (0..batch * heads).step_by(rayon::current_num_threads()) {
        let end = (batch * heads).min(first + rayon::current_num_threads());
        let places = (first..end).into_par_iter();
        results.par_extend(places.map(|place| of([place / heads, place % heads])));
    }
    results
}

/// The heads of all samples times `factor` as a tensor `[batch, heads, tokens, d]`; what is missing
/// at the end of a head is zero. In memory the heads of a token lie side by side, as the next layer
/// takes them.
fn together(parts: &[Matrix], like: &FlexTensor, factor: f32) -> FlexTensor {
    let ([batch, heads, tokens, _], d) = (dims(like), parts[0].columns);
    let mut out = FlexTensor::empty([batch, tokens, heads, d].into(), like.dtype());
    with_stored!(like.dtype(), T => {
        let values: &mut [T] = out.storage_mut();
        let rows = values.par_chunks_mut(heads * d).with_min_len(64).enumerate();
        rows.for_each(|(row, out)| {
            let (sample, token) = (row / tokens, row % tokens);
            let parts = &parts[sample * heads..(sample + 1) * heads];
            for (out, part) in out.chunks_exact_mut(d).zip(parts) {
                match part.values.get(token * d..(token + 1) * d) {
                    Some(x) => out.iter_mut().zip(x).for_each(|(out, x)| *out = T::store(x * factor)),
                    None => out.fill(T::store(0.0)),
                }
            }
        });
    });
    out.transpose(1, 2)
}

/// Replaces rows of scores by `e^(score − largest)`, and each row's sum is put into `sums`.
fn exponentials(scores: &mut [f32], keys: usize, sums: &mut [f32]) {
    for (row, sum) in scores.chunks_exact_mut(keys).zip(sums) {
        exponentials_of_row(row, sum);
    }
}

for_each_cpu! {
    fn exponentials_of_row(row: &mut [f32], sum: &mut f32) = exponentials_of_row_body
}

#[inline(always)]
fn exponentials_of_row_body<const FUSED: bool>(row: &mut [f32], sum: &mut f32) {
    let mut largest = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            largest[lane] = largest[lane].max(chunk[lane]);
        }
    }
    let largest = largest
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0.0; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp::<FUSED>(chunk[lane] - largest);
            sums[lane] += chunk[lane];
        }
    }
    for x in rest.iter_mut() {
        *x = exp::<FUSED>(*x - largest);
    }
    *sum = sums.iter().chain(rest.iter()).sum();
}

/// See [`attention_within`](crate::attention_within).
pub(super) fn forward(
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    lengths: &[usize],
) -> FlexTensor {
    let [batch, heads, queries, d] = dims(&q);
    let scale = 1.0 / (d as f32).sqrt();
    let parts = for_heads([batch, heads], |place| {
        let keys = lengths[place[0]];
        let q = head(&q, place, queries, scale);
        let [k, v] = [&k, &v].map(|x| head(x, place, keys, 1.0));
        attend(&q, &k, &v, |_, _| ())
    });
    together(&parts, &q, 1.0)
}

/// See [`attention_with_bias`](crate::attention_with_bias); `bias` in f32, each axis as long as the scores' or 1.
pub(super) fn forward_with_bias(
    q: FlexTensor,
    k: FlexTensor,
    v: FlexTensor,
    bias: FlexTensor,
) -> FlexTensor {
    let ([batch, heads, queries, d], keys) = (dims(&q), dims(&k)[2]);
    let scale = 1.0 / (d as f32).sqrt();
    let bias = bias.to_contiguous();
    let (extents, bias): (_, &[f32]) = (dims(&bias), bias.storage());
    let parts = for_heads([batch, heads], |[sample, number]| {
        let q = head(&q, [sample, number], queries, scale);
        let [k, v] = [&k, &v].map(|x| head(x, [sample, number], keys, 1.0));
        attend(&q, &k, &v, |query, scores| {
            if extents[3] == 1 {
                return; // What all keys are given alike moves no weight.
            }
            // What is broadcast has one place along an axis.
            let [i, j, k] = [0, 1, 2].map(|a| [sample, number, query][a].min(extents[a] - 1));
            let row = (i * extents[1] + j) * extents[2] + k;
            let row = &bias[row * keys..(row + 1) * keys];
            scores.iter_mut().zip(row).for_each(|(x, bias)| *x += bias);
        })
    });
    together(&parts, &q, 1.0)
}

/// `softmax(q kᵀ + bias) v`, where `add_bias` takes a query's number and scores; threads that no other head
/// keeps busy share the queries.
fn attend(
    q: &Matrix,
    k: &Matrix,
    v: &Matrix,
    add_bias: impl Fn(usize, &mut [f32]) + Sync,
) -> Matrix {
    let (keys, channels) = (k.rows, v.columns);
    let at_once = queries_at_once(keys).min(q.rows);
    let mut out = Matrix::zeros(q.rows, channels);
    let scratch = || (vec![0.0; at_once * keys], vec![0.0; at_once]);
    let stretches = out.values.par_chunks_mut(at_once * channels).enumerate();
    stretches.for_each_init(scratch, |(scores, sums), (index, out)| {
        let start = index * at_once;
        let q = q.rows(start, (start + at_once).min(q.rows));
        let scores = &mut scores[..q.rows * keys];
        product(scores, q, k.view().transpose(), false);
        for (query, scores) in (start..).zip(scores.chunks_exact_mut(keys)) {
            add_bias(query, scores);
        }
        exponentials(scores, keys, sums);
        product(out, View::new(scores, q.rows, keys), v.view(), false);
        for (row, sum) in out.chunks_exact_mut(channels).zip(sums) {
            row.iter_mut().for_each(|x| *x /= *sum);
        }
    });
    out
}

/// The gradients of [`forward`] for queries, keys and values.
pub(super) fn backward(
    [q, k, v]: [FlexTensor; 3],
    gradient: FlexTensor,
    lengths: &[usize],
) -> [Option<FlexTensor>; 3] {
    let [batch, heads, queries, d] = dims(&q);
    let scale = 1.0 / (d as f32).sqrt();
    let parts = for_heads([batch, heads], |place| {
        let keys = lengths[place[0]];
        let gradient = head(&gradient, place, queries, 1.0);
        let q = head(&q, place, queries, scale);
        let [k, v] = [&k, &v].map(|x| head(x, place, keys, 1.0));
        let [q, k, v] = attend_backward(&q, &k, &v, &gradient);
        (q, (k, v))
    });
    let (for_q, (for_k, for_v)): (Vec<_>, (Vec<_>, Vec<_>)) = parts.into_iter().unzip();
    [
        Some(together(&for_q, &q, scale)),
        Some(together(&for_k, &k, 1.0)),
        Some(together(&for_v, &v, 1.0)),
    ]
}

/// The gradients of [`attend`] for its inputs: with the weights `P = softmax(q kᵀ)`,
/// `dV = Pᵀ dO`, `dP = dO vᵀ`, `dS = P ∘ (dP − rowsum(P ∘ dP))`, `dQ = dS k`, `dK = dSᵀ q`.
fn attend_backward(q: &Matrix, k: &Matrix, v: &Matrix, gradient: &Matrix) -> [Matrix; 3] {
    let keys = k.rows;
    let at_once = queries_at_once(keys).min(q.rows);
    let mut outs = [q, k, v].map(|x| Matrix::zeros(x.rows, x.columns));
    let [for_q, for_k, for_v] = &mut outs;
    let mut weights = vec![0.0; at_once * keys];
    let mut for_scores = vec![0.0; at_once * keys];
    let mut sums = vec![0.0; at_once];
    for start in (0..q.rows).step_by(at_once) {
        let end = (start + at_once).min(q.rows);
        let (q, gradient) = (q.rows(start, end), gradient.rows(start, end));
        let weights = &mut weights[..q.rows * keys];
        let for_scores = &mut for_scores[..q.rows * keys];

        product(weights, q, k.view().transpose(), false);
        exponentials(weights, keys, &mut sums);
        product(for_scores, gradient, v.view().transpose(), false);
        let rows = weights
            .chunks_exact_mut(keys)
            .zip(for_scores.chunks_exact_mut(keys));
        for ((weights, for_scores), &sum) in rows.zip(&sums) {
            scores_backward(weights, sum, for_scores);
        }

        let weights = View::new(weights, q.rows, keys);
        let for_scores = View::new(for_scores, q.rows, keys);
        product(&mut for_v.values, weights.transpose(), gradient, true);
        product(&mut for_k.values, for_scores.transpose(), q, true);
        let for_q = &mut for_q.values[start * q.columns..end * q.columns];
        product(for_q, for_scores, k.view(), false);
    }
    outs
}

for_each_cpu! {
    /// Divides a row of exponentials by their sum, which gives the weights, and turns the gradient
    /// of the weights into that of the scores.
    fn scores_backward(weights: &mut [f32], sum: f32, gradient: &mut [f32]) = scores_backward_body
}

#[inline(always)]
fn scores_backward_body<const FUSED: bool>(weights: &mut [f32], sum: f32, gradient: &mut [f32]) {
    let inverse = 1.0 / sum;
    weights.iter_mut().for_each(|x| *x *= inverse);
    let mut sums = [0.0; LANES];
    let ((w, w_rest), (g, g_rest)) = (weights.as_chunks::<LANES>(), gradient.as_chunks::<LANES>());
    for (w, g) in w.iter().zip(g) {
        for lane in 0..LANES {
            sums[lane] = multiply_add::<FUSED>(w[lane], g[lane], sums[lane]);
        }
    }
    let rest = w_rest.iter().zip(g_rest).map(|(w, g)| w * g);
    let total = sums.iter().sum::<f32>() + rest.sum::<f32>();
    for (g, w) in gradient.iter_mut().zip(weights) {
        *g = (*g - total) * *w;
    }
}

fn dims(x: &FlexTensor) -> [usize; 4] {
    x.layout().shape().dims()
}
