//! fp8 weights that have a scale beside them, as ComfyUI's "scaled" files do.

use ::safetensors::Dtype;
use burn::tensor::{FloatDType, TensorData};

use super::{Encoding, Error, StoredTensor, Weights, convert};

/// How the names of a weight's scale end, in older and newer files.
const SCALES: [&str; 2] = [".scale_weight", ".weight_scale"];

/// Names of what such files hold for the arithmetic of other programs.
const UNUSED: [&str; 4] = [".scale_input", ".input_scale", ".comfy_quant", "scaled_fp8"];

impl StoredTensor {
    /// Reads a tensor as f32 that is no parameter of a module, such as a scale; `name` is for messages.
    ///
    /// # Errors
    /// A number format that is none of weights, a file that cannot be read, values that are not finite.
    pub(crate) fn values(&self, name: &str) -> Result<TensorData, Error> {
        if !self.encoding().is_float() {
            return Err(Error::Dtype {
                path: self.path().to_path_buf(),
                name: name.to_string(),
                dtype: self.encoding().to_string(),
            });
        }
        convert::read(name, self, FloatDType::F32)
    }
}

/// Multiplies each scale into its weight, and drops what accompanies them.
///
/// # Errors
/// Scales that are no single number, or in a number format that is none of weights.
pub(super) fn apply(mut weights: Weights) -> Result<Weights, Error> {
    let is_scale = |name: &&str| SCALES.iter().any(|end| name.ends_with(end));
    let scales: Vec<String> = weights.names().filter(is_scale).map(String::from).collect();
    for name in &scales {
        let Some(scale) = weights.remove(name) else {
            continue;
        };
        let values = match scale.elements() {
            1 => scale.values(name)?,
            _ => {
                return Err(Error::Unsupported {
                    path: weights.origin().to_path_buf(),
                    what: format!(
                        "`{name}` is {:?}, and only one scale for a whole weight is read",
                        scale.shape()
                    ),
                });
            }
        };
        let layer = SCALES.iter().find_map(|end| name.strip_suffix(end));
        let weight = format!("{}.weight", layer.unwrap_or_default());
        if let (Some(tensor), Some(scale)) = (weights.remove(&weight), values.iter::<f32>().next())
        {
            weights.insert(weight, tensor.scaled(scale));
        }
    }
    let fp8 = [Dtype::F8_E4M3, Dtype::F8_E5M2].map(Encoding::Plain);
    let has_fp8 = weights
        .iter()
        .any(|(_, tensor)| fp8.contains(&tensor.encoding()));
    if has_fp8 {
        weights.retain(|name| !UNUSED.iter().any(|unused| name.ends_with(unused)));
    }
    Ok(weights)
}
