//! The weights as a checkpoint that everything else loads.

use std::{fs, path::Path};

use burn_hunyuan_vae::{Vae, VaeConfig};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::json;

use crate::{
    error::{Error, Result},
    files::replace,
    parameters::parameters,
};

/// Writes `folder/config.json` and `folder/diffusion_pytorch_model.safetensors` as diffusers has
/// them, f32.
///
/// # Errors
/// Files that cannot be written. What was there before is then still whole.
pub fn export(folder: &Path, config: &VaeConfig, vae: &Vae) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let parameters = parameters(vae);
    let tensors: Vec<_> = parameters
        .iter()
        .map(|(name, parameter)| (name, parameter.file_shape(), parameter.to_file()))
        .collect();
    let views = tensors.iter().map(|(name, shape, data)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), data.bytes());
        Ok((name.as_str(), view?))
    });
    let views: std::result::Result<Vec<_>, safetensors::SafeTensorError> = views.collect();
    let bytes = views
        .and_then(|views| safetensors::serialize(views, None))
        .map_err(|e| Error::file(folder, e))?;
    let levels = config.block_out_channels.len();
    let config = json!({
        "_class_name": "AutoencoderKLHunyuanVideo",
        "act_fn": "silu",
        "block_out_channels": config.block_out_channels,
        "down_block_types": vec!["HunyuanVideoDownBlock3D"; levels],
        "in_channels": 3,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.layers_per_block,
        "mid_block_add_attention": true,
        "norm_num_groups": config.norm_num_groups,
        "out_channels": 3,
        "scaling_factor": config.scaling_factor,
        "spatial_compression_ratio": burn_hunyuan_vae::SPATIAL_COMPRESSION,
        "temporal_compression_ratio": burn_hunyuan_vae::TEMPORAL_COMPRESSION,
        "up_block_types": vec!["HunyuanVideoUpBlock3D"; levels],
    });
    replace(&folder.join("config.json"), format!("{config:#}\n"))?;
    replace(&folder.join("diffusion_pytorch_model.safetensors"), bytes)
}
