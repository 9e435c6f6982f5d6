//! A trained transformer as a folder that diffusers, and everything here, loads.

use std::{io::Write, ops::ControlFlow, path::Path};

use ::safetensors::Dtype;
use burn_hunyuan_dit::DitConfig;
use burn_hunyuan_train::parameters::Parameters;
use serde_json::json;

use super::merge::{self, Entry};
use crate::{
    error::Result,
    video::{self, OutputFile},
};

/// Writes `folder/config.json` and `folder/diffusion_pytorch_model.safetensors`, f32, as diffusers
/// has them. `weights` are all parameters of a transformer of these sizes.
///
/// # Errors
/// Files that cannot be written. What was there before is then still whole.
pub fn save_trained(folder: &Path, config: &DitConfig, weights: &Parameters) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|source| video::Error::Write {
        path: folder.to_path_buf(),
        source,
    })?;
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
    let mut file = OutputFile::create(&folder.join("config.json"))?;
    writeln!(file, "{config:#}").map_err(|e| file.error(e))?;
    file.commit()?;

    let path = folder.join("diffusion_pytorch_model.safetensors");
    let entries: Vec<_> = weights
        .iter()
        .map(|(name, parameter)| {
            let read = move || Ok(parameter.to_file().bytes().to_vec());
            Entry::new(name, Dtype::F32, parameter.file_shape(), read)
        })
        .collect();
    let go_on = &mut |_, _| ControlFlow::Continue(());
    merge::write(&path, &[], &entries, go_on)
}
