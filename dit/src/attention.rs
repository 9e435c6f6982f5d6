//! Attention in which every sample sees its own tokens only.

use burn::tensor::Tensor;
use burn_hunyuan_kernels::attention;

/// Cuts the channels of `x` into heads.
///
/// # Shapes
/// - `x`: `[batch, tokens, heads * head_dim]`
/// - output: `[batch, tokens, heads, head_dim]`
pub(crate) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, tokens, width] = x.dims();
    x.reshape([batch, tokens, heads, width / heads])
}

/// Attention of all queries of sample `i` over its first `lengths[i]` keys.
///
/// Padding sits at the end of a sample, so narrowing the keys is a mask that costs nothing. The
/// outputs at padded positions are finite and are never looked at.
///
/// # Shapes
/// - `q`, `k`, `v`: `[batch, tokens, heads, head_dim]`
/// - output: `[batch, tokens, heads * head_dim]`
pub(crate) fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, lengths: &[usize]) -> Tensor<3> {
    let [batch, tokens, heads, head_dim] = q.dims();
    let [q, k, v] = [q, k, v].map(|x| x.swap_dims(1, 2)); // [batch, heads, tokens, head_dim]
    let out = if lengths.iter().all(|&length| length == tokens) {
        attention(q, k, v)
    } else {
        let sample = |i: usize| {
            let [q, k, v] = [&q, &k, &v].map(|x| x.clone().narrow(0, i, 1));
            let [k, v] = [k, v].map(|x| x.narrow(2, 0, lengths[i]));
            attention(q, k, v)
        };
        Tensor::cat((0..batch).map(sample).collect(), 0)
    };
    out.swap_dims(1, 2)
        .reshape([batch, tokens, heads * head_dim])
}
