//! Convolution that never looks at later frames.

use burn::{
    config::Config,
    module::Module,
    nn::conv::{Conv3d, Conv3dConfig},
    tensor::{DType, Device, Int, Tensor},
};

/// Configuration of a [`CausalConv3d`].
#[derive(Config, Debug)]
pub struct CausalConv3dConfig {
    /// Channels in and out.
    pub channels: [usize; 2],
    /// Size of the cubic kernel; odd.
    #[config(default = 3)]
    pub kernel_size: usize,
    /// Stride in frames, height and width.
    #[config(default = "[1, 1, 1]")]
    pub stride: [usize; 3],
}

/// 3D convolution over (time, height, width), causal in time: frame `t` of the output depends on
/// frames up to `t · stride` of the input. Borders repeat the outermost values; in time the first
/// frame is repeated before the clip and nothing follows it.
///
/// Section 4.1.1 of the HunyuanVideo paper; the padding is diffusers' `HunyuanVideoCausalConv3d`.
#[derive(Module, Debug)]
pub struct CausalConv3d {
    /// The convolution, without padding of its own.
    pub conv: Conv3d,
}

impl CausalConv3dConfig {
    /// Creates the layer with burn's default initialisation.
    pub fn init(&self, device: &Device) -> CausalConv3d {
        let conv = Conv3dConfig::new(self.channels, [self.kernel_size; 3])
            .with_stride(self.stride)
            .init(device);
        CausalConv3d { conv }
    }
}

impl CausalConv3d {
    /// Convolves `x`.
    ///
    /// # Shapes
    /// - `x`: `[batch, channels in, frames, height, width]`
    /// - output: `[batch, channels out, frames', height', width']`, each axis its length divided by
    ///   the stride, rounded up
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let [kernel, ..] = self.conv.kernel_size;
        if kernel == 1 {
            return self.conv.forward(x);
        }
        if let (3, [1, 1, 1], Some(bias)) = (kernel, self.conv.stride, &self.conv.bias) {
            let (weight, bias) = (self.conv.weight.val(), bias.val());
            if let Some(out) = burn_hunyuan_kernels::causal_conv3d(&x, weight, bias) {
                return out;
            }
        }
        let side = (kernel / 2, kernel / 2);
        self.conv
            .forward(pad_replicate(x, [(kernel - 1, 0), side, side]))
    }
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
    use burn::tensor::{Distribution, ops::PadMode};

    /// Frames of the output that change when the input's frame `t` does.
    fn changed(conv: &CausalConv3d, x: &Tensor<5>, t: usize) -> Vec<usize> {
        let frame = x.clone().narrow(2, t, 1) + 1.0;
        let [_, _, frames, _, _] = x.dims();
        let mut parts = vec![frame];
        if t > 0 {
            parts.insert(0, x.clone().narrow(2, 0, t));
        }
        if t + 1 < frames {
            parts.push(x.clone().narrow(2, t + 1, frames - t - 1));
        }
        let difference = conv.forward(Tensor::cat(parts, 2)) - conv.forward(x.clone());
        let by_frame: Vec<f32> = difference
            .abs()
            .swap_dims(0, 2)
            .flatten::<2>(1, 4)
            .max_dim(1)
            .into_data()
            .try_to_vec()
            .unwrap();
        (0..by_frame.len()).filter(|&i| by_frame[i] > 0.0).collect()
    }

    #[test]
    fn a_frame_changes_nothing_before_it() {
        let device = Device::flex();
        let x = Tensor::random(
            [1, 2, 7, 4, 5],
            Distribution::Default,
            (&device, DType::F32),
        );
        let conv = CausalConv3dConfig::new([2, 3]).init(&device);
        assert_eq!(changed(&conv, &x, 0), [0, 1, 2]);
        assert_eq!(changed(&conv, &x, 3), [3, 4, 5]);
        assert_eq!(changed(&conv, &x, 6), [6]);
        // Frame t of a strided convolution sees up to frame 2 t.
        let strided = CausalConv3dConfig::new([2, 3])
            .with_stride([2, 2, 2])
            .init(&device);
        assert_eq!(changed(&strided, &x, 3), [2]);
        assert_eq!(changed(&strided, &x, 4), [2, 3]);
    }

    #[test]
    fn padding_repeats_the_border() {
        let device = Device::flex();
        let x = Tensor::random(
            [2, 3, 2, 3, 1],
            Distribution::Default,
            (&device, DType::F32),
        );
        let padding = [(2, 0), (1, 1), (1, 1)];
        let burns = x.clone().pad(padding, PadMode::Edge).into_data();
        pad_replicate(x, padding)
            .into_data()
            .assert_eq(&burns, true);
    }
}
