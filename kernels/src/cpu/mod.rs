//! Operations written for the CPU: the VAE's two costly layers with their gradients, and what the
//! transformers need for inference.
//!
//! On a GPU the backend's own convolution is as good as any. On burn's CPU backend a step of
//! training spends nearly all its time in the gradients of small convolutions and in the dozens of
//! passes that a normalisation takes when it is composed of tensor operations. Here both are single
//! operations: [`causal_conv3d`] pads, convolves and adds the bias; [`group_norm`] normalises,
//! scales and applies SiLU. Each falls back to `None` where it does not apply, and the caller
//! composes the layer of tensor operations, to the same result.
//!
//! Between the transformers' matrix products stand passes over the tokens, which take several each
//! when they are composed, and in bf16 slow ones: [`inference`] has each in one, and bf16 products.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `conv` | the convolution and its gradients as sums of shifted planes |
//! | `norm` | the normalisation and its gradient |
//! | `inference` | the operations without a gradient |
//! | `rows` | norms, rotary embedding, activations and gates in one pass |
//! | `linear` | matrix products in bf16 |
//! | `stored` | number formats in memory |
//! | `simd` | loops compiled for the vector units that the machine has |
//! | `autodiff` | both as operations of burn's automatic differentiation |

mod autodiff;
mod conv;
mod inference;
#[cfg(target_arch = "x86_64")]
mod linear;
mod norm;
mod rows;
mod simd;
mod stored;

pub(crate) use inference::{
    activate, add_gated, is_plain, linear, modulated_norm, rms_norm, rotate_pairs,
};

use burn::{
    backend::{Backend, Dispatch, DispatchDevice, Flex, backend_extension, tensor::FloatTensor},
    tensor::{DType, Device, Tensor},
};

/// `x · sigmoid(a x + b x³)`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Activation {
    /// [`silu`](crate::silu)
    Silu,
    /// [`gelu_tanh`](crate::gelu_tanh)
    GeluTanh,
    /// [`gelu_sigmoid`](crate::gelu_sigmoid)
    GeluSigmoid,
}

impl Activation {
    /// `a` and `b`.
    fn coefficients(self) -> (f32, f32) {
        match self {
            Self::Silu => (1.0, 0.0),
            Self::GeluSigmoid => (1.702, 0.0),
            Self::GeluTanh => {
                let a = 2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2;
                (a as f32, (a * 0.044715) as f32)
            }
        }
    }
}

/// Settings of a [`group_norm`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupNormOptions {
    /// Number of groups.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// The operations.
#[backend_extension(Flex, Autodiff)]
pub(crate) trait CpuOps: Backend {
    /// See [`causal_conv3d`].
    fn causal_conv3d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`group_norm`].
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> FloatTensor<Self>;
}

/// What their backward passes need of a backend.
pub(crate) trait CpuGradients: Backend {
    /// The gradient for the input.
    fn causal_conv3d_x_backward(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// The gradients for weight and bias.
    fn causal_conv3d_weight_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients for input, weight and bias.
    fn group_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

impl CpuOps for Flex {
    fn causal_conv3d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        conv::forward(x, weight, bias)
    }

    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> FloatTensor<Self> {
        norm::forward(x, weight, bias, options)
    }
}

impl CpuGradients for Flex {
    fn causal_conv3d_x_backward(
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        conv::x_backward(weight, gradient)
    }

    fn causal_conv3d_weight_backward(
        x: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        conv::weight_backward(x, gradient)
    }

    fn group_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        norm::backward(x, weight, bias, gradient, options)
    }
}

/// Whether the operations of this module run on `device` in `dtype`.
fn applies(device: &Device, dtype: DType) -> bool {
    let device = device.clone().without_autodiff();
    dtype == DType::F32 && matches!(device.as_dispatch(), DispatchDevice::Flex(_))
}

/// 3×3×3 convolution of stride 1, causal in time, whose borders repeat the outermost values; `None`
/// where only the composed form runs.
///
/// # Shapes
/// - `x`: `[batch, channels in, frames, height, width]`
/// - `weight`: `[channels out, channels in, 3, 3, 3]`
/// - `bias`: `[channels out]`
/// - output: `[batch, channels out, frames, height, width]`
pub fn causal_conv3d(x: &Tensor<5>, weight: Tensor<5>, bias: Tensor<1>) -> Option<Tensor<5>> {
    applies(&x.device(), x.dtype()).then(|| {
        Tensor::from_dispatch(Dispatch::causal_conv3d(
            x.clone().into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
        ))
    })
}

/// Group norm over a group's channels and all positions, with an affine part, then SiLU if asked
/// for; `None` where only the composed form runs.
///
/// # Shapes
/// - `x` and output: `[batch, channels, ..]`
/// - `weight`, `bias`: `[channels]`
pub(crate) fn group_norm<const D: usize>(
    x: &Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    options: GroupNormOptions,
) -> Option<Tensor<D>> {
    applies(&x.device(), x.dtype()).then(|| {
        Tensor::from_dispatch(Dispatch::group_norm(
            x.clone().into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
            options,
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GroupNormConfig, silu};
    use burn::tensor::{
        Distribution,
        module::conv3d,
        ops::{ConvOptions, PadMode},
    };

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        let device = Device::flex().autodiff();
        let x = Tensor::random(shape, Distribution::Normal(0.2, 1.0), (&device, DType::F32));
        x.require_grad()
    }

    fn assert_same<const D: usize>(what: &str, ours: Tensor<D>, composed: Tensor<D>) {
        let largest = composed.clone().abs().max().into_scalar::<f32>();
        let error = (ours - composed).abs().max().into_scalar::<f32>() / largest;
        assert!(error < 2e-5, "{what}: {error}");
    }

    /// Compares two forms of a layer, and their gradients for input, weight and bias.
    fn assert_same_layer<const D: usize, const W: usize>(
        what: &str,
        inputs: (Tensor<D>, Tensor<W>, Tensor<1>),
        ours: impl Fn(Tensor<D>, Tensor<W>, Tensor<1>) -> Tensor<D>,
        composed: impl Fn(Tensor<D>, Tensor<W>, Tensor<1>) -> Tensor<D>,
    ) {
        let (x, weight, bias) = inputs;
        let ours = ours(x.clone(), weight.clone(), bias.clone());
        let composed = composed(x.clone(), weight.clone(), bias.clone());
        let probe = random(ours.dims()).inner().autodiff();
        let gradients = |out: &Tensor<D>| {
            let all = (out.clone() * probe.clone()).sum().backward();
            (
                x.grad(&all).unwrap(),
                weight.grad(&all).unwrap(),
                bias.grad(&all).unwrap(),
            )
        };
        let (a, b) = (gradients(&ours), gradients(&composed));
        assert_same(what, ours.inner(), composed.inner());
        assert_same(&format!("{what}, x"), a.0, b.0);
        assert_same(&format!("{what}, weight"), a.1, b.1);
        assert_same(&format!("{what}, bias"), a.2, b.2);
    }

    #[test]
    fn convolution_is_the_composed_one_with_its_gradients() {
        for (batch, inputs, outputs, frames, height, width) in [
            (2, 3, 5, 1, 7, 9),
            (1, 9, 16, 2, 8, 8),
            (2, 5, 3, 5, 1, 3),
            (1, 4, 17, 3, 33, 40),
        ] {
            let shape = [batch, inputs, frames, height, width];
            let tensors = (
                random(shape),
                random([outputs, inputs, 3, 3, 3]),
                random([outputs]),
            );
            assert_same_layer(
                &format!("{shape:?} to {outputs}"),
                tensors,
                |x, weight, bias| causal_conv3d(&x, weight, bias).unwrap(),
                |x, weight, bias| {
                    let x = x.pad([(2, 0), (1, 1), (1, 1)], PadMode::Edge);
                    let options = ConvOptions::new([1; 3], [0; 3], [1; 3], 1);
                    conv3d(x, weight, Some(bias), options)
                },
            );
        }
    }

    #[test]
    fn group_norm_is_the_composed_one_with_its_gradients() {
        for (batch, groups, channels, positions) in [(2, 4, 8, 5), (1, 2, 6, 4500), (3, 1, 1, 33)] {
            for with_silu in [false, true] {
                let options = GroupNormOptions {
                    groups,
                    eps: 1e-6,
                    silu: with_silu,
                };
                let composed = |x: Tensor<3>, weight: Tensor<1>, bias: Tensor<1>| {
                    let mut norm = GroupNormConfig::new(groups, channels).init(&Device::flex());
                    norm.weight = norm.weight.map(|_| weight);
                    norm.bias = norm.bias.map(|_| bias);
                    let x = norm.composed(x);
                    if with_silu { silu(x) } else { x }
                };
                assert_same_layer(
                    &format!("{batch} x {channels} in {groups}, silu: {with_silu}"),
                    (
                        random([batch, channels, positions]),
                        random([channels]),
                        random([channels]),
                    ),
                    |x, weight, bias| group_norm(&x, weight, bias, options).unwrap(),
                    composed,
                );
            }
        }
    }

    #[test]
    fn other_devices_and_dtypes_are_left_to_the_composed_form() {
        let x = Tensor::<5>::zeros([1, 1, 1, 4, 4], (&Device::flex(), DType::F64));
        let weight = Tensor::<5>::zeros([1, 1, 3, 3, 3], (&Device::flex(), DType::F64));
        let bias = Tensor::<1>::zeros([1], (&Device::flex(), DType::F64));
        assert!(causal_conv3d(&x, weight, bias).is_none());
    }
}
