//! The weights as a checkpoint that everything else loads.

use std::{fs, path::Path};

use burn_hunyuan_vae::{Vae, VaeConfig};
use serde_json::json;

use crate::{
    error::{Error, Result},
    files,
    parameters::parameters,
    tensor_file,
};

/// Writes `folder/config.json` and `folder/diffusion_pytorch_model.safetensors` as diffusers has
/// them, f32.
///
/// # Errors
/// Files that cannot be written. What was there before is then still whole.
pub fn export(folder: &Path, config: &VaeConfig, vae: &Vae) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
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
    files::replace(&folder.join("config.json"), format!("{config:#}\n"))?;
    let path = folder.join("diffusion_pytorch_model.safetensors");
    files::replace_with(&path, |aside| {
        tensor_file::write_parameters(aside, &parameters(vae))
    })
}
