//! Values for tests.

use std::{cell::RefCell, f32::consts::TAU};

use burn::tensor::{DType, Device, Tensor, TensorData};
use proptest::{
    prelude::RngExt,
    test_runner::{RngAlgorithm, TestRng},
};

/// Normal values of mean 0.2. A test sees the same ones every time: it has a thread of its own.
pub(crate) fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    thread_local! {
        static RNG: RefCell<TestRng> =
            RefCell::new(TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    }
    let normal = |rng: &mut TestRng| {
        let [u, v]: [f32; 2] = rng.random();
        0.2 + (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
    };
    let count = shape.iter().product();
    let values: Vec<f32> = RNG.with_borrow_mut(|rng| (0..count).map(|_| normal(rng)).collect());
    Tensor::from_data(
        TensorData::new(values, shape),
        (&Device::flex(), DType::F32),
    )
}
