//! Operations written for CubeCL devices (CUDA, ROCm, Metal, Vulkan, wgpu).
//!
//! burn fuses what a layer is composed of into a few kernels on these devices. Where these read or write
//! a tensor more often than a kernel of their own has to, which `benches/passes.rs` tells, the layer has
//! one here. Each is `None` where only the composed form runs, which is also where gradients are asked for.
//!
//! Every value is rounded to its number format where the composed form rounds it, and the arithmetic
//! between is f32.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `rotary` | the rotary embedding |
//! | `rows` | norms over the last axis |
//! | `group_norm` | the VAE's norm, whose groups many cubes share |

mod group_norm;
mod rotary;
mod rows;

use burn::{
    backend::{Backend, Dispatch, DispatchDevice, backend_extension, tensor::FloatTensor},
    tensor::{DType, Tensor},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, client::Client, prelude::*},
    tensor::CubeTensor,
};

/// The operations.
#[backend_extension(Cube, Fusion)]
pub(crate) trait CubeOps: Backend {
    /// See [`rotate_pairs`](crate::rotate_pairs).
    #[fusion(dtype = x, shape = x)]
    fn rotate_pairs(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    /// See [`modulated_norm`](crate::modulated_norm).
    #[fusion(dtype = x, shape = x)]
    fn modulated_norm(
        x: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        eps: f32,
    ) -> FloatTensor<Self>;

    /// See [`RmsNorm`](crate::RmsNorm).
    #[fusion(dtype = x, shape = x)]
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f32) -> FloatTensor<Self>;

    /// See [`GroupNorm`](crate::GroupNorm); `weight` and `bias` in f32.
    #[fusion(dtype = x, shape = x)]
    fn group_norm(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        groups: usize,
        eps: f32,
        silu: bool,
    ) -> FloatTensor<Self>;
}

impl CubeOps for CubeBackend {
    fn rotate_pairs(x: CubeTensor, cos: CubeTensor, sin: CubeTensor) -> CubeTensor {
        rotary::rotate_pairs(x, cos, sin)
    }

    fn modulated_norm(x: CubeTensor, shift: CubeTensor, scale: CubeTensor, eps: f32) -> CubeTensor {
        rows::modulated_norm(x, shift, scale, eps)
    }

    fn rms_norm(x: CubeTensor, weight: CubeTensor, eps: f32) -> CubeTensor {
        rows::rms_norm(x, weight, eps)
    }

    fn group_norm(
        x: CubeTensor,
        weight: CubeTensor,
        bias: CubeTensor,
        groups: usize,
        eps: f32,
        silu: bool,
    ) -> CubeTensor {
        group_norm::group_norm(x, [weight, bias], groups, eps, silu)
    }
}

/// Whether `x` is on a CubeCL device, untracked, in a number format that the kernels know.
fn applies<const D: usize>(x: &Tensor<D>) -> bool {
    let formats = [DType::F16, DType::BF16, DType::F32, DType::Flex32];
    matches!(x.device().as_dispatch(), DispatchDevice::Cube(_)) && formats.contains(&x.dtype())
}

/// See [`rotate_pairs`](crate::rotate_pairs).
pub(crate) fn rotate_pairs(x: &Tensor<4>, cos: &Tensor<2>, sin: &Tensor<2>) -> Option<Tensor<4>> {
    let angles = [cos, sin].map(|x| x.dtype() == DType::F32 && applies(x));
    (applies(x) && angles == [true; 2]).then(|| {
        let [cos, sin] = [cos, sin].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::rotate_pairs(x.clone().into_dispatch(), cos, sin))
    })
}

/// See [`modulated_norm`](crate::modulated_norm).
pub(crate) fn modulated_norm(
    x: &Tensor<3>,
    shift: &Tensor<3>,
    scale: &Tensor<3>,
    eps: f64,
) -> Option<Tensor<3>> {
    let one_format = x.dtype() == shift.dtype() && x.dtype() == scale.dtype();
    (one_format && [x, shift, scale].into_iter().all(applies)).then(|| {
        let [x, shift, scale] = [x, shift, scale].map(|x| x.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::modulated_norm(x, shift, scale, eps as f32))
    })
}

/// See [`RmsNorm`](crate::RmsNorm).
pub(crate) fn rms_norm<const D: usize>(
    x: &Tensor<D>,
    weight: &Tensor<1>,
    eps: f64,
) -> Option<Tensor<D>> {
    (x.dtype() == weight.dtype() && applies(x) && applies(weight)).then(|| {
        let (x, weight) = (x.clone().into_dispatch(), weight.clone().into_dispatch());
        Tensor::from_dispatch(Dispatch::rms_norm(x, weight, eps as f32))
    })
}

/// See [`GroupNorm`](crate::GroupNorm).
pub(crate) fn group_norm<const D: usize>(
    x: &Tensor<D>,
    affine: [Tensor<1>; 2],
    groups: usize,
    eps: f64,
    silu: bool,
) -> Option<Tensor<D>> {
    (applies(x) && affine.iter().all(applies)).then(|| {
        let [weight, bias] = affine.map(|x| x.cast(DType::F32).into_dispatch());
        let x = x.clone().into_dispatch();
        Tensor::from_dispatch(Dispatch::group_norm(
            x, weight, bias, groups, eps as f32, silu,
        ))
    })
}

/// The function that launches `kernel` for values of `dtype`.
macro_rules! launch_for {
    ($kernel:ident, $dtype:expr) => {
        match $dtype {
            burn::tensor::DType::F16 => $kernel::launch::<burn::tensor::f16>,
            burn::tensor::DType::BF16 => $kernel::launch::<burn::tensor::bf16>,
            _ => $kernel::launch::<f32>,
        }
    };
}
use launch_for;

/// An uninitialised tensor of the shape and number format of `x`.
fn like(x: &CubeTensor) -> CubeTensor {
    let (client, device) = (x.client.clone(), x.device.clone());
    burn_cubecl::ops::numeric::empty_device_contiguous_dtype(
        client,
        device,
        burn::backend::TensorMetadata::shape(x),
        x.dtype,
    )
}

/// How many values the device best reads at once of rows of `width` values like those of `x`.
fn vector_size(x: &CubeTensor, width: usize) -> usize {
    let sizes = x.client.io_optimized_vector_sizes(x.dtype.size());
    let sizes = sizes.filter(|size| width.is_multiple_of(*size));
    sizes.max().unwrap_or(1)
}

/// Units of a cube whose units add up what each of them holds: a power of two.
fn units(client: &Client) -> u32 {
    const UNITS: u32 = 128;
    let most = client.properties().hardware.max_units_per_cube.max(1);
    UNITS.min(1 << most.ilog2())
}

/// So many cubes at least, as the device counts them.
fn cube_count(client: &Client, cubes: usize) -> CubeCount {
    cubecl::calculate_cube_count_elemwise(client, cubes, CubeDim::new_single())
}

/// How many sums a unit joins at a time. In twos, the units would wait for one another more often than
/// they add.
const JOINED: u32 = 8;

/// The sum of `value` over a row of units: those that differ in `UNIT_POS_X` alone. All units of the cube,
/// of which there are `units`, have to call it.
#[cube]
fn sum_of_units(value: f32, #[comptime] units: usize) -> f32 {
    let mut sums = Shared::<[f32]>::new_slice(units);
    let row = UNIT_POS_Y * CUBE_DIM_X;
    let place = (row + UNIT_POS_X) as usize;
    sums[place] = value;
    sync_cube();
    let mut left = CUBE_DIM_X;
    while left > 1 {
        let joined = left.div_ceil(JOINED);
        if UNIT_POS_X < joined {
            let mut sum = sums[place];
            for other in range_stepped(UNIT_POS_X + joined, left, joined) {
                sum += sums[(row + other) as usize];
            }
            sums[place] = sum;
        }
        left = joined;
        sync_cube();
    }
    sums[row as usize]
}

/// `x` in f32, rounded to the number format `F`.
#[cube]
fn rounded<F: Float, N: Size>(x: Vector<f32, N>) -> Vector<f32, N> {
    Vector::cast_from(Vector::<F, N>::cast_from(x))
}
