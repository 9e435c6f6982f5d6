//! The text encoders' layers in the published files: transformers' names, which are ours, inside
//! whatever model the encoder was saved with.

use super::{Component, Recognised};
use crate::checkpoint::Weights;

/// What may stand before LLaMA's names: alone, as a causal language model, as LLaVA before and
/// after its reorganisation.
const LLAMA: [&str; 4] = [
    "",
    "model.",
    "language_model.model.",
    "model.language_model.",
];

/// What may stand before CLIP's names. The last is CLIP within a Stable Diffusion file.
const CLIP: [&str; 4] = [
    "",
    "text_model.",
    "transformer.text_model.",
    "cond_stage_model.transformer.text_model.",
];

/// Tensors that other programs save and these models do without: LLaMA's final norm, its language
/// head, tables that follow from the configuration, and ComfyUI's tokenizers.
const UNUSED: [&str; 7] = [
    "norm.weight",
    "lm_head.weight",
    "rotary_emb.inv_freq",
    "position_ids",
    "text_projection.weight",
    "logit_scale",
    "tokenizer",
];

/// Recognises either text encoder by its layers.
pub(super) fn recognise(weights: &Weights) -> Option<Recognised> {
    let find = |prefixes: [&str; 4], layers: &str, part: &str| {
        prefixes
            .map(|prefix| weights.under(prefix))
            .into_iter()
            .find(|weights| {
                weights
                    .names()
                    .any(|name| name.starts_with(layers) && name.contains(part))
            })
    };
    let (component, mut weights) = if let Some(llama) = find(LLAMA, "layers.", ".gate_proj.") {
        (Component::TextEncoder, llama)
    } else {
        (
            Component::TextEncoder2,
            find(CLIP, "encoder.layers.", ".layer_norm1.")?,
        )
    };
    weights.retain(|name| !UNUSED.iter().any(|unused| is_called(name, unused)));
    Some(Recognised {
        component,
        layout: "transformers",
        weights,
    })
}

/// Whether a dotted name is `last` or ends in it, so that `final_norm.weight` is no `norm.weight`.
fn is_called(name: &str, last: &str) -> bool {
    name.strip_suffix(last)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}
