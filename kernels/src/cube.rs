//! Operations written for CubeCL devices (CUDA, ROCm, Metal, Vulkan, wgpu).
//!
//! burn fuses what a layer is composed of into a few kernels on these devices, and what that leaves to
//! gain is measured by `benches/passes.rs`. The rotary embedding is an exception: even and odd channels
//! are cut out, multiplied and joined by nine kernels, where one does.

use burn::{
    backend::{
        Backend, Dispatch, DispatchDevice, TensorMetadata, backend_extension, tensor::FloatTensor,
    },
    tensor::{DType, Tensor, bf16, f16},
};
use burn_cubecl::{
    CubeBackend,
    cubecl::{self, calculate_cube_count_elemwise, prelude::*},
    kernel::into_contiguous,
    ops::numeric::empty_device_contiguous_dtype,
    tensor::CubeTensor,
};

/// See [`rotate_pairs`](crate::rotate_pairs); `None` where only the composed form runs, which is also
/// where gradients are asked for.
pub(crate) fn rotate_pairs(x: &Tensor<4>, cos: &Tensor<2>, sin: &Tensor<2>) -> Option<Tensor<4>> {
    let device = x.device();
    let formats = [DType::F16, DType::BF16, DType::F32, DType::Flex32];
    let applies =
        matches!(device.as_dispatch(), DispatchDevice::Cube(_)) && formats.contains(&x.dtype());
    applies.then(|| {
        Tensor::from_dispatch(Dispatch::rotate_pairs(
            x.clone().into_dispatch(),
            cos.clone().into_dispatch(),
            sin.clone().into_dispatch(),
        ))
    })
}

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
}

impl CubeOps for CubeBackend {
    fn rotate_pairs(x: CubeTensor, cos: CubeTensor, sin: CubeTensor) -> CubeTensor {
        let launch = match x.dtype {
            DType::F16 => rotate::launch::<f16>,
            DType::BF16 => rotate::launch::<bf16>,
            _ => rotate::launch::<f32>,
        };
        let (client, device, shape) = (x.client.clone(), x.device.clone(), x.shape());
        let [tokens, heads, d] = [shape[1], shape[2], shape[3]];
        let pairs = shape.num_elements() / 2;
        let addresses = x.required_address_type().max(cos.required_address_type());
        let out = empty_device_contiguous_dtype(client.clone(), device, shape, x.dtype);
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
