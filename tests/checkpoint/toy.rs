//! A small module and its checkpoint.

use std::{collections::HashMap, ops::ControlFlow, path::Path};

use burn::{
    module::{Module, Param, ParamId},
    nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig},
    tensor::{DType, Device, FloatDType, Tensor, bf16, f16},
};
use burn_hunyuan::checkpoint::{Error, Weights, load_module};
use safetensors::{Dtype, tensor::TensorView};

use crate::common;

/// One of each kind of parameter.
#[derive(Module, Debug)]
pub struct Toy {
    layers: Vec<Linear>,
    norm: LayerNorm,
    scale: Param<Tensor<1>>,
    absent: Option<Linear>,
}

impl Toy {
    pub fn new(device: &Device) -> Self {
        Self {
            layers: vec![
                LinearConfig::new(3, 5).init(device),
                LinearConfig::new(5, 2).init(device),
            ],
            norm: LayerNormConfig::new(5).init(device),
            scale: Param::uninitialized(
                ParamId::new(),
                |_, _| panic!("a parameter was initialised before it was loaded"),
                device.clone(),
                true,
                [4].into(),
            ),
            absent: None,
        }
    }
}

/// Names and shapes of [`Toy`] in a file.
pub const TOY: [(&str, &[usize]); 7] = [
    ("layers.0.bias", &[5]),
    ("layers.0.weight", &[5, 3]),
    ("layers.1.bias", &[2]),
    ("layers.1.weight", &[2, 5]),
    ("norm.bias", &[5]),
    ("norm.weight", &[5]),
    ("scale", &[4]),
];

/// Distinct values, exact in every dtype.
pub fn toy_values(index: usize, shape: &[usize]) -> Vec<f32> {
    (0..shape.iter().product())
        .map(|i| index as f32 + i as f32 / 16.0)
        .collect()
}

pub fn encode(dtype: Dtype, values: &[f32]) -> Vec<u8> {
    match dtype {
        Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Dtype::F16 => values
            .iter()
            .flat_map(|v| f16::from_f32(*v).to_le_bytes())
            .collect(),
        _ => values
            .iter()
            .flat_map(|v| bf16::from_f32(*v).to_le_bytes())
            .collect(),
    }
}

/// Writes a safetensors file.
pub fn write(path: &Path, dtype: Dtype, tensors: &[(&str, &[usize], Vec<f32>)]) {
    let bytes: HashMap<_, _> = tensors
        .iter()
        .map(|(name, _, values)| (*name, encode(dtype, values)))
        .collect();
    let views = tensors.iter().map(|(name, shape, _)| {
        (
            *name,
            TensorView::new(dtype, shape.to_vec(), &bytes[name]).unwrap(),
        )
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

pub fn toy_tensors() -> Vec<(&'static str, &'static [usize], Vec<f32>)> {
    TOY.iter()
        .enumerate()
        .map(|(i, (name, shape))| (*name, *shape, toy_values(i, shape)))
        .collect()
}

pub fn load(weights: &Weights, dtype: FloatDType, device: &Device) -> Result<Toy, Error> {
    load_module(Toy::new(device), weights, dtype, &mut |_, _| {
        ControlFlow::Continue(())
    })
}

pub fn assert_toy(toy: &Toy, dtype: DType) {
    let same = |index: usize, ours: Vec<f32>| assert_eq!(ours, toy_values(index, TOY[index].1));
    let bias = |layer: &Linear| common::values(&layer.bias.as_ref().unwrap().val());
    let weight = |layer: &Linear| common::values(&layer.weight.val().transpose());
    assert_eq!(toy.layers[0].weight.dims(), [3, 5]);
    assert_eq!(toy.layers[0].weight.val().dtype(), dtype);
    same(0, bias(&toy.layers[0]));
    same(1, weight(&toy.layers[0]));
    same(2, bias(&toy.layers[1]));
    same(3, weight(&toy.layers[1]));
    same(4, common::values(&toy.norm.beta.as_ref().unwrap().val()));
    same(5, common::values(&toy.norm.gamma.val()));
    same(6, common::values(&toy.scale.val()));
}
