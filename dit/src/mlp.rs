//! The two-layer perceptron of every embedding and block.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{Device, Tensor},
};
use burn_hunyuan_kernels::linear;

/// `fc2(activation(fc1(x)))`.
#[derive(Module, Debug)]
pub struct Mlp {
    /// Input to hidden channels.
    pub fc1: Linear,
    /// Hidden to output channels.
    pub fc2: Linear,
}

impl Mlp {
    /// Creates the layers for the given input, hidden and output channels.
    pub fn new([input, hidden, output]: [usize; 3], device: &Device) -> Self {
        Self {
            fc1: LinearConfig::new(input, hidden).init(device),
            fc2: LinearConfig::new(hidden, output).init(device),
        }
    }

    /// Maps `x`: `[.., input]` to `[.., output]`.
    pub fn forward<const D: usize>(
        &self,
        x: Tensor<D>,
        activation: impl Fn(Tensor<D>) -> Tensor<D>,
    ) -> Tensor<D> {
        linear(&self.fc2, activation(linear(&self.fc1, x)))
    }
}
