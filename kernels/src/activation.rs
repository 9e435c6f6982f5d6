//! Activations, in the input's dtype.

use burn::tensor::{Tensor, activation::sigmoid};

/// Returns from the function with the activation of `x` in one pass, where there is one; in place, so
/// that it takes `x` itself.
macro_rules! in_one_pass {
    ($x:ident, $activation:ident) => {
        #[cfg(feature = "cpu")]
        if crate::cpu::applies(&$x) {
            return crate::cpu::activate($x, crate::cpu::Activation::$activation);
        }
    };
}

/// `x · sigmoid(x)`.
pub fn silu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    in_one_pass!(x, Silu);
    x.clone() * sigmoid(x)
}

/// GELU by its tanh approximation, `x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))`
/// (PyTorch's `gelu(approximate="tanh")`): the transformer's MLP activation.
///
/// Written as `x · sigmoid(2u)`, which equals the tanh form and takes half the passes.
pub fn gelu_tanh<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    in_one_pass!(x, GeluTanh);
    const TWO_SQRT_2_OVER_PI: f64 =
        2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
    let u = (x.clone() * x.clone() * 0.044715 + 1.0) * x.clone() * TWO_SQRT_2_OVER_PI;
    x * sigmoid(u)
}

/// `x · sigmoid(1.702 x)`, the "quick" GELU of OpenAI's CLIP.
pub fn gelu_sigmoid<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    in_one_pass!(x, GeluSigmoid);
    x.clone() * sigmoid(x * 1.702)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Device};

    /// Compares with the formula in f64 at points of both signs, also where exponentials overflow.
    fn assert_is(ours: fn(Tensor<1>) -> Tensor<1>, formula: fn(f64) -> f64) {
        let points = [-100.0_f32, -6.0, -1.0, -0.1, 0.0, 0.3, 2.0, 7.0, 100.0];
        let x = Tensor::from_floats(points, &Device::flex());
        // bf16 keeps eight bits.
        for (x, bound) in [
            (x.clone(), 1e-5),
            (x.clone().autodiff(), 1e-5),
            (x.cast(DType::BF16), 1.0 / 256.0),
        ] {
            let points = x.clone().into_data().convert::<f32>();
            let values = ours(x).into_data().convert::<f32>();
            for (x, y) in points.iter::<f32>().zip(values.iter::<f32>()) {
                let expected = formula(f64::from(x));
                let error = (f64::from(y) - expected).abs();
                assert!(error < bound * expected.abs() + 1e-5, "{x}: {y}");
            }
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
