//! Scaled dot-product attention.

use burn::tensor::{DType, Tensor, activation::softmax, module, ops::AttentionModuleOptions};

/// The accelerated kernels of CubeCL take query lengths in multiples of their stage and fall back
/// to materialised scores otherwise, silently; this is the largest stage.
const QUERY_STAGE: usize = 128;

/// Below this query length the materialised scores are small, and padding would cost more.
const PAD_QUERIES_FROM: usize = 1024;

/// `softmax(q kᵀ / √d) v` without a mask, in memory linear in the length where the backend has a
/// fused kernel.
///
/// There is deliberately no mask: tokens that do not take part are to be dropped by the caller,
/// which is exact, costs nothing, and keeps every backend on its fast path.
///
/// Under automatic differentiation the backward pass is linear in memory too (feature `autodiff`).
///
/// # Shapes
/// - `q`: `[batch, heads, queries, d]`
/// - `k`, `v`: `[batch, heads, keys, d]`
/// - output: `[batch, heads, queries, d]`
pub fn attention(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if let Some(out) = crate::cpu::attention_within(&q, &k, &v, &vec![k.dims()[2]; k.dims()[0]]) {
        return out;
    }
    composed(q, k, v)
}

/// [`attention`] of all queries of sample `i` over its first `lengths[i]` keys.
///
/// Where padding sits at the end of a sample, this is the mask for it. The outputs at padded
/// positions are finite, and mean nothing.
///
/// # Panics
/// Unless every sample has a length, of at least one key and no more than there are.
pub fn attention_within(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, lengths: &[usize]) -> Tensor<4> {
    let [batch, _, keys, _] = k.dims();
    assert!(
        lengths.len() == batch && lengths.iter().all(|length| (1..=keys).contains(length)),
        "lengths {lengths:?} of {batch} samples with {keys} keys each"
    );
    #[cfg(feature = "cpu")]
    if let Some(out) = crate::cpu::attention_within(&q, &k, &v, lengths) {
        return out;
    }
    if lengths.iter().all(|&length| length == keys) {
        return composed(q, k, v);
    }
    let sample = |i: usize| {
        let [q, k, v] = [&q, &k, &v].map(|x| x.clone().narrow(0, i, 1));
        let [k, v] = [k, v].map(|x| x.narrow(2, 0, lengths[i]));
        composed(q, k, v)
    };
    Tensor::cat((0..batch).map(sample).collect(), 0)
}

/// By the backend's own kernel, which some take a padded query for.
fn composed(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    let queries = q.dims()[2];
    let padded = queries.next_multiple_of(QUERY_STAGE);
    let pad = queries >= PAD_QUERIES_FROM && padded != queries;
    let q = if pad {
        let [batch, heads, _, d] = q.dims();
        let rest = Tensor::zeros(
            [batch, heads, padded - queries, d],
            (&q.device(), q.dtype()),
        );
        Tensor::cat(vec![q, rest], 2)
    } else {
        q
    };
    let out = fused(q, k, v);
    if pad { out.narrow(2, 0, queries) } else { out }
}

/// The backend's own kernel, with a backward pass where there is automatic differentiation.
fn fused(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "autodiff")]
    if [&q, &k, &v].iter().any(|x| x.is_autodiff()) {
        return crate::attention_backward::differentiable(q, k, v);
    }
    let queries = q.dims()[2];
    debug_assert!(
        queries < PAD_QUERIES_FROM || queries.is_multiple_of(QUERY_STAGE),
        "{queries} queries would materialise their scores"
    );
    let options = AttentionModuleOptions::default();
    module::attention(q, k, v, None, None, options)
}

/// `softmax(q kᵀ / √d + bias) v` with scores and softmax in f32.
///
/// The scores are materialised: this is for the text encoders, whose sequences hold at most a few
/// hundred tokens. A `bias` far below all scores excludes a key. Let it be finite, such as −1e30:
/// shader compilers may assume that there are no infinities. A row whose keys are all excluded is
/// undefined.
///
/// # Shapes
/// - `q`: `[batch, heads, queries, d]`
/// - `k`, `v`: `[batch, heads, keys, d]`
/// - `bias`: f32, broadcast to `[batch, heads, queries, keys]`
/// - output: `[batch, heads, queries, d]`, in `q`'s dtype
pub fn attention_with_bias(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, bias: Tensor<4>) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if let Some(out) = crate::cpu::attention_with_bias(&q, &k, &v, &bias) {
        return out;
    }
    let dtype = q.dtype();
    let scale = 1.0 / (q.dims()[3] as f64).sqrt();
    let scores = q.cast(DType::F32).matmul(k.cast(DType::F32).transpose()) * scale + bias;
    softmax(scores, 3).matmul(v.cast(DType::F32)).cast(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random;

    /// `softmax(q kᵀ / √d) v`, written out.
    fn expected(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>) -> Tensor<4> {
        let d = q.dims()[3] as f64;
        let scores = (q.matmul(k.transpose()) / d.sqrt()).exp();
        let sums = scores.clone().sum_dim(3);
        (scores / sums).matmul(v)
    }

    fn assert_equal(a: Tensor<4>, b: Tensor<4>) {
        let error = (a - b).abs().max().into_scalar::<f32>();
        assert!(error < 1e-5, "{error}");
    }

    #[test]
    fn attention_is_its_formula_padded_or_not() {
        // Below and above the length from which queries are padded, multiples of the stage or not.
        for queries in [1, 7, 128, 1024, 1031] {
            let q = random([1, 2, queries, 16]);
            let (k, v) = (random([1, 2, 33, 16]), random([1, 2, 33, 16]));
            let out = attention(q.clone(), k.clone(), v.clone());
            assert_eq!(out.dims(), [1, 2, queries, 16]);
            assert_equal(out, expected(q, k, v));
        }
    }

    #[test]
    fn a_bias_far_below_all_scores_removes_a_key() {
        let (q, k, v) = (
            random([2, 3, 5, 8]),
            random([2, 3, 4, 8]),
            random([2, 3, 4, 8]),
        );
        let [few_k, few_v] = [&k, &v].map(|x| x.clone().narrow(2, 0, 3));
        let expected = expected(q.clone(), few_k, few_v);
        for unseen in [-1e30, f32::NEG_INFINITY] {
            let bias = Tensor::<1>::from_floats([0.0, 0.0, 0.0, unseen], &q.device());
            let bias = bias.reshape([1, 1, 1, 4]);
            let out = attention_with_bias(q.clone(), k.clone(), v.clone(), bias);
            assert_equal(out, expected.clone());
        }
    }

    /// One for all, or one for each sample, head, query or key, in each combination.
    #[test]
    fn a_bias_is_added_to_the_scores_that_it_is_of() {
        let ([batch, heads, queries, keys], d) = ([2, 3, 5, 4], 8);
        let q = random([batch, heads, queries, d]);
        let [k, v] = [0; 2].map(|_| random([batch, heads, keys, d]));
        let scores = q.clone().matmul(k.clone().transpose()) / (d as f64).sqrt();
        for which in 0..16 {
            let axes = [batch, heads, queries, keys];
            let shape = std::array::from_fn(|i| if which >> i & 1 == 1 { axes[i] } else { 1 });
            let bias: Tensor<4> = random(shape);
            let expected = softmax(scores.clone() + bias.clone(), 3).matmul(v.clone());
            let out = attention_with_bias(q.clone(), k.clone(), v.clone(), bias);
            assert_equal(out, expected);
        }
    }

    #[test]
    #[should_panic(expected = "lengths [3, 5] of 2 samples with 4 keys each")]
    fn a_length_of_more_keys_than_there_are_is_refused() {
        let [q, k, v] = [
            random([2, 1, 2, 8]),
            random([2, 1, 4, 8]),
            random([2, 1, 4, 8]),
        ];
        attention_within(q, k, v, &[3, 5]);
    }
}
