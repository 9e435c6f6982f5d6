//! How LoRA files spell a layer, and which of its tensors a key names.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use super::super::{
    Error,
    layout::{Part, dit},
};

/// What a tensor is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Down,
    Up,
    Alpha,
    /// What is added to the weight in full.
    Weight,
    /// What is added to the bias in full.
    Bias,
}

/// How keys end.
const ROLES: [(&str, Role); 11] = [
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    (".alpha", Role::Alpha),
    // ComfyUI's, where it extracts a LoRA from a model.
    (".diff", Role::Weight),
    (".diff_b", Role::Bias),
];

/// How keys begin where the dots of the layer's name are underscores: kohya's and musubi-tuner's
/// files, and those of Tencent's trainer.
const FLAT: [&str; 2] = ["lora_unet_", "Hunyuan_video_I2V_lora_"];

/// How keys begin elsewhere.
const DOTTED: [&str; 5] = [
    "base_model.model.",
    "transformer.",
    "model.diffusion_model.",
    "diffusion_model.",
    "",
];

/// The layer of a key, with its prefix, and the tensor's role there.
pub(super) fn parse(key: &str) -> Option<(&str, Role)> {
    ROLES
        .iter()
        .find_map(|(suffix, role)| Some((key.strip_suffix(suffix)?, *role)))
}

/// What a key belongs to that is no plain LoRA.
pub(super) fn other_kind(key: &str) -> Option<&'static str> {
    const KINDS: [(&str, &str); 5] = [
        (".hada_", "LoHa"),
        (".lokr_", "LoKr"),
        (".dora_scale", "DoRA"),
        (".lora_magnitude_vector", "DoRA"),
        (".lora_mid.", "LoRA with a Tucker core"),
    ];
    let kind = KINDS.iter().find(|(mark, _)| key.contains(mark))?;
    Some(kind.1)
}

/// Whether a key belongs to a text encoder.
pub(super) fn is_text_encoder(key: &str) -> bool {
    ["lora_te", "text_encoder.", "text_encoders."]
        .iter()
        .any(|prefix| key.starts_with(prefix))
}

/// Our layers that make up a layer of a file, and the part each takes.
pub(super) fn our_layers(column: usize, layer: &str) -> Vec<(String, Part)> {
    let flat = FLAT
        .iter()
        .filter_map(|prefix| Some((layer.strip_prefix(prefix)?, '_')));
    let dotted = DOTTED
        .iter()
        .filter_map(|prefix| Some((layer.strip_prefix(prefix)?, '.')));
    flat.chain(dotted)
        .map(|(layer, separator)| dit::our_layers(column, layer, separator))
        .find(|ours| !ours.is_empty())
        .unwrap_or_default()
}

/// The layout whose names fit most of the layers.
pub(super) fn column<'a>(layers: impl Iterator<Item = &'a String> + Clone) -> usize {
    let known = |column: &usize| {
        let layers = layers.clone();
        layers
            .filter(|layer| !our_layers(*column, layer).is_empty())
            .count()
    };
    // The first of equals, whose names are then the same.
    (0..dit::COLUMNS.len()).rev().max_by_key(known).unwrap_or(0)
}

/// The scales that diffusers keeps in a file's metadata.
#[derive(Default)]
pub(super) struct MetadataScales {
    alpha: Option<f64>,
    patterns: BTreeMap<String, f64>,
    rank_stabilised: bool,
}

/// Reads `lora_adapter_metadata`: the adapter's `LoraConfig` (PEFT). A pipeline writes each key
/// after `transformer.`, a model by itself.
pub(super) fn metadata_scales(
    path: &Path,
    metadata: &HashMap<String, String>,
) -> Result<MetadataScales, Error> {
    let Some(text) = metadata.get("lora_adapter_metadata") else {
        return Ok(MetadataScales::default());
    };
    let json: serde_json::Value = serde_json::from_str(text).map_err(|error| Error::Malformed {
        path: path.to_path_buf(),
        format: "LoRA",
        reason: format!("its `lora_adapter_metadata`: {error}"),
    })?;
    let entry = |name: &str| match &json[format!("transformer.{name}")] {
        serde_json::Value::Null => &json[name],
        value => value,
    };
    let patterns = entry("alpha_pattern").as_object().into_iter().flatten();
    Ok(MetadataScales {
        alpha: entry("lora_alpha").as_f64(),
        patterns: patterns
            .filter_map(|(layer, alpha)| Some((layer.clone(), alpha.as_f64()?)))
            .collect(),
        rank_stabilised: entry("use_rslora").as_bool().unwrap_or(false),
    })
}

impl MetadataScales {
    /// One alpha for all layers.
    pub fn of_alpha(alpha: f64) -> Self {
        Self {
            alpha: Some(alpha),
            ..Self::default()
        }
    }

    /// The scale of a layer of this rank; 1 where the metadata does not tell.
    pub fn of(&self, layer: &str, rank: f64) -> f64 {
        let ends_in = |pattern: &str| {
            let rest = layer.strip_suffix(pattern);
            rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        let special = self.patterns.iter().find(|(pattern, _)| ends_in(pattern));
        match special.map(|(_, alpha)| *alpha).or(self.alpha) {
            Some(alpha) if self.rank_stabilised => alpha / rank.sqrt(),
            Some(alpha) => alpha / rank,
            None => 1.0,
        }
    }
}
