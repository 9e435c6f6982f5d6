//! Convolution that never looks at later frames.

use burn::{
    config::Config,
    module::{Module, Param},
    nn::conv::{Conv3d, Conv3dConfig},
    tensor::{Device, Tensor},
};
use burn_hunyuan_kernels::causal_conv3d;

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

/// The layer of a [`causal_conv3d`].
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
    /// Convolves `x`: `[batch, channels in, frames, height, width]` to `[batch, channels out, frames',
    /// height', width']`.
    pub fn forward(&self, x: Tensor<5>) -> Tensor<5> {
        let (weight, bias) = (self.conv.weight.val(), self.conv.bias.as_ref());
        causal_conv3d(x, weight, bias.map(Param::val), self.conv.stride)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{DType, Distribution};

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
}
