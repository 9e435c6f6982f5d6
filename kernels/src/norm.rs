//! Normalisations: statistics in f32 whatever the input's dtype.

use burn::{
    config::Config,
    module::{Module, Param, ParamId},
    tensor::{DType, Device, Tensor},
};

use crate::silu;

/// Layer norm over the last axis, `n = (x − mean) / √(var + eps)`, and adaptive modulation,
/// `n · (1 + scale) + shift` (adaLN, arXiv 2212.09748).
///
/// # Shapes
/// - `x` and output: `[batch, tokens, channels]`
/// - `shift`, `scale`: `[batch, 1, channels]`
pub fn modulated_norm(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>, eps: f64) -> Tensor<3> {
    #[cfg(feature = "cpu")]
    if let Some(out) = crate::cpu::modulated_norm(&x, &shift, &scale, eps) {
        return out;
    }
    #[cfg(feature = "cubecl")]
    if let Some(out) = crate::cube::modulated_norm(&x, &shift, &scale, eps) {
        return out;
    }
    modulate(standardized(x, eps), shift, scale)
}

/// `(x − mean) / √(var + eps)` over the last axis.
pub(crate) fn standardized<const D: usize>(x: Tensor<D>, eps: f64) -> Tensor<D> {
    let dtype = x.dtype();
    let x = x.cast(DType::F32);
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = centred.clone().square().mean_dim(D - 1);
    (centred / (variance + eps).sqrt()).cast(dtype)
}

/// `x · (1 + scale) + shift`.
pub(crate) fn modulate(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    x * (scale + 1.0) + shift
}

/// A residual branch behind a gate: `x + y · gate`.
///
/// # Shapes
/// - `x`, `y` and output: `[batch, tokens, channels]`
/// - `gate`: `[batch, 1, channels]`
pub fn add_gated(x: Tensor<3>, y: Tensor<3>, gate: Tensor<3>) -> Tensor<3> {
    #[cfg(feature = "cpu")]
    if let Some(out) = crate::cpu::add_gated(&x, &y, &gate) {
        return out;
    }
    x + y * gate
}

/// A parameter of `channels` ones or zeros, not allocated before it is used or loaded.
fn constant_param(channels: usize, value: f32, device: &Device) -> Param<Tensor<1>> {
    Param::uninitialized(
        ParamId::new(),
        move |device, require_grad| {
            Tensor::full([channels], value, (device, DType::F32)).set_require_grad(require_grad)
        },
        device.clone(),
        true,
        [channels].into(),
    )
}

/// Configuration of a [`LayerNorm`].
#[derive(Config, Debug)]
pub struct LayerNormConfig {
    /// Size of the last axis.
    pub channels: usize,
    /// Added to the variance.
    #[config(default = 1e-6)]
    pub eps: f64,
}

/// Layer norm over the last axis with a learned scale and shift, computed in f32 and rounded once to the
/// input's dtype.
///
/// arXiv 1607.06450; burn's own layer keeps the statistics in bf16 where the input is.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    eps: f64,
}

impl LayerNormConfig {
    /// Creates the layer with scale one and shift zero.
    pub fn init(&self, device: &Device) -> LayerNorm {
        LayerNorm {
            weight: constant_param(self.channels, 1.0, device),
            bias: constant_param(self.channels, 0.0, device),
            eps: self.eps,
        }
    }
}

impl LayerNorm {
    /// Normalises the last axis of `x`: `[.., channels]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let [weight, bias] = [&self.weight, &self.bias].map(|x| x.val().cast(DType::F32));
        #[cfg(feature = "cpu")]
        if let Some(out) = crate::cpu::layer_norm(&x, &weight, &bias, self.eps) {
            return out;
        }
        let dtype = x.dtype();
        let x = standardized(x.cast(DType::F32), self.eps);
        (x * weight.unsqueeze() + bias.unsqueeze()).cast(dtype)
    }
}

/// Configuration of an [`RmsNorm`].
#[derive(Config, Debug)]
pub struct RmsNormConfig {
    /// Size of the last axis.
    pub channels: usize,
    /// Added to the mean square.
    #[config(default = 1e-6)]
    pub eps: f64,
}

/// Root-mean-square norm over the last axis with a learned scale:
/// `cast(x / √(mean(x²) + eps)) · weight`, the quotient in f32, the product in the input's dtype.
///
/// arXiv 1910.07467; burn's own layer rounds the root before dividing.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    eps: f64,
}

impl RmsNormConfig {
    /// Creates the layer with a scale of one.
    pub fn init(&self, device: &Device) -> RmsNorm {
        RmsNorm {
            weight: constant_param(self.channels, 1.0, device),
            eps: self.eps,
        }
    }
}

impl RmsNorm {
    /// Normalises the last axis of `x`: `[.., channels]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        #[cfg(feature = "cpu")]
        if let Some(out) = crate::cpu::rms_norm(&x, &self.weight.val(), self.eps) {
            return out;
        }
        #[cfg(feature = "cubecl")]
        if let Some(out) = crate::cube::rms_norm(&x, &self.weight.val(), self.eps) {
            return out;
        }
        self.composed(x)
    }

    /// As tensor operations.
    pub(crate) fn composed<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        let mean_square = x.clone().square().mean_dim(D - 1);
        let x = (x / (mean_square + self.eps).sqrt()).cast(dtype);
        x * self.weight.val().unsqueeze()
    }
}

/// Configuration of a [`GroupNorm`].
#[derive(Config, Debug)]
pub struct GroupNormConfig {
    /// Number of groups; divides `channels`.
    pub groups: usize,
    /// Size of axis 1.
    pub channels: usize,
    /// Added to the variance.
    #[config(default = 1e-6)]
    pub eps: f64,
}

/// Group norm over a group's channels and every axis after them, with an affine part.
///
/// Statistics in f32: at video sizes a group holds 10⁸ values, which half precision cannot sum.
///
/// arXiv 1803.08494.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// Scale, `[channels]`.
    pub weight: Param<Tensor<1>>,
    /// Shift, `[channels]`.
    pub bias: Param<Tensor<1>>,
    groups: usize,
    eps: f64,
}

impl GroupNormConfig {
    /// Creates the layer with scale one and shift zero.
    pub fn init(&self, device: &Device) -> GroupNorm {
        GroupNorm {
            weight: constant_param(self.channels, 1.0, device),
            bias: constant_param(self.channels, 0.0, device),
            groups: self.groups,
            eps: self.eps,
        }
    }
}

impl GroupNorm {
    /// Normalises `x`: `[batch, channels, .., width]` to the same shape.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.apply(x, false)
    }

    /// [`forward`](Self::forward), then [`silu`].
    pub fn forward_silu<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        self.apply(x, true)
    }

    fn apply<const D: usize>(&self, x: Tensor<D>, with_silu: bool) -> Tensor<D> {
        #[cfg(feature = "cpu")]
        if crate::cpu::applies_in_f32(&x) {
            let options = crate::cpu::GroupNormOptions {
                groups: self.groups,
                eps: self.eps as f32,
                silu: with_silu,
            };
            return crate::cpu::group_norm(x, self.weight.val(), self.bias.val(), options);
        }
        #[cfg(feature = "cubecl")]
        {
            let affine = [self.weight.val(), self.bias.val()];
            if let Some(out) = crate::cube::group_norm(&x, affine, self.groups, self.eps, with_silu)
            {
                return out;
            }
        }
        let x = self.composed(x);
        if with_silu { silu(x) } else { x }
    }

    /// As tensor operations.
    pub(crate) fn composed<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let dtype = x.dtype();
        let shape = x.dims();
        let (batch, channels) = (shape[0], shape[1]);
        let per_group = channels / self.groups;
        let rest: usize = shape[2..].iter().product();

        let x = x.cast(DType::F32);
        // The mean of each row, then of the rows: many short sums that run side by side and round
        // little. A single sum over a group of video size is one long loop on some devices, which
        // llvmpipe stops after 65536 rounds.
        let width = shape[D - 1];
        let rows = x
            .clone()
            .reshape([batch, self.groups, per_group * rest / width, width]);
        let mean_of = |rows: Tensor<4>| rows.mean_dim(3).swap_dims(2, 3).mean_dim(3);
        let mean = mean_of(rows.clone());
        let variance = mean_of((rows - mean.clone()).square());
        let inverse = (variance + self.eps).sqrt().recip();

        // One multiply and one add over the data: fold the statistics into the affine part.
        let affine = [1, self.groups, per_group, 1];
        let weight = self.weight.val().cast(DType::F32).reshape(affine);
        let bias = self.bias.val().cast(DType::F32).reshape(affine);
        let scale = weight * inverse;
        let shift = bias - mean * scale.clone();
        let x = x.reshape([batch, self.groups, per_group, rest]);
        (x * scale + shift).reshape(shape).cast(dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
        random::random(shape) * 2.0 + 3.0
    }

    fn assert_near<const D: usize>(x: Tensor<D>, expected: f64) {
        let error = (x - expected).abs().max().into_scalar::<f32>();
        assert!(error < 1e-3, "{error}");
    }

    #[test]
    fn standardized_values_have_mean_0_and_variance_1() {
        let x = standardized(random([2, 5, 64]), 1e-6);
        assert_near(x.clone().mean_dim(2), 0.0);
        assert_near(x.square().mean_dim(2), 1.0);
    }

    #[test]
    fn rms_norm_leaves_mean_square_1_and_scales() {
        let mut norm = RmsNormConfig::new(64).init(&Device::flex());
        let x = random([2, 5, 64]);
        assert_near(norm.forward(x.clone()).square().mean_dim(2), 1.0);
        norm.weight = norm.weight.map(|weight| weight * 3.0);
        assert_near(norm.forward(x).square().mean_dim(2), 9.0);
    }

    #[test]
    fn group_norm_spans_a_groups_channels_and_all_positions() {
        let mut norm = GroupNormConfig::new(2, 6).init(&Device::flex());
        let groups = |x: Tensor<5>| x.reshape([2, 2, 3 * 4 * 5 * 6]);
        let x = random([2, 6, 4, 5, 6]);
        let out = groups(norm.forward(x.clone()));
        assert_near(out.clone().mean_dim(2), 0.0);
        assert_near(out.square().mean_dim(2), 1.0);
        norm.weight = norm.weight.map(|weight| weight * 2.0);
        norm.bias = norm.bias.map(|bias| bias + 5.0);
        let out = groups(norm.forward(x));
        assert_near(out.clone().mean_dim(2), 5.0);
        assert_near((out - 5.0).square().mean_dim(2), 4.0);
    }

    #[test]
    fn half_precision_sums_in_f32() {
        // 70 000 values of 1: a sum in f16 would overflow at 65 504.
        let norm = GroupNormConfig::new(1, 1).init(&Device::flex());
        let ones = Tensor::<3>::ones([1, 1, 70_000], (&Device::flex(), DType::F16));
        assert_near(norm.forward(ones).cast(DType::F32), 0.0);
    }

    #[test]
    fn modulation_shifts_and_scales() {
        let x = random([1, 2, 3]);
        let shift = Tensor::full([1, 1, 3], 2.0, &x.device());
        let scale = Tensor::full([1, 1, 3], 0.5, &x.device());
        assert_near(modulate(x.clone(), shift, scale) - x * 1.5, 2.0);
    }
}
