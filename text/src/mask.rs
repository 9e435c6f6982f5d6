//! Which tokens may see which.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Added to the score of a key that is not seen. Finite, because shader compilers may assume that
/// there are no infinities.
const UNSEEN: f32 = -1e30;

/// The attention bias of right-padded causal sequences: token `i` sees the tokens `j ≤ i` that are
/// not padding. So every row sees at least its sequence's first token.
///
/// # Shapes
/// - `lengths`: tokens before the padding, one for each sequence
/// - output: f32 `[batch, 1, tokens, tokens]`
pub fn causal_bias(lengths: &[usize], tokens: usize, device: &Device) -> Tensor<4> {
    let mut bias = vec![UNSEEN; lengths.len() * tokens * tokens];
    for (matrix, &length) in bias.chunks_exact_mut(tokens * tokens).zip(lengths) {
        for (i, row) in matrix.chunks_exact_mut(tokens).enumerate() {
            row[..=i.min(length.saturating_sub(1))].fill(0.0);
        }
    }
    let data = TensorData::new(bias, [lengths.len(), 1, tokens, tokens]);
    Tensor::from_data(data, (device, DType::F32))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_see_what_is_before_them_and_no_padding() {
        let bias = causal_bias(&[2, 3], 3, &Device::flex());
        let seen: Vec<bool> = bias
            .into_data()
            .try_to_vec::<f32>()
            .unwrap()
            .iter()
            .map(|&b| b == 0.0)
            .collect();
        let (yes, no) = (true, false);
        #[rustfmt::skip]
        assert_eq!(seen, [
            yes, no,  no,
            yes, yes, no,
            yes, yes, no, // padding
            yes, no,  no,
            yes, yes, no,
            yes, yes, yes,
        ]);
    }
}
