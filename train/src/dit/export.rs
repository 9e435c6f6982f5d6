//! The weights as a checkpoint that everything else loads.

use std::{fs, path::Path};

use burn_hunyuan_dit::{Dit, DitConfig};
use serde_json::json;

use crate::{
    error::{Error, Result},
    files,
    parameters::parameters,
    tensor_file,
};

/// Writes `folder/diffusion_pytorch_model.safetensors`, f32 under our own names, and
/// `folder/config.json` as diffusers has it. Each is written aside and renamed.
///
/// # Errors
/// Files that cannot be written.
pub fn export(folder: &Path, config: &DitConfig, model: &Dit) -> Result<()> {
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let config = json!({
        "_class_name": "HunyuanVideoTransformer3DModel",
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "num_attention_heads": config.heads,
        "attention_head_dim": config.head_dim,
        "num_layers": config.dual_blocks,
        "num_single_layers": config.single_blocks,
        "num_refiner_layers": config.refiner_blocks,
        "mlp_ratio": config.mlp_ratio,
        "patch_size": config.patch[1],
        "patch_size_t": config.patch[0],
        "guidance_embeds": config.guidance,
        "text_embed_dim": config.text_dim,
        "pooled_projection_dim": config.pooled_dim,
        "rope_axes_dim": config.rope_axes,
        "rope_theta": config.rope_theta,
    });
    files::replace(&folder.join("config.json"), format!("{config:#}\n"))?;

    let path = folder.join("diffusion_pytorch_model.safetensors");
    let aside = path.with_extension("partial");
    tensor_file::write(&aside, &parameters(model))?;
    fs::rename(&aside, &path).map_err(Error::io("write", path))
}
