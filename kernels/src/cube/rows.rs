//! Norms over the last axis: some units of a cube share a row, which they read from memory once, and
//! from the cache again after each of their sums.

use burn::backend::TensorMetadata;
use burn_cubecl::{
    cubecl::{self, client::Client, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{cube_count, launch_for, like, rounded, sum_of_units, units, vector_size};

/// See [`modulated_norm`](crate::modulated_norm).
pub(super) fn modulated_norm(
    x: CubeTensor,
    shift: CubeTensor,
    scale: CubeTensor,
    eps: f32,
) -> CubeTensor {
    let (client, shape, out) = (x.client.clone(), x.shape(), like(&x));
    let [batch, tokens, channels] = [shape[0], shape[1], shape[2]];
    let size = vector_size(&x, channels);
    let launch = launch_for!(modulate_rows, x.dtype);
    let addresses = x.required_address_type();
    let (cubes, cube) = cubes(&client, batch * tokens, channels / size);
    let [x, shift, scale] = [x, shift, scale].map(|x| into_contiguous(x).into_buffer_arg());
    launch(
        &client,
        cubes,
        cube,
        addresses,
        size,
        x,
        shift,
        scale,
        out.clone().into_buffer_arg(),
        channels / size,
        tokens,
        eps,
        cube.num_elems() as usize,
    );
    out
}

/// See [`RmsNorm`](crate::RmsNorm).
pub(super) fn rms_norm(x: CubeTensor, weight: CubeTensor, eps: f32) -> CubeTensor {
    let (client, shape, out) = (x.client.clone(), x.shape(), like(&x));
    let channels = weight.shape()[0];
    let size = vector_size(&x, channels);
    let launch = launch_for!(scale_rows, x.dtype);
    let addresses = x.required_address_type();
    let (cubes, cube) = cubes(&client, shape.num_elements() / channels, channels / size);
    let [x, weight] = [x, weight].map(|x| into_contiguous(x).into_buffer_arg());
    launch(
        &client,
        cubes,
        cube,
        addresses,
        size,
        x,
        weight,
        out.clone().into_buffer_arg(),
        channels / size,
        eps,
        cube.num_elems() as usize,
    );
    out
}

/// Cubes for `rows` of `width` vectors: the units of a row side by side, rows above one another.
fn cubes(client: &Client, rows: usize, width: usize) -> (CubeCount, CubeDim) {
    /// Vectors of a row for a unit; more where the cube has too few units.
    const VECTORS: usize = 4;
    let units = units(client);
    let for_row = units.min(width.div_ceil(VECTORS).next_power_of_two() as u32);
    let cube = CubeDim::new_2d(for_row, units / for_row);
    (cube_count(client, rows.div_ceil(cube.y as usize)), cube)
}

/// The row of this unit, and where that begins and ends among vectors, of which there are `len`. A
/// cube's last rows may lie behind the end; they are empty.
#[cube]
fn row(width: usize, len: usize) -> (usize, usize, usize) {
    let row = CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let start = row * width;
    (row, start, select(start < len, start + width, start))
}

/// `(x − mean) / √(variance + eps) · (1 + scale) + shift` for rows of `width` vectors.
#[cube(launch, address_type = "dynamic")]
fn modulate_rows<F: Float, N: Size>(
    x: &[Vector<F, N>],
    shift: &[Vector<F, N>],
    scale: &[Vector<F, N>],
    out: &mut [Vector<F, N>],
    width: usize,
    tokens: usize,
    eps: f32,
    #[comptime] units: usize,
) {
    let (row, start, end) = row(width, x.len());
    let (first, step) = (start + UNIT_POS_X as usize, CUBE_DIM_X as usize);
    let count = f32::cast_from(width * N::value());

    let mut sum = Vector::<f32, N>::new(0.0);
    for i in range_stepped(first, end, step) {
        sum += Vector::cast_from(x[i]);
    }
    let mean = Vector::<f32, N>::new(sum_of_units(sum.vector_sum(), units) / count);

    let mut squares = Vector::<f32, N>::new(0.0);
    for i in range_stepped(first, end, step) {
        let centred = Vector::<f32, N>::cast_from(x[i]) - mean;
        squares += centred * centred;
    }
    let variance = sum_of_units(squares.vector_sum(), units) / count;

    let deviation = Vector::<f32, N>::new((variance + eps).sqrt());
    let one = Vector::<f32, N>::new(1.0);
    let sample = row / tokens * width;
    for i in range_stepped(first, end, step) {
        let channel = sample + (i - start);
        let normal = (Vector::<f32, N>::cast_from(x[i]) - mean) / deviation;
        let scale = rounded::<F, N>(Vector::<f32, N>::cast_from(scale[channel]) + one);
        let scaled = rounded::<F, N>(rounded::<F, N>(normal) * scale);
        let shifted = scaled + Vector::<f32, N>::cast_from(shift[channel]);
        out[i] = Vector::cast_from(shifted);
    }
}

/// `x / √(mean(x²) + eps) · weight` for rows of `width` vectors.
#[cube(launch, address_type = "dynamic")]
fn scale_rows<F: Float, N: Size>(
    x: &[Vector<F, N>],
    weight: &[Vector<F, N>],
    out: &mut [Vector<F, N>],
    width: usize,
    eps: f32,
    #[comptime] units: usize,
) {
    let (_, start, end) = row(width, x.len());
    let (first, step) = (start + UNIT_POS_X as usize, CUBE_DIM_X as usize);

    let mut squares = Vector::<f32, N>::new(0.0);
    for i in range_stepped(first, end, step) {
        let x = Vector::<f32, N>::cast_from(x[i]);
        squares += x * x;
    }
    let mean = sum_of_units(squares.vector_sum(), units) / f32::cast_from(width * N::value());

    let root = Vector::<f32, N>::new((mean + eps).sqrt());
    for i in range_stepped(first, end, step) {
        let normal = rounded::<F, N>(Vector::<f32, N>::cast_from(x[i]) / root);
        let scaled = normal * Vector::<f32, N>::cast_from(weight[i - start]);
        out[i] = Vector::cast_from(scaled);
    }
}
