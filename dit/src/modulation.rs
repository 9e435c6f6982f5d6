//! Modulation: shifts, scales and gates from the conditioning vector.

use burn::{nn::Linear, tensor::Tensor};
use burn_hunyuan_kernels::{linear, silu};

/// `linear(SiLU(vec))` cut into `N` vectors that broadcast over tokens (adaLN, arXiv 2212.09748).
///
/// # Shapes
/// - `vec`: `[batch, width]`
/// - outputs: `[batch, 1, width]`
pub(crate) fn modulation<const N: usize>(layer: &Linear, vec: &Tensor<2>) -> [Tensor<3>; N] {
    let all = linear(layer, silu(vec.clone())).unsqueeze_dim::<3>(1);
    let width = all.dims()[2] / N;
    std::array::from_fn(|i| all.clone().narrow(2, i * width, width))
}
