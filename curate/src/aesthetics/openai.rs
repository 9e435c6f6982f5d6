//! CLIP's weights under the names of OpenAI's own code, which open_clip keeps.

use std::{collections::BTreeMap, path::Path};

use burn::tensor::Bytes;
use burn_store::burn_pack::{self, Tensor};

use super::weights::unusable;
use crate::Result;

const LAYER: &str = "visual.transformer.resblocks.";

/// The image half's tensors under the names of transformers; a file that has them is left alone.
///
/// # Errors
/// When a tensor that has to be split or turned cannot be read.
pub(super) fn renamed(
    tensors: BTreeMap<String, Tensor>,
    path: &Path,
) -> Result<BTreeMap<String, Tensor>> {
    if !tensors.contains_key("visual.class_embedding") {
        return Ok(tensors);
    }
    let mut renamed = BTreeMap::new();
    for (name, tensor) in tensors {
        let read = |error| unusable(path, format!("`{name}` cannot be read: {error}"));
        if let Some((layer, kind)) = name.split_once(".attn.in_proj_") {
            let layer = module_name(layer);
            for (part, thirds) in ["q", "k", "v"].iter().zip(0..) {
                let third = third(&tensor, thirds).map_err(read)?;
                renamed.insert(format!("{layer}.self_attn.{part}_proj.{kind}"), third);
            }
        } else if name == "visual.proj" {
            let turned = turned(&tensor).map_err(read)?;
            renamed.insert("visual_projection.weight".into(), turned);
        } else {
            renamed.insert(module_name(&name), tensor);
        }
    }
    Ok(renamed)
}

/// The name that transformers gives to what is neither split nor turned.
fn module_name(name: &str) -> String {
    let name = match name.strip_prefix(LAYER) {
        Some(layer) => format!("vision_model.encoder.layers.{layer}"),
        None => name.to_string(),
    };
    [
        (
            "visual.class_embedding",
            "vision_model.embeddings.class_embedding",
        ),
        ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
        (
            "visual.positional_embedding",
            "vision_model.embeddings.position_embedding.weight",
        ),
        ("visual.ln_pre.", "vision_model.pre_layrnorm."),
        ("visual.ln_post.", "vision_model.post_layernorm."),
        (".ln_1.", ".layer_norm1."),
        (".ln_2.", ".layer_norm2."),
        (".attn.out_proj.", ".self_attn.out_proj."),
        (".mlp.c_fc.", ".mlp.fc1."),
        (".mlp.c_proj.", ".mlp.fc2."),
    ]
    .iter()
    .fold(name, |name, (theirs, ours)| name.replace(theirs, ours))
}

/// A third of the rows: queries, keys and values are stored as one tensor.
fn third(tensor: &Tensor, index: usize) -> Result<Tensor, burn_pack::Error> {
    let bytes = tensor.to_bytes()?;
    let mut shape = tensor.shape.to_vec();
    if let Some(rows) = shape.first_mut() {
        *rows /= 3;
    }
    let length = bytes.len() / 3;
    let part = bytes[index * length..][..length].to_vec();
    Ok(with_bytes(tensor, shape, part))
}

/// Columns as rows: the projection is stored the other way around.
fn turned(tensor: &Tensor) -> Result<Tensor, burn_pack::Error> {
    let bytes = tensor.to_bytes()?;
    let mut shape = tensor.shape.to_vec();
    let columns = shape.last().copied().unwrap_or(1);
    let size = tensor.dtype.size();
    let rows = bytes.chunks_exact(columns * size);
    let mut part = Vec::with_capacity(bytes.len());
    for column in 0..columns {
        for row in rows.clone() {
            part.extend_from_slice(&row[column * size..][..size]);
        }
    }
    shape.reverse();
    Ok(with_bytes(tensor, shape, part))
}

fn with_bytes(tensor: &Tensor, shape: Vec<usize>, bytes: Vec<u8>) -> Tensor {
    let bytes = Bytes::from_bytes_vec(bytes);
    Tensor::new(tensor.name.clone(), tensor.dtype, shape, None, bytes)
}
