//! What the transformers need, each `None` where only the composed form runs.

use burn::{
    backend::{Backend, Dispatch, Flex, backend_extension, tensor::FloatTensor},
    tensor::{DType, Tensor},
};

use super::{Activation, CpuOps, applies};

/// The operations without a gradient: where tensors are tracked, the composed forms run.
#[backend_extension(Flex)]
pub(crate) trait Inference: Backend {
    /// See [`linear`].
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`LayerNorm`](crate::LayerNorm).
    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self>;

    /// See [`attention_with_bias`](crate::attention_with_bias).
    fn attention_with_bias(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;
}

impl Inference for Flex {
    fn linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        #[cfg(target_arch = "x86_64")]
        if let Some(instructions) =
            super::dot::Instructions::fastest(x.dtype(), x.layout().shape()[0])
            && (x.dtype() == DType::BF16 || super::linear::is_as_files_hold_it(&weight))
        {
            return super::linear::linear(x, weight, bias, instructions);
        }
        super::matrix::linear(x, weight, bias)
    }

    fn layer_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self> {
        super::rows::layer_norm(x, weight, bias, eps)
    }

    fn attention_with_bias(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        super::attention::forward_with_bias(q, k, v, bias)
    }
}

/// Whether all three are where [`applies`] says, in one number format.
fn all_apply<const A: usize, const B: usize, const C: usize>(
    a: &Tensor<A>,
    b: &Tensor<B>,
    c: &Tensor<C>,
) -> bool {
    let one_format = a.dtype() == b.dtype() && b.dtype() == c.dtype();
    one_format && applies(a) && applies(b) && applies(c)
}

/// Whether there is a product for values of `dtype` on this machine.
fn has_products(dtype: DType) -> bool {
    #[cfg(target_arch = "x86_64")]
    if super::dot::Instructions::fastest(dtype, 1).is_some() {
        return true;
    }
    dtype == DType::F32
}

/// `x · weight + bias`; `None` where burn's own is as good.
///
/// # Shapes
/// - `x`: `[rows, inputs]`
/// - `weight`: `[inputs, outputs]`
/// - `bias`: `[outputs]`
/// - output: `[rows, outputs]`
pub(crate) fn linear(
    x: &Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
) -> Option<Tensor<2>> {
    let [_, outputs] = weight.dims();
    if !has_products(x.dtype()) {
        return None;
    }
    let bias = bias.unwrap_or_else(|| Tensor::zeros([outputs], (&x.device(), x.dtype())));
    let is_tracked = x.is_autodiff() || weight.is_autodiff() || bias.is_autodiff();
    (!is_tracked && all_apply(x, &weight, &bias)).then(|| {
        Tensor::from_dispatch(Dispatch::linear(
            x.clone().into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
        ))
    })
}

/// [`modulated_norm`](crate::modulated_norm), or `None` where only the composed form runs.
pub(crate) fn modulated_norm(
    x: &Tensor<3>,
    shift: &Tensor<3>,
    scale: &Tensor<3>,
    eps: f64,
) -> Option<Tensor<3>> {
    all_apply(x, shift, scale).then(|| {
        let [x, shift, scale] = [x, shift, scale].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::modulated_norm(x, shift, scale, eps as f32))
    })
}

/// [`LayerNorm`](crate::LayerNorm), or `None` where only the composed form runs; `weight` and `bias` in f32.
pub(crate) fn layer_norm<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    bias: &Tensor<1>,
    eps: f64,
) -> Option<Tensor<D>> {
    let is_tracked = x.is_autodiff() || weight.is_autodiff() || bias.is_autodiff();
    (applies(x) && all_apply(weight, bias, bias) && !is_tracked).then(|| {
        let [weight, bias] = [weight, bias].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::layer_norm(
            x.clone().into_dispatch(),
            weight,
            bias,
            eps as f32,
        ))
    })
}

/// [`RmsNorm`](crate::RmsNorm), or `None` where only the composed form runs.
pub(crate) fn rms_norm<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    eps: f64,
) -> Option<Tensor<D>> {
    all_apply(x, weight, weight).then(|| {
        let (x, weight) = (x.clone().into_dispatch(), weight.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::rms_norm(x, weight, eps as f32))
    })
}

/// [`rotate_pairs`](crate::rotate_pairs), or `None` where only the composed form runs.
pub(crate) fn rotate_pairs(x: &Tensor<4>, cos: &Tensor<2>, sin: &Tensor<2>) -> Option<Tensor<4>> {
    let angles = cos.dtype() == DType::F32 && all_apply(cos, sin, sin);
    (angles && applies(x)).then(|| {
        let [cos, sin] = [cos, sin].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::rotate_pairs(x.clone().into_dispatch(), cos, sin))
    })
}

/// The activation of an `x` to which this module [`applies`].
pub(crate) fn activate<const D: usize>(x: Tensor<D>, activation: Activation) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::activate(x.into_dispatch(), activation))
}

/// [`add_gated`](crate::add_gated), or `None` where only the composed form runs.
pub(crate) fn add_gated(x: &Tensor<3>, y: &Tensor<3>, gate: &Tensor<3>) -> Option<Tensor<3>> {
    all_apply(x, y, gate).then(|| {
        let [x, y, gate] = [x, y, gate].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::add_gated(x, y, gate))
    })
}

/// [`attention_within`](crate::attention_within), or `None` where
/// only the composed form runs.
pub(crate) fn attention_within(
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    lengths: &[usize],
) -> Option<Tensor<4>> {
    all_apply(q, k, v).then(|| {
        let [q, k, v] = [q, k, v].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::attention_within(q, k, v, lengths.to_vec()))
    })
}

/// [`attention_with_bias`](crate::attention_with_bias), or `None` where only the composed form runs.
pub(crate) fn attention_with_bias(
    q: &Tensor<4>,
    k: &Tensor<4>,
    v: &Tensor<4>,
    bias: &Tensor<4>,
) -> Option<Tensor<4>> {
    let is_tracked = [q, k, v, bias].iter().any(|x| x.is_autodiff());
    let applies = all_apply(q, k, v) && all_apply(bias, bias, bias) && bias.dtype() == DType::F32;
    (applies && !is_tracked).then(|| {
        let [q, k, v, bias] = [q, k, v, bias].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::attention_with_bias(q, k, v, bias))
    })
}
