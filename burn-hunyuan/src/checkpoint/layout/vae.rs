//! The VAE's layers in the published files. Tencent's and diffusers' names are ours.

use super::{Component, Recognised};
use crate::checkpoint::Weights;

/// What may stand before every name.
const PREFIXES: [&str; 3] = ["", "vae.", "first_stage_model."];

/// Parts of names in the latent diffusion convention, which ComfyUI also reads, and ours.
/// Up-sampling levels are counted from the output there, from the latents here.
const LDM: [(&str, &str); 13] = [
    (".mid.block_1.", ".mid_block.resnets.0."),
    (".mid.block_2.", ".mid_block.resnets.1."),
    (".mid.attn_1.norm.", ".mid_block.attentions.0.group_norm."),
    (".mid.attn_1.q.", ".mid_block.attentions.0.to_q."),
    (".mid.attn_1.k.", ".mid_block.attentions.0.to_k."),
    (".mid.attn_1.v.", ".mid_block.attentions.0.to_v."),
    (".mid.attn_1.proj_out.", ".mid_block.attentions.0.to_out.0."),
    (".down.", ".down_blocks."),
    (".block.", ".resnets."),
    (".downsample.", ".downsamplers.0."),
    (".upsample.", ".upsamplers.0."),
    (".nin_shortcut.", ".conv_shortcut."),
    (".norm_out.", ".conv_norm_out."),
];

/// Recognises a VAE by its first and last layers.
pub(super) fn recognise(weights: &Weights) -> Option<Recognised> {
    let is_vae = |weights: &Weights| {
        let has = |layer| weights.names().any(|name| name.starts_with(layer));
        has("encoder.conv_in.") || has("decoder.conv_out.")
    };
    let weights = PREFIXES
        .map(|prefix| weights.under(prefix))
        .into_iter()
        .find(is_vae)?;
    let levels = (0..)
        .take_while(|n| weights.names().any(|name| name.starts_with(&up(*n))))
        .count();
    let (layout, weights) = match levels {
        0 => ("diffusers, Tencent", weights),
        levels => ("latent diffusion", from_ldm(&weights, levels)),
    };
    Some(Recognised {
        component: Component::Vae,
        layout,
        weights,
    })
}

/// The beginning of the latent diffusion names of an up-sampling level.
fn up(level: usize) -> String {
    format!("decoder.up.{level}.")
}

fn from_ldm(weights: &Weights, levels: usize) -> Weights {
    let mut renamed = weights.renamed(str::to_string);
    for (name, tensor) in weights.iter() {
        let mut name = name.to_string();
        if let Some(level) = (0..levels).find(|level| name.starts_with(&up(*level))) {
            let ours = format!("decoder.up_blocks.{}.", levels - 1 - level);
            name = name.replacen(&up(level), &ours, 1);
        }
        for (theirs, ours) in LDM {
            name = name.replace(theirs, ours);
        }
        // Attention is a 1×1×1 convolution there.
        let tensor = match tensor.shape() {
            [rows, columns, 1, 1, 1] if name.contains(".attentions.") => {
                tensor.clone().reshaped(vec![*rows, *columns])
            }
            _ => None,
        }
        .unwrap_or_else(|| tensor.clone());
        renamed.insert(name, tensor);
    }
    renamed
}
