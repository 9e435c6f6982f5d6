//! Dense optical flow by polynomial expansion.
//!
//! Gunnar Farnebäck, *Two-Frame Motion Estimation Based on Polynomial Expansion* (SCIA 2003), with
//! the numerics of OpenCV's `calcOpticalFlowFarneback`: the neighbourhood of every pixel of both
//! pictures is fitted with `f(p) ≈ pᵀAp + bᵀp + c`. A shift by `d` leaves `A` and takes `2Ad` from
//! `b`, so `A d = Δb` gives the shift, solved by least squares over a window, again and again with
//! the second picture's fit taken where the last flow points, from the coarsest picture of a
//! pyramid to the finest.
//!
//! Everything but that look-up is separable and linear, hence two matrix multiplications
//! ([`super::filter`]): smoothing, resizing and fitting in one, and the window in another, borders
//! and border weights included. What OpenCV sums in doubles is summed in f32 here.

use std::ops::Bound;

use burn::tensor::{
    DType, Device, Tensor, TensorData,
    ops::{GridSampleOptions, InterpolateMode},
};
use serde::{Deserialize, Serialize};

use super::{
    filter::{Border, Filter, stack},
    weights,
};
use crate::{
    Error, Result,
    range::{Checked, within},
};

/// OpenCV builds no pyramid level with a side below this.
const SMALLEST_SIDE: f64 = 32.0;

/// Added to the determinant, so that flat regions give no flow instead of any.
const REGULARISATION: f64 = 1e-3;

/// The parameters of `calcOpticalFlowFarneback`, named as there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FarnebackConfig {
    /// Size of each pyramid level relative to the one below it, in (0, 1).
    pub pyr_scale: f64,
    /// Reduced levels above the picture itself; those with a side below 32 pixels are left out.
    pub levels: usize,
    /// Side of the window over which motion is taken to be the same, in pixels, at least 2. Larger
    /// is more robust and smoother.
    pub winsize: usize,
    /// Solutions for each level.
    pub iterations: usize,
    /// Radius of the neighbourhood that is fitted, in pixels: 5 or 7 as a rule.
    pub poly_n: usize,
    /// Standard deviation of the fit's weights, in pixels: 1.1 to 1.5 as a rule.
    pub poly_sigma: f64,
    /// A Gaussian window instead of a box (`OPTFLOW_FARNEBACK_GAUSSIAN`).
    pub gaussian: bool,
}

impl Default for FarnebackConfig {
    /// The parameters of OpenCV's tutorial, which Open-Sora 1.1 took for its camera motions.
    fn default() -> Self {
        Self {
            pyr_scale: 0.5,
            levels: 3,
            winsize: 15,
            iterations: 3,
            poly_n: 5,
            poly_sigma: 1.2,
            gaussian: false,
        }
    }
}

impl FarnebackConfig {
    /// The upper bounds are our choice: beyond them nothing is gained, and the time grows.
    pub(super) fn check(&self) -> Checked {
        let scales = (Bound::Excluded(0.0), Bound::Excluded(1.0));
        within("pyr_scale", self.pyr_scale, scales)?;
        within("levels", self.levels, 0..=32)?;
        within("winsize", self.winsize, 2..=512)?;
        within("iterations", self.iterations, 1..=100)?;
        within("poly_n", self.poly_n, 1..=32)?;
        within("poly_sigma", self.poly_sigma, 0.1..=100.0)
    }

    /// Sizes of the pyramid's levels relative to the picture, coarsest first.
    fn scales(&self, [height, width]: [usize; 2]) -> Vec<f64> {
        let shorter = height.min(width) as f64;
        let mut scales: Vec<f64> = (0..=self.levels as i32)
            .map(|level| self.pyr_scale.powi(level))
            .take_while(|scale| *scale == 1.0 || shorter * scale >= SMALLEST_SIDE)
            .collect();
        scales.reverse();
        scales
    }
}

/// Optical flow of pictures of one size, prepared on a device.
#[derive(Debug, Clone)]
pub struct Farneback {
    /// Coarsest first.
    levels: Vec<Level>,
    size: [usize; 2],
    iterations: usize,
    /// Factor of the flow from a level to the next finer one.
    growth: f64,
}

impl Farneback {
    /// Prepares for pictures of `size` (height, width).
    ///
    /// # Errors
    ///
    /// A parameter out of its range, or a size without pixels.
    pub fn new(config: &FarnebackConfig, size: [usize; 2], device: &Device) -> Result<Self> {
        let checked = config.check();
        checked.map_err(|fault| Error::Request(format!("optical flow: {fault}")))?;
        if size.contains(&0) {
            return Err(Error::Request(format!(
                "optical flow: a picture of {size:?}"
            )));
        }
        let mut levels: Vec<Level> = Vec::new();
        for scale in config.scales(size) {
            // Before the coarsest there is one pixel, which does not move.
            let coarser = levels.last().map_or([1, 1], |level| level.size);
            levels.push(Level::new(config, scale, size, coarser, device));
        }
        Ok(Self {
            levels,
            size,
            iterations: config.iterations,
            growth: 1.0 / config.pyr_scale,
        })
    }

    /// The flow from each picture to the next: f32 `[n, height, width]` with values from 0 to 255
    /// to f32 `[n − 1, 2, height, width]`, right and down in pixels.
    ///
    /// # Panics
    ///
    /// Fewer than two pictures, or pictures of another size than prepared for.
    pub fn flow(&self, pictures: Tensor<3>) -> Tensor<4> {
        let [count, height, width] = pictures.dims();
        assert_eq!([height, width], self.size, "pictures of another size");
        assert!(count > 1, "flow needs two pictures");
        // The fit does not see a constant; sums of smaller numbers are more precise.
        let pictures = (pictures - 128.0).unsqueeze_dim(1);
        let mut flow = Tensor::zeros([count - 1, 2, 1, 1], (&pictures.device(), DType::F32));
        for level in &self.levels {
            let pair = Pair::new(level, level.fit.apply(pictures.clone()));
            flow = level.enlarge.apply(flow) * self.growth;
            for _ in 0..self.iterations {
                flow = pair.improve(flow);
            }
        }
        flow
    }
}

/// A separable filter: `rows · x · columnsᵀ`.
#[derive(Debug, Clone)]
struct Separable {
    /// `[1, filters, height, height before]`
    rows: Tensor<4>,
    /// `[1, filters, width before, width]`
    columns: Tensor<4>,
}

impl Separable {
    /// From pairs of filters for the vertical and the horizontal axis.
    fn new(vertical: &[Filter], horizontal: &[Filter], device: &Device) -> Self {
        Self {
            rows: stack(vertical, device),
            columns: stack(horizontal, device).swap_dims(2, 3),
        }
    }

    /// `[n, 1 or filters, height before, width before]` to `[n, filters, height, width]`; a single
    /// filter serves every channel.
    fn apply(&self, x: Tensor<4>) -> Tensor<4> {
        self.rows.clone().matmul(x).matmul(self.columns.clone())
    }
}

/// One size of the pyramid.
#[derive(Debug, Clone)]
struct Level {
    size: [usize; 2],
    /// From pictures to the five coefficients of the fit at this size: x, y, x², y², xy.
    fit: Separable,
    /// The mean over the window, with less trust in the picture's edge.
    window: Separable,
    /// From the flow's size at the coarser level to this one.
    enlarge: Separable,
    /// Where every pixel is: x and y, `[1, 2, height, width]`.
    positions: Tensor<4>,
    /// The last column and row, `[1, 2, 1, 1]`.
    last: Tensor<4>,
    /// From a position to twice its share of the axis, `[1, 2, 1, 1]`.
    to_grid: Tensor<4>,
}

impl Level {
    fn new(
        config: &FarnebackConfig,
        scale: f64,
        full: [usize; 2],
        coarser: [usize; 2],
        device: &Device,
    ) -> Self {
        let size = full.map(|side| (side as f64 * scale).round_ties_even() as usize);
        let fit = |axis: usize| {
            let reduced = Filter::taps(&weights::smoothing(scale), full[axis], Border::Reflect)
                .then(&Filter::linear(size[axis], full[axis]));
            weights::expansion(config.poly_n, config.poly_sigma)
                .map(|taps| reduced.then(&Filter::taps(&taps, size[axis], Border::Replicate)))
        };
        let taps = weights::window(config.winsize, config.gaussian);
        let window = |side| {
            let mean = Filter::taps(&taps, side, Border::Replicate);
            mean.weighted(&weights::edge_trust(side))
        };
        let enlarge = |axis: usize| Filter::linear(size[axis], coarser[axis]);
        let ([one_y, y, yy], [one_x, x, xx]) = (fit(0), fit(1));
        let last = [size[1] - 1, size[0] - 1].map(|last| last as f32);
        Self {
            size,
            fit: Separable::new(
                &[one_y.clone(), y.clone(), one_y, yy, y],
                &[x.clone(), one_x.clone(), xx, one_x, x],
                device,
            ),
            window: Separable::new(&[window(size[0])], &[window(size[1])], device),
            enlarge: Separable::new(&[enlarge(0)], &[enlarge(1)], device),
            positions: positions(size, device),
            last: tensor(last.to_vec(), [1, 2, 1, 1], device),
            // A single row or column has no second one to look at: any finite factor does.
            to_grid: tensor(
                last.map(|last| 2.0 / last.max(1.0)).to_vec(),
                [1, 2, 1, 1],
                device,
            ),
        }
    }
}

/// The fits of pictures and of their successors, at one level.
struct Pair<'a> {
    level: &'a Level,
    /// x and y of the first pictures, `[n, 2, height, width]`.
    linear: Tensor<4>,
    /// x², y² and xy of the first pictures, `[n, 3, height, width]`.
    square: Tensor<4>,
    /// All five of the second pictures.
    second: Tensor<4>,
}

impl<'a> Pair<'a> {
    /// From the fits of all pictures, each but the last with its successor.
    fn new(level: &'a Level, fits: Tensor<4>) -> Self {
        let pairs = fits.dims()[0] - 1;
        let first = fits.clone().narrow(0, 0, pairs);
        Self {
            level,
            linear: first.clone().narrow(1, 0, 2),
            square: first.narrow(1, 2, 3),
            second: fits.narrow(0, 1, pairs),
        }
    }

    /// A better flow, from the second pictures' fits where `flow` points.
    fn improve(&self, flow: Tensor<4>) -> Tensor<4> {
        let channel = |tensor: &Tensor<4>, i| tensor.clone().narrow(1, i, 1);
        let (linear, square) = self.compare(flow.clone());
        let [xx, yy, xy] = [0, 1, 2].map(|i| channel(&square, i));
        let [dx, dy] = [0, 1].map(|i| channel(&flow, i));
        // What the fits differ by, to which the flow so far is added back.
        let x = channel(&linear, 0) + xx.clone() * dx.clone() + xy.clone() * dy.clone();
        let y = channel(&linear, 1) + xy.clone() * dx + yy.clone() * dy;

        // The normal equations of A d = b, averaged over the window.
        let mixed = xy.clone() * xy.clone();
        let equations = Tensor::cat(
            vec![
                xx.clone() * xx.clone() + mixed.clone(),
                yy.clone() * yy.clone() + mixed,
                (xx.clone() + yy.clone()) * xy.clone(),
                xx * x.clone() + xy.clone() * y.clone(),
                xy * x + yy * y,
            ],
            1,
        );
        let equations = self.level.window.apply(equations);
        let [xx, yy, xy, x, y] = [0, 1, 2, 3, 4].map(|i| channel(&equations, i));
        // Never negative but for rounding.
        let determinant = (xx.clone() * yy.clone() - xy.clone() * xy.clone()).clamp_min(0.0);
        let inverse = (determinant + REGULARISATION).recip();
        let dx = (yy * x.clone() - xy.clone() * y.clone()) * inverse.clone();
        let dy = (xx * y - xy * x) * inverse;
        Tensor::cat(vec![dx, dy], 1)
    }

    /// The difference of the linear and the sum of the square coefficients.
    ///
    /// Where the flow leaves the picture, the second's are taken as none and as the first's.
    fn compare(&self, flow: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let positions = self.level.positions.clone() + flow;
        let inside = positions
            .clone()
            .greater_equal_elem(0.0)
            .bool_and(positions.clone().lower(self.level.last.clone()));
        let inside = inside
            .clone()
            .narrow(1, 0, 1)
            .bool_and(inside.narrow(1, 1, 1))
            .float()
            .cast(DType::F32);
        let grid = positions * self.level.to_grid.clone() - 1.0;
        // By way of a flat tensor: CubeCL's `grid_sample_2d` does not heed the strides of a grid.
        let [pairs, _, height, width] = grid.dims();
        let grid = grid.permute([0, 2, 3, 1]).flatten::<1>(0, 3);
        let grid = grid.reshape([pairs, height, width, 2]);
        let options = GridSampleOptions::new(InterpolateMode::Bilinear).with_align_corners(true);
        let second = self.second.clone().grid_sample_2d(grid, options) * inside.clone();
        let linear = self.linear.clone() - second.clone().narrow(1, 0, 2);
        let square = second.narrow(1, 2, 3) + self.square.clone() * (-inside + 2.0);
        (linear, square)
    }
}

/// Where every pixel is: x and y, `[1, 2, height, width]`.
fn positions([height, width]: [usize; 2], device: &Device) -> Tensor<4> {
    let pixels = height * width;
    let x = (0..pixels).map(|i| (i % width) as f32);
    let y = (0..pixels).map(|i| (i / width) as f32);
    tensor(x.chain(y).collect(), [1, 2, height, width], device)
}

fn tensor(values: Vec<f32>, shape: [usize; 4], device: &Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}
