//! Options that commands share.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, FloatDType};
use burn_hunyuan_vae::TilingMode;
use clap::{
    Args, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser},
};

use crate::{
    checkpoint::{Component, Lora, Model},
    device,
    error::Result,
    pipeline::Pipeline,
};

/// Which model.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelOptions {
    /// A pipeline folder, the original ckpts folder, files of the components, or a hub id
    /// (owner/name, or owner/name/FILE for one file of it, either with @revision); the small built-in
    /// model if absent
    #[arg(long, num_args = 1.., value_name = "PATH|ID")]
    pub model: Vec<String>,
    /// Take the transformer from this file, folder or hub id instead
    #[arg(long, value_name = "PATH|ID")]
    pub transformer: Option<PathBuf>,
    /// Take the VAE from this file, folder or hub id instead
    #[arg(long, value_name = "PATH|ID")]
    pub vae: Option<PathBuf>,
    /// Take LLaMA from this file, folder or hub id instead
    #[arg(long, value_name = "PATH|ID")]
    pub text_encoder: Option<PathBuf>,
    /// Take CLIP from this file, folder or hub id instead
    #[arg(long, value_name = "PATH|ID")]
    pub text_encoder_2: Option<PathBuf>,
}

impl ModelOptions {
    /// All paths and ids, as they were given.
    pub fn names(&self) -> Vec<String> {
        let parts = [
            &self.transformer,
            &self.vae,
            &self.text_encoder,
            &self.text_encoder_2,
        ];
        let parts = parts.into_iter().flatten();
        let parts = parts.map(|path| path.display().to_string());
        self.model.iter().cloned().chain(parts).collect()
    }

    /// The files and folders of all that was given; downloads hub ids.
    pub fn paths(&self, quiet: bool) -> Result<Vec<PathBuf>> {
        let names = self.names();
        names
            .iter()
            .map(|name| local(name.as_ref(), quiet))
            .collect()
    }

    /// Whether the model is the built-in one, parts of which may be replaced.
    pub fn is_tiny(&self) -> bool {
        self.model.is_empty()
    }

    /// Opens the model; reads headers only.
    pub fn open(&self, device: &Device, quiet: bool) -> Result<Model> {
        let local = |name: &Path| local(name, quiet);
        let mut model = match self.model.as_slice() {
            [] => Model::tiny(device)?,
            names => {
                let paths = names.iter().map(|name| local(name.as_ref()));
                Model::open(&paths.collect::<Result<Vec<_>>>()?)?
            }
        };
        let replacements = [
            (Component::Transformer, &self.transformer),
            (Component::Vae, &self.vae),
            (Component::TextEncoder, &self.text_encoder),
            (Component::TextEncoder2, &self.text_encoder_2),
        ];
        for (component, path) in replacements {
            if let Some(path) = path {
                model.replace(component, &local(path)?)?;
            }
        }
        Ok(model)
    }
}

/// The file or folder called `name`, downloaded where there is none and `name` is a hub id.
fn local(name: &Path, quiet: bool) -> Result<PathBuf> {
    match name.to_str().filter(|name| is_hub_id(name)) {
        Some(id) if !name.exists() => super::watch::download(id, quiet).inspect_err(|_| {
            tracing::warn!("there is no file or folder `{id}`, so it is taken as a hub id");
        }),
        _ => Ok(name.to_path_buf()),
    }
}

#[cfg(feature = "hub")]
fn is_hub_id(name: &str) -> bool {
    name.parse::<crate::checkpoint::hub::RepoId>().is_ok()
}

/// Whatever is not there may be one; `download` says that this build cannot tell.
#[cfg(not(feature = "hub"))]
fn is_hub_id(_: &str) -> bool {
    true
}

/// A LoRA and how strongly it is applied, written `FILE[:STRENGTH]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LoraArgument {
    path: PathBuf,
    strength: f64,
}

impl std::str::FromStr for LoraArgument {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let strength = |text: &str| text.parse().ok().filter(|value: &f64| value.is_finite());
        // A name may hold a colon of its own.
        let split = text
            .rsplit_once(':')
            .and_then(|(path, last)| Some((path, strength(last)?)));
        let (path, strength) = split.unwrap_or((text, 1.0));
        match path {
            "" => Err(format!(
                "`{text}` is not FILE[:STRENGTH], as style.safetensors:0.8"
            )),
            path => Ok(Self {
                path: path.into(),
                strength,
            }),
        }
    }
}

/// Adds LoRAs to a model; reads headers only.
pub(super) fn add_loras(model: &mut Model, loras: &[LoraArgument]) -> Result<()> {
    for LoraArgument { path, strength } in loras {
        model.add_lora(&Lora::open(path)?, *strength)?;
    }
    Ok(())
}

/// A file to write tensors to, whose name has to tell its format.
pub(super) fn safetensors_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(|path| match path.extension() {
        Some(extension) if extension == "safetensors" => Ok(path),
        _ => Err("the file is written as safetensors, so its name has to end in .safetensors"),
    })
}

/// Where and how to run it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Device and memory")]
pub(super) struct RunOptions {
    /// auto, or BACKEND[:INDEX] as `burn-hunyuan devices` lists them
    #[arg(long, default_value = "auto", value_name = "NAME")]
    pub device: String,
    /// Number format to compute in [default: as the transformer is stored; f32 where the device
    /// cannot]
    #[arg(long)]
    pub dtype: Option<Dtype>,
    /// How the VAE cuts clips: auto, off, tencent, diffusers, framewise, or tile/stride in pixels
    /// and frames, as 256x256x64/192x192x48
    #[arg(long, default_value = "auto", value_name = "MODE")]
    pub vae_tiling: TilingMode,
    /// Keep all components loaded, if memory allows
    #[arg(long)]
    pub keep_loaded: bool,
    /// Show no progress and no summary; warnings and errors remain
    #[arg(long, short)]
    pub quiet: bool,
}

/// A number format that models run in.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Dtype {
    F32,
    F16,
    Bf16,
}

impl From<Dtype> for FloatDType {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::Bf16 => Self::BF16,
        }
    }
}

impl RunOptions {
    /// A pipeline over the model with these LoRAs.
    pub fn pipeline(&self, model: &ModelOptions, loras: &[LoraArgument]) -> Result<Pipeline> {
        let device = device::open(&self.device)?;
        let mut model = model.open(&device, self.quiet)?;
        add_loras(&mut model, loras)?;
        let pipeline = Pipeline::new(model, device)?
            .with_vae_tiling(self.vae_tiling)
            .with_keep_loaded(self.keep_loaded);
        match self.dtype {
            Some(dtype) => pipeline.with_dtype(dtype.into()),
            None => Ok(pipeline),
        }
    }
}

/// Height and width in pixels, written `HxW`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    pub height: usize,
    pub width: usize,
}

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parsed = text
            .split_once(['x', 'X', '×'])
            .and_then(|(height, width)| {
                // No format holds more pixels in a row than u16 counts.
                Some(Self {
                    height: height.trim().parse::<u16>().ok()?.into(),
                    width: width.trim().parse::<u16>().ok()?.into(),
                })
            });
        parsed.ok_or_else(|| format!("`{text}` is not HEIGHTxWIDTH, as 720x1280"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_height_then_width() {
        assert_eq!(
            "720x1280".parse(),
            Ok(Size {
                height: 720,
                width: 1280
            })
        );
        assert!("720".parse::<Size>().is_err());
        assert!("axb".parse::<Size>().unwrap_err().contains("720x1280"));
    }

    #[test]
    fn lora_strengths_follow_the_last_colon() {
        let lora = |path: &str, strength| {
            let path = path.into();
            Ok(LoraArgument { path, strength })
        };
        assert_eq!("a.safetensors".parse(), lora("a.safetensors", 1.0));
        assert_eq!("a.safetensors:-0.5".parse(), lora("a.safetensors", -0.5));
        assert_eq!("C:/a.safetensors".parse(), lora("C:/a.safetensors", 1.0));
        assert_eq!("a:nan".parse(), lora("a:nan", 1.0));
        assert!(":1".parse::<LoraArgument>().is_err());
    }

    #[cfg(feature = "hub")]
    #[test]
    fn hub_ids_are_told_from_paths() {
        for id in [
            "hunyuanvideo-community/HunyuanVideo",
            "tencent/HunyuanVideo@main",
            "city96/HunyuanVideo-gguf/hunyuan-video-t2v-720p-Q4_K_M.gguf",
            "a/b/c/model.safetensors.index.json@v1",
        ] {
            assert!(is_hub_id(id), "{id}");
        }
        for path in ["model", "./model", "/a/b", "a/b/c", "../a", "a/"] {
            assert!(!is_hub_id(path), "{path}");
        }
    }
}
