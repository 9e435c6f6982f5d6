//! Three-dimensional rotary position embedding.

use burn::tensor::{DType, Device, Tensor};
use burn_hunyuan_kernels::rotate_pairs;

use crate::place;

/// Rotation angles of a sequence of image tokens followed by text tokens.
///
/// A head's channels are divided among time, height and width; each part is rotated by the
/// token's position on its axis (arXiv 2412.03603, section 4.2). Text tokens have no position and
/// are not turned.
#[derive(Clone, Debug)]
pub struct Rope {
    /// Cosines, f32 `[tokens, head_dim / 2]`.
    cos: Tensor<2>,
    /// Sines, f32 `[tokens, head_dim / 2]`.
    sin: Tensor<2>,
}

impl Rope {
    /// The angles for a `grid` of image tokens (frames, rows, columns) and `text` tokens.
    ///
    /// `axes` are the channels of a head for each axis, `theta` is the base of the frequencies.
    pub fn new(
        axes: [usize; 3],
        theta: f64,
        grid: [usize; 3],
        text: usize,
        device: &Device,
    ) -> Self {
        let table = |of: fn(f32) -> f32, at_zero: f64| {
            // Sines and cosines of one axis are few: they are computed here, precisely, and spread
            // over the grid on the device.
            let axis = |i: usize| -> Tensor<2> {
                let (positions, pairs) = (grid[i], axes[i] / 2);
                let frequency = |pair| (theta as f32).powf(-((2 * pair) as f32) / axes[i] as f32);
                let values: Vec<f32> = (0..positions)
                    .flat_map(|p| (0..pairs).map(move |pair| of(p as f32 * frequency(pair))))
                    .collect();
                let mut shape = [1, 1, 1, pairs];
                shape[i] = positions;
                Tensor::<1>::from_data(values.as_slice(), (device, DType::F32))
                    .reshape(shape)
                    .expand([grid[0], grid[1], grid[2], pairs])
                    .reshape([grid.iter().product(), pairs])
            };
            let image = Tensor::cat(vec![axis(0), axis(1), axis(2)], 1);
            let still = Tensor::full([text, image.dims()[1]], at_zero, (device, DType::F32));
            Tensor::cat(vec![image, still], 0)
        };
        Self {
            cos: table(f32::cos, 1.0),
            sin: table(f32::sin, 0.0),
        }
    }

    /// The same on another device.
    pub(crate) fn place(self, device: &Device) -> Self {
        Self {
            cos: place(self.cos, device),
            sin: place(self.sin, device),
        }
    }

    /// Turns queries or keys: `[batch, tokens, heads, head_dim]` to the same shape.
    pub fn rotate(&self, x: Tensor<4>) -> Tensor<4> {
        rotate_pairs(x, self.cos.clone(), self.sin.clone())
    }
}
