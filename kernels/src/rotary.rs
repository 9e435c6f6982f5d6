//! Rotary position embedding on interleaved pairs.

use burn::tensor::{DType, Tensor};

/// Rotates each channel pair `(x[2i], x[2i+1])` by the angle given for its position, in f32.
///
/// # Shapes
/// - `x`: `[batch, tokens, heads, d]`
/// - `cos`, `sin`: f32 `[tokens, d / 2]`
/// - output: as `x`, in `x`'s dtype
///
/// RoFormer, arXiv 2104.09864, equation 34.
pub fn rotate_pairs(x: Tensor<4>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<4> {
    #[cfg(feature = "cpu")]
    if let Some(out) = crate::cpu::rotate_pairs(&x, &cos, &sin) {
        return out;
    }
    #[cfg(feature = "cubecl")]
    if let Some(out) = crate::cube::rotate_pairs(&x, &cos, &sin) {
        return out;
    }
    composed(x, cos, sin)
}

/// As tensor operations.
pub(crate) fn composed(x: Tensor<4>, cos: Tensor<2>, sin: Tensor<2>) -> Tensor<4> {
    let dtype = x.dtype();
    let [batch, tokens, heads, d] = x.dims();
    let pairs = x.cast(DType::F32).reshape([batch, tokens, heads, d / 2, 2]);
    let even = pairs.clone().narrow(4, 0, 1);
    let odd = pairs.narrow(4, 1, 1);
    let cos = cos.reshape([1, tokens, 1, d / 2, 1]);
    let sin = sin.reshape([1, tokens, 1, d / 2, 1]);
    let rotated = Tensor::cat(
        vec![
            even.clone() * cos.clone() - odd.clone() * sin.clone(),
            odd * cos + even * sin,
        ],
        4,
    );
    rotated.reshape([batch, tokens, heads, d]).cast(dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    #[test]
    fn pairs_turn_by_their_angle() {
        let device = Device::flex();
        let angles = Tensor::<2>::from_floats([[0.5, -1.0], [2.0, 0.0]], &device);
        let x =
            Tensor::<4>::from_floats([[[[1.0, 0.0, 0.0, 2.0]], [[3.0, 4.0, 5.0, 6.0]]]], &device);
        let out = rotate_pairs(x, angles.clone().cos(), angles.sin()).into_data();
        let (c, s) = (2.0_f32.cos(), 2.0_f32.sin());
        let expected = [
            0.5_f32.cos(),
            0.5_f32.sin(),
            2.0 * 1.0_f32.sin(),
            2.0 * 1.0_f32.cos(),
            3.0 * c - 4.0 * s,
            4.0 * c + 3.0 * s,
            5.0,
            6.0,
        ];
        for (ours, expected) in out.try_to_vec::<f32>().unwrap().iter().zip(expected) {
            assert!((ours - expected).abs() < 1e-6, "{ours} {expected}");
        }
    }
}
