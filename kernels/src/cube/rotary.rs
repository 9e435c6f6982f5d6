//! The rotary embedding: composed, even and odd channels are cut out, multiplied and joined by nine
//! kernels, where one does.

use burn::backend::TensorMetadata;
use burn_cubecl::{
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    tensor::CubeTensor,
};

use super::{launch_for, like};

/// See [`rotate_pairs`](crate::rotate_pairs).
pub(super) fn rotate_pairs(x: CubeTensor, cos: CubeTensor, sin: CubeTensor) -> CubeTensor {
    let (client, shape, out) = (x.client.clone(), x.shape(), like(&x));
    let [tokens, heads, d] = [shape[1], shape[2], shape[3]];
    let pairs = shape.num_elements() / 2;
    let addresses = x.required_address_type().max(cos.required_address_type());
    let launch = launch_for!(rotate, x.dtype);
    let [x, cos, sin] = [x, cos, sin].map(|x| into_contiguous(x).into_buffer_arg());
    let cube = CubeDim::new(&client, pairs);
    launch(
        &client,
        calculate_cube_count_elemwise(&client, pairs, cube),
        cube,
        addresses,
        2,
        x,
        cos,
        sin,
        out.clone().into_buffer_arg(),
        tokens,
        heads,
        d / 2,
    );
    out
}

/// Each unit turns one pair, `x` and `out` being vectors of two.
#[cube(launch, address_type = "dynamic")]
fn rotate<F: Float, N: Size>(
    x: &[Vector<F, N>],
    cos: &[f32],
    sin: &[f32],
    out: &mut [Vector<F, N>],
    tokens: usize,
    #[comptime] heads: usize,
    #[comptime] half: usize,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let token = ABSOLUTE_POS / (heads * half) % tokens;
    let angle = token * half + ABSOLUTE_POS % half;
    let (cos, sin) = (cos[angle], sin[angle]);
    let pair = x[ABSOLUTE_POS];
    let even = f32::cast_from(pair.extract(0usize));
    let odd = f32::cast_from(pair.extract(1usize));
    let mut turned = Vector::<F, N>::empty();
    turned.insert(0usize, F::cast_from(even * cos - odd * sin));
    turned.insert(1usize, F::cast_from(odd * cos + even * sin));
    out[ABSOLUTE_POS] = turned;
}
