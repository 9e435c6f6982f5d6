//! Activations, in the input's dtype.

use burn::tensor::{Tensor, activation::sigmoid};

/// `x · sigmoid(x)`.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.clone() * sigmoid(x)
}

/// GELU by its tanh approximation, `x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))`
/// (PyTorch's `gelu(approximate="tanh")`): the transformer's MLP activation.
///
/// Written as `x · sigmoid(2u)`, which equals the tanh form and takes half the passes.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    const TWO_SQRT_2_OVER_PI: f64 =
        2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let u = (x.clone() * x.clone() * 0.044715 + 1.0) * x.clone() * TWO_SQRT_2_OVER_PI;
    x * sigmoid(u)
}

/// `x · sigmoid(1.702 x)`, the "quick" GELU of OpenAI's CLIP.
pub fn gelu_sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    x.clone() * sigmoid(x * 1.702)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    /// Compares with the formula in f64 at points of both signs, also where exponentials overflow.
    fn assert_is(ours: fn(Tensor<1>) -> Tensor<1>, formula: fn(f64) -> f64) {
        let points = [-100.0_f32, -6.0, -1.0, -0.1, 0.0, 0.3, 2.0, 7.0, 100.0];
        let values = ours(Tensor::from_floats(points, &Device::flex())).into_data();
        for (x, y) in points.iter().zip(values.try_to_vec::<f32>().unwrap()) {
            let expected = formula(f64::from(*x));
            assert!(
                (f64::from(y) - expected).abs() < 1e-5 * (1.0 + expected.abs()),
                "{x}: {y}"
            );
        }
    }

    #[test]
    fn activations_are_their_formulas() {
        assert_is(silu, |x| x / (1.0 + (-x).exp()));
        assert_is(gelu_sigmoid, |x| x / (1.0 + (-1.702 * x).exp()));
        assert_is(gelu_tanh, |x| {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        });
    }
}
