//! Sizes of the models: from the tensors where they determine them, else from a `config.json`, else
//! the published model's.

use std::{
    collections::BTreeSet,
    fmt::Display,
    path::{Path, PathBuf},
};

use burn_hunyuan_dit::DitConfig;
use burn_hunyuan_text::{Activation, ClipConfig, LlamaConfig};
use burn_hunyuan_vae::VaeConfig;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Component, Error, Weights};

/// Layers at LLaMA's end whose output HunyuanVideo does not use.
const UNUSED_LAYERS: usize = 2;

/// The `config.json` of a component.
#[derive(Clone, Debug)]
pub(super) struct ConfigFile {
    path: PathBuf,
    values: Value,
    /// Whether it describes these very weights, so that it must agree with them.
    is_binding: bool,
}

impl ConfigFile {
    /// Reads `folder/config.json`, if there is one and it is about `component`.
    pub fn open(folder: &Path, component: Component) -> Result<Option<Self>, Error> {
        let path = folder.join("config.json");
        let Some(mut values) = read_json(&path)? else {
            return Ok(None);
        };
        // LLaVA and CLIP as a whole describe their text halves in a section.
        if values["text_config"].is_object() {
            values = values["text_config"].take();
        }
        let key = match component {
            Component::Transformer => "num_single_layers",
            Component::Vae => "block_out_channels",
            Component::TextEncoder => "num_key_value_heads",
            Component::TextEncoder2 => "layer_norm_eps",
        };
        Ok(values.get(key).is_some().then_some(Self {
            path,
            values,
            is_binding: true,
        }))
    }

    /// A configuration that is part of the program; `name` stands in for the file in messages.
    pub fn embedded(name: &str, json: &str) -> Self {
        Self {
            path: name.into(),
            // The text is a constant; should it be damaged, the official sizes do not fit it.
            values: serde_json::from_str(json).unwrap_or_default(),
            is_binding: false,
        }
    }

    /// The same for other weights, whose sizes may differ.
    pub fn of_other_weights(self) -> Self {
        Self {
            is_binding: false,
            ..self
        }
    }
}

/// The sizes of a transformer by a `config.json`, as diffusers has it, in `folder`.
///
/// # Errors
/// No such file there, or an unusable one.
pub fn transformer_config(folder: &Path) -> Result<DitConfig, Error> {
    let Some(config) = ConfigFile::open(folder, Component::Transformer)? else {
        return Err(Error::NotFound {
            path: folder.to_path_buf(),
            what: "no config.json of a transformer here".into(),
        });
    };
    let sizes = Sizes {
        weights: &Weights::new(folder),
        config: Some(&config.of_other_weights()),
    };
    sizes.dit()
}

/// Reads a JSON file, if it exists.
pub(super) fn read_json(path: &Path) -> Result<Option<Value>, Error> {
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(path).map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })?;
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| Error::Malformed {
            path: path.to_path_buf(),
            format: "JSON",
            reason: error.to_string(),
        })
}

/// What is known about the sizes of a component.
#[derive(Clone, Copy)]
pub(super) struct Sizes<'a> {
    pub weights: &'a Weights,
    pub config: Option<&'a ConfigFile>,
}

impl Sizes<'_> {
    /// A tensor's extent.
    fn extent(self, tensor: &str, axis: usize) -> Option<usize> {
        self.weights.get(tensor)?.shape().get(axis).copied()
    }

    /// The number of blocks, which are called `prefix` and a number.
    fn blocks(self, prefix: &str) -> Option<usize> {
        let number = |name: &str| name.strip_prefix(prefix)?.split('.').next()?.parse().ok();
        let numbers: BTreeSet<usize> = self.weights.names().filter_map(number).collect();
        (!self.weights.is_empty()).then_some(numbers.len())
    }

    /// A value of the config file. The key `a.b` is `b` within `a`.
    fn configured<T: DeserializeOwned>(self, key: &str) -> Result<Option<T>, Error> {
        let Some(file) = self.config else {
            return Ok(None);
        };
        match file.values.pointer(&format!("/{}", key.replace('.', "/"))) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => T::deserialize(value)
                .map(Some)
                .map_err(|error| Error::Malformed {
                    path: file.path.clone(),
                    format: "config",
                    reason: format!("`{key}`: {error}"),
                }),
        }
    }

    /// A value that tensors do not determine.
    fn setting<T: DeserializeOwned>(self, key: &str, default: T) -> Result<T, Error> {
        Ok(self.configured(key)?.unwrap_or(default))
    }

    /// A value that tensors determine, as `measured`.
    ///
    /// # Errors
    /// The config file of these weights says something else.
    fn size<T>(self, key: &str, measured: Option<T>, default: T) -> Result<T, Error>
    where
        T: DeserializeOwned + PartialEq + Display,
    {
        let configured: Option<T> = self.configured(key)?;
        match (measured, configured, self.config) {
            (Some(measured), Some(configured), Some(file))
                if measured != configured && file.is_binding =>
            {
                Err(Error::Disagreement {
                    config: file.path.clone(),
                    key: key.to_string(),
                    configured: configured.to_string(),
                    weights: self.weights.origin().to_path_buf(),
                    measured: measured.to_string(),
                })
            }
            (measured, configured, _) => Ok(measured.or(configured).unwrap_or(default)),
        }
    }

    /// These weights are of a kind that cannot be used.
    fn unsupported(self, what: String) -> Error {
        Error::Unsupported {
            path: self.weights.origin().to_path_buf(),
            what,
        }
    }

    /// A setting that the tensors leave open, and whose value does not suit them.
    fn undetermined(self, key: &str, tensors: String) -> Error {
        self.unsupported(format!(
            "`{key}` does not fit tensors with {tensors}; a config.json beside the file must tell it"
        ))
    }

    /// The diffusion transformer's sizes.
    pub fn dit(self) -> Result<DitConfig, Error> {
        let official = DitConfig::new();
        let patch = [2, 3, 4].map(|axis| self.extent("image_in.weight", axis));
        let patch = [
            self.size("patch_size_t", patch[0], official.patch[0])?,
            self.size("patch_size", patch[1], official.patch[1])?,
            self.size("patch_size", patch[2], official.patch[2])?,
        ];
        let head_dim = self.extent("dual_blocks.0.image.q_norm.weight", 0);
        let head_dim = self.size("attention_head_dim", head_dim, official.head_dim)?;
        let width = self.extent("image_in.weight", 0);
        let heads = width.and_then(|width| width.checked_div(head_dim));
        let heads = self.size("num_attention_heads", heads, official.heads)?;
        let in_channels = self.extent("image_in.weight", 1);
        let rows = self.extent("final_layer.proj.weight", 0);
        let out_channels = rows.and_then(|rows| rows.checked_div(patch.iter().product()));
        let text_dim = self.extent("text_in.proj.weight", 1);
        let pooled_dim = self.extent("pooled_in.fc1.weight", 1);
        let guidance = !self.weights.under("guidance_in.").is_empty();
        let config = DitConfig {
            in_channels: self.size("in_channels", in_channels, official.in_channels)?,
            out_channels: self.size("out_channels", out_channels, official.out_channels)?,
            heads,
            head_dim,
            dual_blocks: self.size("num_layers", self.blocks("dual_blocks."), 0)?,
            single_blocks: self.size("num_single_layers", self.blocks("single_blocks."), 0)?,
            refiner_blocks: self.size("num_refiner_layers", self.blocks("text_in.blocks."), 0)?,
            mlp_ratio: self.mlp_ratio(heads * head_dim, official.mlp_ratio)?,
            patch,
            guidance: self.size("guidance_embeds", Some(guidance), guidance)?,
            text_dim: self.size("text_embed_dim", text_dim, official.text_dim)?,
            pooled_dim: self.size("pooled_projection_dim", pooled_dim, official.pooled_dim)?,
            rope_axes: self.setting("rope_axes_dim", official.rope_axes)?,
            rope_theta: self.setting("rope_theta", official.rope_theta)?,
        };
        let condition: Option<String> = self.setting("image_condition_type", None)?;
        if condition.is_some() || config.in_channels != config.out_channels {
            return Err(self.unsupported(format!(
                "this transformer takes {} channels and gives {}: it continues an image, which \
                 is not supported; use a text-to-video checkpoint",
                config.in_channels, config.out_channels
            )));
        }
        let channels: usize = config.rope_axes.iter().sum();
        if channels != head_dim {
            return Err(self.undetermined("rope_axes_dim", format!("{head_dim} channels a head")));
        }
        Ok(config)
    }

    /// The MLPs' hidden width in widths, such that it gives the tensors' width exactly.
    fn mlp_ratio(self, width: usize, official: f64) -> Result<f64, Error> {
        let hidden = |ratio: f64| (width as f64 * ratio) as usize;
        let Some(measured) = self.extent("dual_blocks.0.image.mlp.fc1.weight", 0) else {
            return self.setting("mlp_ratio", official);
        };
        let ratio = measured as f64 / width as f64;
        let ratio = if hidden(ratio) < measured {
            ratio.next_up()
        } else {
            ratio
        };
        let configured = self.setting("mlp_ratio", ratio)?;
        if hidden(configured) == measured {
            return Ok(configured);
        }
        self.size("mlp_ratio", Some(ratio), official)
    }

    /// The VAE's sizes.
    pub fn vae(self) -> Result<VaeConfig, Error> {
        let official = VaeConfig::new();
        let latent_channels = self.extent("post_quant_conv.weight", 0);
        let layers = self.blocks("encoder.down_blocks.0.resnets.");
        let mut channels = self.setting("block_out_channels", official.block_out_channels)?;
        for (level, channels) in channels.iter_mut().enumerate() {
            let conv = format!("encoder.down_blocks.{level}.resnets.0.conv2.conv.weight");
            let measured = self.extent(&conv, 0);
            *channels = self.size(&format!("block_out_channels.{level}"), measured, *channels)?;
        }
        let config = VaeConfig {
            latent_channels: self.size(
                "latent_channels",
                latent_channels,
                official.latent_channels,
            )?,
            block_out_channels: channels,
            layers_per_block: self.size("layers_per_block", layers, official.layers_per_block)?,
            norm_num_groups: self.setting("norm_num_groups", official.norm_num_groups)?,
            scaling_factor: self.setting("scaling_factor", official.scaling_factor)?,
        };
        let groups = config.norm_num_groups;
        if channels
            .iter()
            .any(|channels| groups == 0 || channels % groups != 0)
        {
            return Err(self.undetermined("norm_num_groups", format!("{channels:?} channels")));
        }
        Ok(config)
    }

    /// LLaMA's sizes. The last layers, which HunyuanVideo does not run, are not counted.
    pub fn llama(self) -> Result<LlamaConfig, Error> {
        let official = LlamaConfig::new();
        let vocabulary = self.extent("embed_tokens.weight", 0);
        let hidden = self.extent("embed_tokens.weight", 1);
        let hidden = self.size("hidden_size", hidden, official.hidden)?;
        let intermediate = self.extent("layers.0.mlp.gate_proj.weight", 0);
        let layers = self.size("num_hidden_layers", self.blocks("layers."), 0)?;
        // Every LLaMA-3 has 128 channels a head.
        let heads = self.setting("num_attention_heads", heads_of(hidden, 128))?;
        let head_dim = hidden.checked_div(heads).unwrap_or(0);
        if heads * head_dim != hidden || self.setting("head_dim", head_dim)? != head_dim {
            return Err(self.undetermined("num_attention_heads", format!("width {hidden}")));
        }
        let key_rows = self.extent("layers.0.self_attn.k_proj.weight", 0);
        let kv_heads = key_rows.and_then(|rows| rows.checked_div(head_dim));
        let kinds = [
            "rope_parameters.rope_type",
            "rope_scaling.rope_type",
            "rope_scaling.type",
        ];
        for kind in kinds {
            if self.setting(kind, "default".to_string())? != "default" {
                return Err(self.unsupported(format!("`{kind}` is not supported by this LLaMA")));
            }
        }
        let theta = self.setting("rope_theta", official.rope_theta)?;
        Ok(LlamaConfig {
            vocabulary: self.size("vocab_size", vocabulary, official.vocabulary)?,
            hidden,
            intermediate: self.size("intermediate_size", intermediate, official.intermediate)?,
            layers: layers.saturating_sub(UNUSED_LAYERS),
            heads,
            kv_heads: self.size("num_key_value_heads", kv_heads, official.kv_heads)?,
            rope_theta: self.setting("rope_parameters.rope_theta", theta)?,
            norm_eps: self.setting("rms_norm_eps", official.norm_eps)?,
        })
    }

    /// CLIP's sizes.
    pub fn clip(self) -> Result<ClipConfig, Error> {
        let official = ClipConfig::new();
        let vocabulary = self.extent("embeddings.token_embedding.weight", 0);
        let hidden = self.extent("embeddings.token_embedding.weight", 1);
        let hidden = self.size("hidden_size", hidden, official.hidden)?;
        let positions = self.extent("embeddings.position_embedding.weight", 0);
        let intermediate = self.extent("encoder.layers.0.mlp.fc1.weight", 0);
        // Every CLIP has 64 channels a head.
        let heads = self.setting("num_attention_heads", heads_of(hidden, 64))?;
        if heads == 0 || hidden % heads != 0 {
            return Err(self.undetermined("num_attention_heads", format!("width {hidden}")));
        }
        let activation: String = self.setting("hidden_act", "quick_gelu".into())?;
        Ok(ClipConfig {
            vocabulary: self.size("vocab_size", vocabulary, official.vocabulary)?,
            positions: self.size("max_position_embeddings", positions, official.positions)?,
            hidden,
            intermediate: self.size("intermediate_size", intermediate, official.intermediate)?,
            layers: self.size("num_hidden_layers", self.blocks("encoder.layers."), 0)?,
            heads,
            activation: match activation.as_str() {
                "quick_gelu" => Activation::QuickGelu,
                "gelu" => Activation::Gelu,
                other => return Err(self.unsupported(format!("unknown activation `{other}`"))),
            },
            norm_eps: self.setting("layer_norm_eps", official.norm_eps)?,
            eos_token: self.setting("eos_token_id", official.eos_token)?,
        })
    }
}

/// The number of heads of `head_dim` channels, or none where they do not make up the width.
fn heads_of(width: usize, head_dim: usize) -> usize {
    if width.is_multiple_of(head_dim) {
        width / head_dim
    } else {
        0
    }
}
