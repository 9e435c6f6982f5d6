//! Operations written for the CPU, with their gradients.
//!
//! On a GPU the backend's own convolution and attention are as good as any. On burn's CPU backend a
//! step of training spends most of its time between matrix products: in the dozens of passes that a
//! normalisation takes when it is composed of tensor operations, and in what automatic
//! differentiation adds to each. Here each layer is one operation, which falls back to `None` where
//! it does not apply, and the caller composes the layer of tensor operations, to the same result.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `conv` | the VAE's convolution, and its gradient for the input, as sums of shifted planes |
//! | `conv_weight` | its gradients for weight and bias |
//! | `conv_wide` | the sums of these two, for many channels, as matrix products |
//! | `conv_winograd` | the same for large planes, with fewer products |
//! | `conv_matrices` | the kernels of both as matrices, and back |
//! | `planes` | clips as planes with margins |
//! | `norm` | the VAE's normalisation and its gradient |
//! | `tokens` | what the transformers call |
//! | `rows`, `rows_backward` | norms, rotary embedding, activations and gates in one pass |
//! | `attention` | attention in memory linear in the length |
//! | `linear` | products with weights as files hold them |
//! | `dot` | its sums of products, by the machine's instructions |
//! | `matrix` | products in f32, and linear layers by them |
//! | `stored` | number formats in memory |
//! | `simd` | loops compiled for the vector units that the machine has |
//! | `autodiff` | all but what is for inference (in `tokens`) as operations of burn's automatic differentiation |

mod attention;
mod autodiff;
mod conv;
mod conv_matrices;
mod conv_weight;
mod conv_wide;
mod conv_winograd;
#[cfg(target_arch = "x86_64")]
mod dot;
#[cfg(target_arch = "x86_64")]
mod linear;
mod matrix;
mod norm;
mod planes;
mod rows;
mod rows_backward;
mod simd;
mod stored;
#[cfg(test)]
mod tests;
mod tokens;

pub(crate) use tokens::{
    activate, add_gated, attention_with_bias, attention_within, layer_norm, linear, modulated_norm,
    rms_norm, rotate_pairs,
};

use burn::{
    backend::{Backend, Dispatch, DispatchDevice, Flex, backend_extension, tensor::FloatTensor},
    tensor::{DType, Tensor},
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

    /// See [`modulated_norm`](crate::modulated_norm).
    fn modulated_norm(
        x: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self>;

    /// See [`RmsNorm`](crate::RmsNorm).
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self>;

    /// See [`rotate_pairs`](crate::rotate_pairs).
    fn rotate_pairs(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`silu`](crate::silu) and its like.
    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;

    /// See [`add_gated`](crate::add_gated).
    fn add_gated(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gate: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`attention_within`](crate::attention_within).
    fn attention_within(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        lengths: Vec<usize>,
    ) -> FloatTensor<Self>;
}

/// Gradients for the inputs of an operation, where they have any.
type Gradients<B, const INPUTS: usize> = [Option<FloatTensor<B>>; INPUTS];

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

    /// Of [`group_norm`](CpuOps::group_norm).
    fn group_norm_backward(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> Gradients<Self, 3>;

    /// Of [`modulated_norm`](CpuOps::modulated_norm).
    fn modulated_norm_backward(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
        eps: f32,
    ) -> Gradients<Self, 3>;

    /// Of [`rms_norm`](CpuOps::rms_norm).
    fn rms_norm_backward(
        inputs: [FloatTensor<Self>; 2],
        gradient: FloatTensor<Self>,
        eps: f32,
    ) -> Gradients<Self, 2>;

    /// Of [`rotate_pairs`](CpuOps::rotate_pairs).
    fn rotate_pairs_backward(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
    ) -> Gradients<Self, 3>;

    /// Of [`activate`](CpuOps::activate).
    fn activate_backward(
        inputs: [FloatTensor<Self>; 1],
        gradient: FloatTensor<Self>,
        activation: Activation,
    ) -> Gradients<Self, 1>;

    /// Of [`add_gated`](CpuOps::add_gated).
    fn add_gated_backward(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
    ) -> Gradients<Self, 3>;

    /// Of [`attention_within`](CpuOps::attention_within).
    fn attention_within_backward(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
        lengths: Vec<usize>,
    ) -> Gradients<Self, 3>;
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

    fn modulated_norm(
        x: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        rows::modulated_norm(x, shift, scale, eps)
    }

    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self> {
        rows::rms_norm(x, weight, eps)
    }

    fn rotate_pairs(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        rows::rotate_pairs(x, cos, sin)
    }

    fn activate(x: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        rows::activate(x, activation)
    }

    fn add_gated(
        x: FloatTensor<Self>,
        y: FloatTensor<Self>,
        gate: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        rows::add_gated(x, y, gate)
    }

    fn attention_within(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        lengths: Vec<usize>,
    ) -> FloatTensor<Self> {
        attention::forward(q, k, v, &lengths)
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
        conv_weight::weight_backward(x, gradient)
    }

    fn group_norm_backward(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
        options: GroupNormOptions,
    ) -> Gradients<Self, 3> {
        norm::backward(inputs, gradient, options)
    }

    fn modulated_norm_backward(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
        eps: f32,
    ) -> Gradients<Self, 3> {
        rows_backward::modulated_norm(inputs, gradient, eps)
    }

    fn rms_norm_backward(
        inputs: [FloatTensor<Self>; 2],
        gradient: FloatTensor<Self>,
        eps: f32,
    ) -> Gradients<Self, 2> {
        rows_backward::rms_norm(inputs, gradient, eps)
    }

    fn rotate_pairs_backward(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
    ) -> Gradients<Self, 3> {
        rows_backward::rotate_pairs(inputs, gradient)
    }

    fn activate_backward(
        inputs: [FloatTensor<Self>; 1],
        gradient: FloatTensor<Self>,
        activation: Activation,
    ) -> Gradients<Self, 1> {
        rows_backward::activate(inputs, gradient, activation)
    }

    fn add_gated_backward(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
    ) -> Gradients<Self, 3> {
        rows_backward::add_gated(inputs, gradient)
    }

    fn attention_within_backward(
        inputs: [FloatTensor<Self>; 3],
        gradient: FloatTensor<Self>,
        lengths: Vec<usize>,
    ) -> Gradients<Self, 3> {
        attention::backward(inputs, gradient, &lengths)
    }
}

/// Whether `x` is on burn's CPU backend.
fn is_here<const D: usize>(x: &Tensor<D>) -> bool {
    let device = x.device().without_autodiff();
    matches!(device.as_dispatch(), DispatchDevice::Flex(_))
}

/// Whether `x` is on burn's CPU backend, in f32 or bf16: for operations that read and write either.
pub(crate) fn applies<const D: usize>(x: &Tensor<D>) -> bool {
    matches!(x.dtype(), DType::F32 | DType::BF16) && is_here(x)
}

/// Whether `x` is on burn's CPU backend, in f32 or a format that f32 holds: for operations that cast
/// what they read to f32 and round what they give.
pub(crate) fn applies_in_f32<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() != DType::F64 && is_here(x)
}

/// [`causal_conv3d`](crate::causal_conv3d) with a 3×3×3 kernel and stride 1, of an `x` to which this module
/// [applies in f32](applies_in_f32).
pub(crate) fn causal_conv3d(x: Tensor<5>, weight: Tensor<5>, bias: Tensor<1>) -> Tensor<5> {
    let dtype = x.dtype();
    let [x, weight] = [x, weight].map(|x| x.cast(DType::F32).into_dispatch());
    let bias = bias.cast(DType::F32).into_dispatch();
    Tensor::<5>::from_dispatch(Dispatch::causal_conv3d(x, weight, bias)).cast(dtype)
}

/// Group norm over a group's channels and all positions, with an affine part, then SiLU if asked
/// for, of an `x` to which this module [applies in f32](applies_in_f32).
///
/// # Shapes
/// - `x` and output: `[batch, channels, ..]`
/// - `weight`, `bias`: `[channels]`
pub(crate) fn group_norm<const D: usize>(
    x: Tensor<D>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    options: GroupNormOptions,
) -> Tensor<D> {
    let dtype = x.dtype();
    let [weight, bias] = [weight, bias].map(|x| x.cast(DType::F32).into_dispatch());
    let x = x.cast(DType::F32).into_dispatch();
    Tensor::<D>::from_dispatch(Dispatch::group_norm(x, weight, bias, options)).cast(dtype)
}
