//! A whole model: which file or folder holds which of its four parts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use burn::tensor::Device;
use burn_hunyuan_dit::DitConfig;
use burn_hunyuan_text::{ClipConfig, LlamaConfig, PromptTemplate, Tokenizer};
use burn_hunyuan_vae::VaeConfig;

use super::{
    Component, Error, Recognised, Weights, recognise,
    sizes::{ConfigFile, Sizes, read_json},
    tiny,
};

/// Shift of the sampling schedule where no scheduler config says otherwise.
const OFFICIAL_SHIFT: f64 = 7.0;

/// The files of a model. No weight is read before a part is loaded.
#[derive(Clone, Debug)]
pub struct Model {
    origin: PathBuf,
    sources: BTreeMap<Component, Source>,
    shift: f64,
    template: PromptTemplate,
}

/// A component ready to be loaded by [`load_module`](super::load_module).
#[derive(Clone, Debug)]
pub struct Part<C> {
    /// Sizes; `config.init(device)` creates the module.
    pub config: C,
    /// Tensors under the module's names.
    pub weights: Weights,
}

/// Where one component comes from.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub recognised: Recognised,
    pub config: Option<ConfigFile>,
    pub tokenizer: Option<TokenizerFiles>,
}

/// Where a tokenizer comes from.
#[derive(Clone, Debug)]
pub(super) enum TokenizerFiles {
    Folder(PathBuf),
    Embedded {
        tokenizer: &'static [u8],
        config: &'static [u8],
    },
}

impl Model {
    /// The small model that is part of this library: it draws moving shapes.
    ///
    /// The parameters of its text encoders are listed by building them on `device`, where nothing
    /// is allocated.
    ///
    /// # Errors
    /// None that a user can cause.
    pub fn tiny(device: &Device) -> Result<Self, Error> {
        tiny::model(device)
    }

    /// A model that needs no files.
    pub(super) fn embedded(
        origin: PathBuf,
        sources: impl IntoIterator<Item = (Component, Source)>,
        shift: f64,
        template: PromptTemplate,
    ) -> Self {
        Self {
            origin,
            sources: sources.into_iter().collect(),
            shift,
            template,
        }
    }

    /// Opens a model given as the folder of a diffusers pipeline, as the original `ckpts` folder,
    /// or as files or folders of one component each, in any order.
    ///
    /// # Errors
    /// What cannot be read or is no part of HunyuanVideo, and two files for one component.
    /// A component that is absent is an error only when it is asked for.
    pub fn open(paths: &[impl AsRef<Path>]) -> Result<Self, Error> {
        let origin = paths
            .first()
            .map(|path| path.as_ref().to_path_buf())
            .unwrap_or_default();
        let mut model = Self {
            origin,
            sources: BTreeMap::new(),
            shift: OFFICIAL_SHIFT,
            template: PromptTemplate::VIDEO,
        };
        for path in paths {
            model.add(path.as_ref())?;
        }
        Ok(model)
    }

    /// Adds everything that `path` holds.
    fn add(&mut self, path: &Path) -> Result<(), Error> {
        for (expected, weights) in parts_of(path) {
            let source = Source::open(&weights)?;
            let found = source.recognised.component;
            let refused = |what| {
                Err(Error::Unsupported {
                    path: weights.clone(),
                    what,
                })
            };
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                return refused(format!("expected a {expected}, found a {found}"));
            }
            if let Some(other) = self.sources.insert(found, source) {
                let other = other.recognised.weights.origin().display().to_string();
                return refused(format!(
                    "this is a {found}, and so is {other}; give only one"
                ));
            }
        }
        if let Some(shift) = scheduler_shift(path)? {
            self.shift = shift;
        }
        Ok(())
    }

    /// Takes a component from another file or folder, of any kind that [`open`](Self::open) takes.
    ///
    /// Settings that its tensors leave open and no config file beside it tells stay as they were;
    /// so does the tokenizer.
    ///
    /// # Errors
    /// Files that cannot be read, or hold no such component.
    pub fn replace(&mut self, component: Component, path: &Path) -> Result<(), Error> {
        let mut other = Self::open(&[path])?;
        let Some(mut source) = other.sources.remove(&component) else {
            let found: Vec<_> = other.sources.keys().map(|found| found.folder()).collect();
            let what = format!("expected a {component}, found: {}", found.join(", "));
            return Err(Error::Unsupported {
                path: path.to_path_buf(),
                what,
            });
        };
        if let Some(old) = self.sources.remove(&component) {
            source.tokenizer = source.tokenizer.or(old.tokenizer);
            source.config = source
                .config
                .or(old.config.map(ConfigFile::of_other_weights));
        }
        self.sources.insert(component, source);
        Ok(())
    }

    /// The diffusion transformer.
    ///
    /// # Errors
    /// A checkpoint without it, or with tensors whose shapes fit no model of its kind.
    pub fn transformer(&self) -> Result<Part<DitConfig>, Error> {
        self.source(Component::Transformer)?.part(Sizes::dit)
    }

    /// The VAE.
    ///
    /// # Errors
    /// A checkpoint without it, or with tensors whose shapes fit no model of its kind.
    pub fn vae(&self) -> Result<Part<VaeConfig>, Error> {
        self.source(Component::Vae)?.part(Sizes::vae)
    }

    /// LLaMA, without the last layers of the file, which are not run.
    ///
    /// # Errors
    /// A checkpoint without it, or with tensors whose shapes fit no model of its kind.
    pub fn text_encoder(&self) -> Result<Part<LlamaConfig>, Error> {
        let mut part = self.source(Component::TextEncoder)?.part(Sizes::llama)?;
        let number = |name: &str| {
            name.strip_prefix("layers.")?
                .split('.')
                .next()?
                .parse()
                .ok()
        };
        let layers = part.config.layers;
        part.weights
            .retain(|name| number(name).is_none_or(|layer: usize| layer < layers));
        Ok(part)
    }

    /// CLIP.
    ///
    /// # Errors
    /// A checkpoint without it, or with tensors whose shapes fit no model of its kind.
    pub fn text_encoder_2(&self) -> Result<Part<ClipConfig>, Error> {
        self.source(Component::TextEncoder2)?.part(Sizes::clip)
    }

    /// A text encoder's tokenizer.
    ///
    /// # Errors
    /// A checkpoint without the encoder or its tokenizer, a tokenizer that cannot be read.
    pub fn tokenizer(&self, component: Component) -> Result<Tokenizer, Error> {
        let source = self.source(component)?;
        match &source.tokenizer {
            Some(TokenizerFiles::Folder(folder)) if component == Component::TextEncoder2 => {
                Ok(Tokenizer::open_clip(folder)?)
            }
            Some(TokenizerFiles::Folder(folder)) => {
                let tokenizer = Tokenizer::open(folder)?;
                if tokenizer.is_clip() {
                    let what = "this tokenizer is CLIP's; LLaMA needs its own tokenizer.json and \
                                tokenizer_config.json, in a folder with its weights"
                        .into();
                    let path = folder.clone();
                    return Err(Error::Unsupported { path, what });
                }
                Ok(tokenizer)
            }
            Some(TokenizerFiles::Embedded { tokenizer, config }) => {
                Ok(Tokenizer::from_bytes(tokenizer, config)?)
            }
            None => {
                let files = match component {
                    Component::TextEncoder2 => "vocab.json and merges.txt, or tokenizer.json,",
                    _ => "tokenizer.json and tokenizer_config.json",
                };
                let what = format!("no tokenizer for this text encoder; put its {files} beside it");
                let path = source.recognised.weights.origin().to_path_buf();
                Err(Error::NotFound { path, what })
            }
        }
    }

    /// The folders that tokenizers are read from.
    pub(crate) fn tokenizer_folders(&self) -> impl Iterator<Item = &Path> {
        let tokenizers = self.sources.values().map(|source| &source.tokenizer);
        tokenizers.filter_map(|tokenizer| match tokenizer {
            Some(TokenizerFiles::Folder(folder)) => Some(folder.as_path()),
            _ => None,
        })
    }

    /// What LLaMA reads around a prompt.
    pub fn prompt_template(&self) -> PromptTemplate {
        self.template
    }

    /// Shift of the sampling schedule.
    pub fn shift(&self) -> f64 {
        self.shift
    }

    /// What was found.
    pub fn components(&self) -> impl Iterator<Item = &Recognised> {
        self.sources.values().map(|source| &source.recognised)
    }

    /// The tensors of a component, to be changed.
    pub(super) fn weights_mut(&mut self, component: Component) -> Result<&mut Weights, Error> {
        self.source(component)?;
        let source = self.sources.get_mut(&component);
        match source {
            Some(source) => Ok(&mut source.recognised.weights),
            None => unreachable!("`source` found it"),
        }
    }

    pub(super) fn source(&self, component: Component) -> Result<&Source, Error> {
        self.sources.get(&component).ok_or_else(|| Error::NotFound {
            path: self.origin.clone(),
            what: format!(
                "no {component} here; give one with --{}",
                component.folder().replace('_', "-")
            ),
        })
    }
}

impl Source {
    fn open(path: &Path) -> Result<Self, Error> {
        let recognised = recognise(&Weights::open(path)?)?;
        let folder = match path.parent() {
            _ if path.is_dir() => path,
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        Ok(Self {
            config: ConfigFile::open(folder, recognised.component)?,
            tokenizer: tokenizer_beside(folder, recognised.component).map(TokenizerFiles::Folder),
            recognised,
        })
    }

    fn part<'a, C>(
        &'a self,
        config: impl Fn(Sizes<'a>) -> Result<C, Error>,
    ) -> Result<Part<C>, Error> {
        let weights = &self.recognised.weights;
        let config = config(Sizes {
            weights,
            config: self.config.as_ref(),
        })?;
        Ok(Part {
            config,
            weights: weights.clone(),
        })
    }
}

/// The checkpoints of a path, with the component that each should be where its place tells.
fn parts_of(path: &Path) -> Vec<(Option<Component>, PathBuf)> {
    let original = path.join("hunyuan-video-t2v-720p");
    let candidates = if original.is_dir() {
        let transformer = original
            .join("transformers")
            .join("mp_rank_00_model_states.pt");
        let [text_encoder, text_encoder_2] =
            ["text_encoder", "text_encoder_2"].map(|f| path.join(f));
        [
            transformer,
            original.join("vae"),
            text_encoder,
            text_encoder_2,
        ]
    } else {
        Component::ALL.map(|component| path.join(component.folder()))
    };
    let parts = Component::ALL.map(Some).into_iter().zip(candidates);
    let parts: Vec<_> = parts.filter(|(_, part)| part.exists()).collect();
    if parts.is_empty() {
        vec![(None, path.to_path_buf())]
    } else {
        parts
    }
}

/// The folder of the tokenizer that belongs to the weights of a text encoder in `folder`: the same,
/// or its neighbour in a diffusers pipeline.
fn tokenizer_beside(folder: &Path, component: Component) -> Option<PathBuf> {
    // Only CLIP's tokenizer comes as a vocabulary; LLaMA's may lie in the same folder.
    let files: &[&str] = match component {
        Component::TextEncoder => &["tokenizer.json"],
        Component::TextEncoder2 => &["vocab.json", "tokenizer.json"],
        Component::Transformer | Component::Vae => return None,
    };
    let neighbour = || {
        // `.` has no name of its own.
        let folder = std::path::absolute(folder).ok()?;
        let name = folder.file_name()?.to_str()?;
        Some(folder.with_file_name(name.replace("text_encoder", "tokenizer")))
    };
    let has_tokenizer = |folder: &PathBuf| files.iter().any(|file| folder.join(file).is_file());
    [Some(folder.to_path_buf()), neighbour()]
        .into_iter()
        .flatten()
        .find(has_tokenizer)
}

/// The shift of a pipeline's scheduler, if the folder has one.
///
/// # Errors
/// A schedule of another form.
fn scheduler_shift(pipeline: &Path) -> Result<Option<f64>, Error> {
    const OTHER_SCHEDULES: [&str; 5] = [
        "use_dynamic_shifting",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "shift_terminal",
    ];
    let path = pipeline.join("scheduler").join("scheduler_config.json");
    let Some(config) = read_json(&path)? else {
        return Ok(None);
    };
    let is_on = |key: &&str| config[*key].as_bool().unwrap_or(!config[*key].is_null());
    if let Some(key) = OTHER_SCHEDULES.into_iter().find(|key| is_on(key)) {
        let what = format!("`{key}` is not supported; HunyuanVideo's schedule has a shift only");
        return Err(Error::Unsupported { path, what });
    }
    Ok(config["shift"].as_f64())
}
