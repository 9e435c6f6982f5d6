//! Attention in which every sample sees its own tokens only.

use burn::tensor::Tensor;
use burn_hunyuan_kernels::attention_within;

/// Cuts the channels of `x` into heads.
///
/// # Shapes
/// - `x`: `[batch, tokens, heads * head_dim]`
/// - output: `[batch, tokens, heads, head_dim]`
pub(crate) fn split_heads(x: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, tokens, width] = x.dims();
    x.reshape([batch, tokens, heads, width / heads])
}

/// Attention of all queries of sample `i` over its first `lengths[i]` keys, which leaves out the
/// padding at its end.
///
/// # Shapes
/// - `q`, `k`, `v`: `[batch, tokens, heads, head_dim]`
/// - output: `[batch, tokens, heads * head_dim]`
pub(crate) fn attend(q: Tensor<4>, k: Tensor<4>, v: Tensor<4>, lengths: &[usize]) -> Tensor<3> {
    let [batch, tokens, heads, head_dim] = q.dims();
    let [q, k, v] = [q, k, v].map(|x| x.swap_dims(1, 2)); // [batch, heads, tokens, head_dim]
    attention_within(q, k, v, lengths)
        .swap_dims(1, 2)
        .reshape([batch, tokens, heads * head_dim])
}
