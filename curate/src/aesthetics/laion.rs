//! LAION's aesthetic scores: how people would rate a picture, from its CLIP features.
//!
//! Both published heads are chains of affine layers without an activation between them:
//! - `sa_0_4_vit_l_14_linear.pth` of LAION-AI/aesthetic-predictor: one layer;
//! - `sac+logos+ava1-l14-linearMSE.pth` of christophschuhmann/improved-aesthetic-predictor: five,
//!   between which dropout stood in training.
//!
//! They take features of length one; ratings went from 1 to 10.

use std::{collections::BTreeMap, path::Path};

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    tensor::{DType, Device, Tensor, TensorData},
};

use super::weights::{self, unusable};
use crate::{Result, embedding::to_f32};

/// A chain of affine layers from features to a score.
#[derive(Module, Debug)]
struct Chain {
    layers: Vec<Linear>,
}

/// An aesthetic head with its weights.
#[derive(Debug)]
pub struct LaionHead {
    chain: Chain,
    width: usize,
    device: Device,
}

impl LaionHead {
    /// Loads a head for features of `width` values; the sizes of its layers are those of the file.
    ///
    /// # Errors
    /// When the file cannot be read, or its layers do not lead from the features to a score.
    pub fn open(path: &Path, width: usize, device: &Device) -> Result<Self> {
        let mut named = weights::open(path)?;
        let mut tensors = BTreeMap::new();
        let mut layers = Vec::new();
        for name in names(named.keys()) {
            let weight = format!("{name}weight");
            let Some(tensor) = named.remove(&weight) else {
                return Err(unusable(path, format!("lacks the tensor `{weight}`")));
            };
            let [to, from] = tensor.shape[..] else {
                let shape = &tensor.shape;
                return Err(unusable(
                    path,
                    format!("`{weight}` has the shape {shape:?}"),
                ));
            };
            let place = layers.len();
            layers.push([from, to]);
            tensors.insert(format!("layers.{place}.weight"), tensor);
            if let Some(bias) = named.remove(&format!("{name}bias")) {
                tensors.insert(format!("layers.{place}.bias"), bias);
            }
        }
        let follow = layers.windows(2).all(|pair| pair[0][1] == pair[1][0]);
        let ends = layers.first().map(|first| first[0]) == Some(width)
            && layers.last().map(|last| last[1]) == Some(1);
        if !follow || !ends {
            let problem = format!(
                "its layers {layers:?} (input, output) do not lead from {width} features to a score"
            );
            return Err(unusable(path, problem));
        }
        let chain = Chain {
            layers: layers
                .iter()
                .map(|&[from, to]| LinearConfig::new(from, to).init(device))
                .collect(),
        };
        Ok(Self {
            chain: weights::fill(chain, tensors, path)?,
            width,
            device: device.clone(),
        })
    }

    /// The score of each row of features, of length one.
    pub fn scores(&self, features: &[f32]) -> Vec<f32> {
        let shape = [features.len() / self.width, self.width];
        let data = TensorData::new(features.to_vec(), shape);
        let features = Tensor::<2>::from_data(data, (&self.device, DType::F32));
        to_f32(self.chain.forward(features))
    }
}

impl Chain {
    /// `[batch, features]` to `[batch, 1]`.
    fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        let layers = self.layers.iter();
        layers.fold(features, |x, layer| layer.forward(x))
    }
}

/// What comes before `weight` in the names of the layers, in their order: nothing for a file of one
/// layer, else `layers.0.`, `layers.2.` and so on, with gaps for the dropout.
fn names<'a>(tensors: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut layers: Vec<(usize, String)> = tensors
        .filter_map(|name| name.strip_suffix("weight"))
        .map(|name| {
            let place = name.trim_end_matches('.').rsplit('.').next();
            let place = place.and_then(|place| place.parse().ok());
            (place.unwrap_or(0), name.to_string())
        })
        .collect();
    layers.sort();
    layers.into_iter().map(|(_, name)| name).collect()
}
