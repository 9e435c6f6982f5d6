//! The VAE's convolution.

use burn::tensor::{DType, Int, Tensor, module::conv3d, ops::ConvOptions};

/// 3D convolution over (time, height, width), causal in time: frame `t` of the output depends on
/// frames up to `t · stride` of the input. Borders repeat the outermost values; in time the first
/// frame is repeated before the clip and nothing follows it.
///
/// Section 4.1.1 of the HunyuanVideo paper (arXiv 2412.03603); the padding is diffusers'
/// `HunyuanVideoCausalConv3d`.
///
/// # Shapes
/// - `x`: `[batch, channels in, frames, height, width]`
/// - `weight`: `[channels out, channels in, k, k, k]`, `k` odd
/// - `bias`: `[channels out]`
/// - output: `[batch, channels out, frames', height', width']`, each axis its length divided by the
///   stride, rounded up
pub fn causal_conv3d(
    x: Tensor<5>,
    weight: Tensor<5>,
    bias: Option<Tensor<1>>,
    stride: [usize; 3],
) -> Tensor<5> {
    let [_, _, kernel, ..] = weight.dims();
    #[cfg(feature = "cpu")]
    if let (3, [1, 1, 1], Some(bias)) = (kernel, stride, &bias)
        && crate::cpu::applies_in_f32(&x)
    {
        return crate::cpu::causal_conv3d(x, weight, bias.clone());
    }
    let side = (kernel / 2, kernel / 2);
    let x = match kernel {
        1 => x,
        _ => pad_replicate(x, [(kernel - 1, 0), side, side]),
    };
    conv3d(x, weight, bias, ConvOptions::new(stride, [0; 3], [1; 3], 1))
}

/// Repeats the outermost frames, rows and columns, `(before, after)` times each.
///
/// One gather over the flattened positions, a quarter of the time of `Tensor::pad`, which copies
/// the tensor twice for each axis.
fn pad_replicate(x: Tensor<5>, padding: [(usize, usize); 3]) -> Tensor<5> {
    let device = x.device();
    let [batch, channels, frames, height, width] = x.dims();
    // Where along an axis each padded position comes from, in steps of the flattened index.
    let source = |length: usize, (before, after): (usize, usize), step: usize| {
        let padded = 0..before + length + after;
        let source = padded.map(|i| i.saturating_sub(before).min(length - 1) * step);
        let source: Vec<i32> = source.map(|i| i as i32).collect();
        Tensor::<1, Int>::from_data(&source[..], (&device, DType::I32))
    };
    let [time, vertical, horizontal] = padding;
    let index = source(frames, time, height * width).reshape([-1, 1, 1])
        + source(height, vertical, width).reshape([1, -1, 1])
        + source(width, horizontal, 1).reshape([1, 1, -1]);
    let [frames_out, height_out, width_out] = index.dims();
    x.reshape([batch * channels, frames * height * width])
        .select(1, index.flatten(0, 2))
        .reshape([batch, channels, frames_out, height_out, width_out])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::random;
    use burn::tensor::{Device, ops::PadMode};

    #[test]
    fn padding_repeats_the_border() {
        let x = random([2, 3, 2, 3, 1]);
        let padding = [(2, 0), (1, 1), (1, 1)];
        let burns = x.clone().pad(padding, PadMode::Edge).into_data();
        pad_replicate(x, padding)
            .into_data()
            .assert_eq(&burns, true);
    }

    /// A value in f64 has digits that f32 lacks.
    #[test]
    fn values_in_f64_keep_their_digits() {
        let tensor = |value: f64, shape: [usize; 5]| {
            Tensor::<1>::from_data([value], (&Device::flex(), DType::F64))
                .reshape([1; 5])
                .expand(shape)
        };
        let (x, weight) = (
            tensor(1.0 + 1e-12, [1, 1, 2, 3, 3]),
            tensor(1.0, [1, 1, 3, 3, 3]),
        );
        let bias = tensor(-27.0, [1; 5]).reshape([1]);
        let out = causal_conv3d(x, weight, Some(bias), [1; 3]);
        for value in out.into_data().iter::<f64>() {
            assert!((value - 27e-12).abs() < 1e-13, "{value}");
        }
    }
}
