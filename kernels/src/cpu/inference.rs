//! Operations without a gradient, for inference: where tensors are tracked, the composed forms run.

use burn::{
    backend::{Backend, Dispatch, DispatchDevice, Flex, backend_extension, tensor::FloatTensor},
    tensor::{DType, Tensor},
};

use super::{Activation, rows};

/// The operations.
#[backend_extension(Flex)]
pub(crate) trait Inference: Backend {
    /// See [`linear`].
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
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
    fn rotate(
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
}

impl Inference for Flex {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[cfg(target_arch = "x86_64")]
        return super::linear::linear(x, weight, bias);
        #[cfg(not(target_arch = "x86_64"))]
        unreachable!("`has_bf16_products` refuses {x:?}, {weight:?}, {bias:?}")
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

    fn rotate(
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
}

/// Whether `x` is on burn's CPU backend, in f32 or bf16, and not tracked.
pub(crate) fn is_plain<const D: usize>(x: &Tensor<D>) -> bool {
    !x.is_autodiff()
        && matches!(x.dtype(), DType::F32 | DType::BF16)
        && matches!(x.device().as_dispatch(), DispatchDevice::Flex(_))
}

/// Whether all three are, in one number format.
fn are_plain<const A: usize, const B: usize, const C: usize>(
    a: &Tensor<A>,
    b: &Tensor<B>,
    c: &Tensor<C>,
) -> bool {
    let one_format = a.dtype() == b.dtype() && b.dtype() == c.dtype();
    one_format && is_plain(a) && is_plain(b) && is_plain(c)
}

/// Whether the machine multiplies bf16.
fn has_bf16_products() -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::linear::is_supported();
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// `x · weight + bias` in bf16; `None` where burn's own product is as good.
///
/// # Shapes
/// - `x`: `[.., inputs]`
/// - `weight`: `[inputs, outputs]`
/// - `bias`: `[outputs]`
/// - output: `[.., outputs]`
pub(crate) fn linear<const D: usize>(
    x: &Tensor<D>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Option<Tensor<D>> {
    let [inputs, outputs] = weight.dims();
    if x.dtype() != DType::BF16 || !has_bf16_products() {
        return None;
    }
    let bias = bias.unwrap_or_else(|| Tensor::zeros([outputs], (&x.device(), DType::BF16)));
    are_plain(x, &weight, &bias).then(|| {
        let mut shape = x.dims();
        let rows = x
            .clone()
            .reshape([shape.iter().product::<usize>() / inputs, inputs]);
        shape[D - 1] = outputs;
        let out = Tensor::<2>::from_dispatch(Dispatch::linear(
            rows.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
        ));
        out.reshape(shape)
    })
}

/// [`modulated_norm`](crate::modulated_norm), or `None` where only the composed form runs.
pub(crate) fn modulated_norm(
    x: &Tensor<3>,
    shift: &Tensor<3>,
    scale: &Tensor<3>,
    eps: f64,
) -> Option<Tensor<3>> {
    are_plain(x, shift, scale).then(|| {
        let [x, shift, scale] = [x, shift, scale].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::modulated_norm(x, shift, scale, eps as f32))
    })
}

/// [`RmsNorm`](crate::RmsNorm), or `None` where only the composed form runs.
pub(crate) fn rms_norm<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    eps: f64,
) -> Option<Tensor<D>> {
    are_plain(x, weight, weight).then(|| {
        let (x, weight) = (x.clone().into_dispatch(), weight.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::rms_norm(x, weight, eps as f32))
    })
}

/// [`rotate_pairs`](crate::rotate_pairs), or `None` where only the composed form runs.
pub(crate) fn rotate_pairs(x: &Tensor<4>, cos: &Tensor<2>, sin: &Tensor<2>) -> Option<Tensor<4>> {
    let angles = cos.dtype() == DType::F32 && are_plain(cos, sin, sin);
    (angles && is_plain(x)).then(|| {
        let [cos, sin] = [cos, sin].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::rotate(x.clone().into_dispatch(), cos, sin))
    })
}

/// The activation of an `x` that [`is_plain`].
pub(crate) fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::activate(x.into_dispatch(), activation))
}

/// [`add_gated`](crate::add_gated), or `None` where only the composed form runs.
pub(crate) fn add_gated(x: &Tensor<3>, y: &Tensor<3>, gate: &Tensor<3>) -> Option<Tensor<3>> {
    are_plain(x, y, gate).then(|| {
        let [x, y, gate] = [x, y, gate].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::add_gated(x, y, gate))
    })
}
