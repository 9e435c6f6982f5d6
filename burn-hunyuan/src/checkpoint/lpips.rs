//! The perceptual distance with the weights that users have.

use std::{ops::ControlFlow, path::Path};

use burn::tensor::{Device, FloatDType};
use burn_hunyuan_train::loss::Lpips;

use super::{Error, Weights, load_module};

/// LPIPS from torchvision's file of VGG-16, of which only the convolutions are read, and the `lpips`
/// package's own weights, version 0.1 for VGG; both `.pth` or safetensors.
///
/// # Errors
/// Files that cannot be read or hold something else.
pub fn load_lpips(vgg: &Path, heads: &Path, device: &Device) -> Result<Lpips, Error> {
    let (vgg, heads) = (Weights::open(vgg)?, Weights::open(heads)?);
    let mut weights = Weights::new(vgg.origin());
    for (i, layer) in Lpips::torchvision_names().enumerate() {
        for field in ["weight", "bias"] {
            if let Some(tensor) = vgg.get(&format!("{layer}.{field}")) {
                weights.insert(format!("features.{i}.{field}"), tensor.clone());
            }
        }
    }
    for (name, tensor) in heads.iter() {
        let index = name
            .strip_prefix("lin")
            .and_then(|name| name.strip_suffix(".model.1.weight"));
        let flat = tensor.clone().reshaped(vec![tensor.elements()]);
        if let (Some(index), Some(tensor)) = (index, flat) {
            weights.insert(format!("heads.{index}"), tensor);
        }
    }
    let go_on = &mut |_, _| ControlFlow::Continue(());
    load_module(Lpips::new(device), &weights, FloatDType::F32, go_on)
}
