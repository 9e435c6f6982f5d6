//! Group norm: groups of video size are cut into pieces, one for a cube, whose means and sums of squares
//! are joined before a second pass applies them.

use burn::{backend::TensorMetadata, tensor::DType};
use burn_cubecl::{
    cubecl::{self, prelude::*},
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

use super::{cube_count, launch_for, like, rounded, sum_of_units, units, vector_size};

/// Vectors that a unit takes of a piece.
const ROUNDS: usize = 8;

/// See [`GroupNorm`](crate::GroupNorm).
pub(super) fn group_norm(
    x: CubeTensor,
    [weight, bias]: [CubeTensor; 2],
    groups: usize,
    eps: f32,
    silu: bool,
) -> CubeTensor {
    let (client, shape, out) = (x.client.clone(), x.shape(), like(&x));
    let [batch, channels] = [shape[0], shape[1]];
    let (rows, width) = (batch * channels, shape[2..].iter().product::<usize>());
    let size = vector_size(&x, width);
    let width = width / size;
    let pieces = width.div_ceil(ROUNDS * units(&client) as usize);
    let addresses = x.required_address_type();
    let dtype = x.dtype;
    let table = |len: usize| {
        let (client, device) = (client.clone(), x.device.clone());
        empty_device_contiguous_dtype(client, device, [len].into(), DType::F32)
    };
    let (moments, statistics) = (table(2 * rows * pieces), table(2 * batch * groups));
    let x = into_contiguous(x);

    let cube = CubeDim::new_1d(units(&client));
    let all = cube.num_elems() as usize;
    launch_for!(measure, dtype)(
        &client,
        cube_count(&client, rows * pieces),
        cube,
        addresses,
        size,
        x.clone().into_buffer_arg(),
        moments.clone().into_buffer_arg(),
        width,
        pieces,
        all,
    );
    join::launch(
        &client,
        cube_count(&client, batch * groups),
        cube,
        addresses,
        moments.into_buffer_arg(),
        statistics.clone().into_buffer_arg(),
        channels / groups * pieces,
        width,
        pieces,
        size,
        eps,
        all,
    );
    launch_for!(apply, dtype)(
        &client,
        cube_count(&client, rows * pieces),
        cube,
        addresses,
        size,
        x.into_buffer_arg(),
        statistics.into_buffer_arg(),
        into_contiguous(weight).into_buffer_arg(),
        into_contiguous(bias).into_buffer_arg(),
        out.clone().into_buffer_arg(),
        width,
        pieces,
        channels,
        channels / groups,
        silu,
        all,
    );
    out
}

/// Where the `piece` of a row of `width` vectors begins and ends in it.
#[cube]
fn bounds(piece: usize, width: usize, #[comptime] units: usize) -> (usize, usize) {
    let start = piece * (ROUNDS * units);
    (start, min(start + ROUNDS * units, width))
}

/// Mean, and sum of squared differences from it, of a piece: cube after cube the pieces of a row, row
/// after row the channels.
#[cube(launch, address_type = "dynamic")]
fn measure<F: Float, N: Size>(
    x: &[Vector<F, N>],
    moments: &mut [f32],
    width: usize,
    pieces: usize,
    #[comptime] units: usize,
) {
    let (start, end) = bounds(CUBE_POS % pieces, width, units);
    let row = CUBE_POS / pieces * width;
    let count = f32::cast_from((end - start) * N::value());
    let (first, end) = (row + start + UNIT_POS as usize, min(row + end, x.len()));

    let mut sum = Vector::<f32, N>::new(0.0);
    for i in range_stepped(first, end, units) {
        sum += Vector::cast_from(x[i]);
    }
    let mean = sum_of_units(sum.vector_sum(), units) / count;

    let mut squares = Vector::<f32, N>::new(0.0);
    for i in range_stepped(first, end, units) {
        let centred = Vector::<f32, N>::cast_from(x[i]) - Vector::new(mean);
        squares += centred * centred;
    }
    let squares = sum_of_units(squares.vector_sum(), units);

    if UNIT_POS == 0 && 2 * CUBE_POS < moments.len() {
        moments[2 * CUBE_POS] = mean;
        moments[2 * CUBE_POS + 1] = squares;
    }
}

/// Mean and inverse deviation of a group, a cube each, from what [`measure`] found of its `parts`
/// (Chan et al., Updating formulae and a pairwise algorithm for computing sample variances, 1979).
#[cube(launch, address_type = "dynamic")]
fn join(
    moments: &[f32],
    statistics: &mut [f32],
    parts: usize,
    width: usize,
    pieces: usize,
    size: usize,
    eps: f32,
    #[comptime] units: usize,
) {
    let group = CUBE_POS;
    let count = f32::cast_from(parts / pieces * width * size);
    let first = group * parts;
    // Behind the last group there is nothing to join.
    let end = select(2 * group < statistics.len(), parts, 0);

    let mut sum = 0.0f32;
    for part in range_stepped(UNIT_POS as usize, end, units) {
        let (start, end) = bounds(part % pieces, width, units);
        sum += moments[2 * (first + part)] * f32::cast_from((end - start) * size);
    }
    let mean = sum_of_units(sum, units) / count;

    let mut squares = 0.0f32;
    for part in range_stepped(UNIT_POS as usize, end, units) {
        let (start, end) = bounds(part % pieces, width, units);
        let apart = moments[2 * (first + part)] - mean;
        squares += moments[2 * (first + part) + 1];
        squares += apart * apart * f32::cast_from((end - start) * size);
    }
    let variance = sum_of_units(squares, units) / count;

    if UNIT_POS == 0 && 2 * group < statistics.len() {
        statistics[2 * group] = mean;
        statistics[2 * group + 1] = 1.0 / (variance + eps).sqrt();
    }
}

/// Applies a group's `statistics`, the affine part and, if asked for, SiLU to a piece of a row.
#[cube(launch, address_type = "dynamic")]
fn apply<F: Float, N: Size>(
    x: &[Vector<F, N>],
    statistics: &[f32],
    weight: &[f32],
    bias: &[f32],
    out: &mut [Vector<F, N>],
    width: usize,
    pieces: usize,
    channels: usize,
    per_group: usize,
    #[comptime] silu: bool,
    #[comptime] units: usize,
) {
    let row = CUBE_POS / pieces;
    if row * width >= out.len() {
        terminate!();
    }
    let (start, end) = bounds(CUBE_POS % pieces, width, units);
    let (channel, group) = (row % channels, row / per_group);
    let mean = Vector::<f32, N>::new(statistics[2 * group]);
    let scale = Vector::<f32, N>::new(statistics[2 * group + 1] * weight[channel]);
    let bias = Vector::<f32, N>::new(bias[channel]);
    let (start, end) = (row * width + start, row * width + end);
    for i in range_stepped(start + UNIT_POS as usize, end, units) {
        let normal = (Vector::<f32, N>::cast_from(x[i]) - mean) * scale + bias;
        if silu {
            let normal = rounded::<F, N>(normal);
            let one = Vector::<f32, N>::new(1.0);
            out[i] = Vector::cast_from(normal / (one + (-normal).exp()));
        } else {
            out[i] = Vector::cast_from(normal);
        }
    }
}
