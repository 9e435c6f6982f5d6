//! Which tokens may see which.

use burn::tensor::{DType, Device, Tensor, TensorData};

/// Added to the score of a key that is not seen. Finite, because shader compilers may assume that
/// there are no infinities.
const UNSEEN: f32 = -1e30;

/// The attention bias of causal sequences: token `i` sees the tokens `j ≤ i`. Padding at the end needs
/// no more: no token before it sees it.
///
/// # Shapes
/// - output: f32 `[1, 1, tokens, tokens]`
pub fn causal_bias(tokens: usize, device: &Device) -> Tensor<4> {
    let mut bias = vec![UNSEEN; tokens * tokens];
    for (i, row) in bias.chunks_exact_mut(tokens).enumerate() {
        row[..=i].fill(0.0);
    }
    let data = TensorData::new(bias, [1, 1, tokens, tokens]);
    Tensor::from_data(data, (device, DType::F32))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn rows_see_what_is_before_them() {
        let bias = causal_bias(3, &Device::flex());
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
            yes, yes, yes,
        ]);
    }
}
