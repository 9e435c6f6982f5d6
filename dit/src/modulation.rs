//! Modulation: shifts, scales and gates from the conditioning vector.

use burn::{nn::Linear, tensor::Tensor};
use burn_hunyuan_kernels::{linear, silu};

/// `linear(SiLU(vec))`: the vectors that shift, scale and gate tokens, one after the other (adaLN,
/// arXiv 2212.09748).
///
/// # Shapes
/// - `vec`: `[batch, width]`
/// - output: `[batch, vectors * width]`
pub fn modulation(layer: &Linear, vec: &Tensor<2>) -> Tensor<2> {
    linear(layer, silu(vec.clone()))
}

/// The `N` vectors of a [`modulation`], which broadcast over tokens: `[batch, 1, width]`.
pub(crate) fn vectors<const N: usize>(modulation: Tensor<2>) -> [Tensor<3>; N] {
    let all = modulation.unsqueeze_dim::<3>(1);
    let width = all.dims()[2] / N;
    std::array::from_fn(|i| all.clone().narrow(2, i * width, width))
}
