//! LoRA: low-rank updates of a transformer's layers, `W + strength · scale · up · down`
//! (arXiv 2106.09685), and the differences that ComfyUI writes beside them, `W + strength · diff`
//! and `b + strength · diff_b`.
//!
//! They are added to the weights as these are read, so a model with LoRAs runs as fast as one
//! without. Every spelling in use is read: kohya's and musubi-tuner's, diffusers' and PEFT's, and
//! the layers' original names as diffusion-pipe and ComfyUI write them.

mod keys;
mod save;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use burn::tensor::{DType, FloatDType, Tensor, TensorData};
use burn_hunyuan_dit::DitConfig;

use super::{
    Component, Error, Mismatch, Model, Parameter, StoredTensor, Weights, convert, layout::Part,
    safetensors,
};

pub use save::LoraFormat;

/// The updates of a LoRA file. Opening reads its header and its scales only.
#[derive(Clone, Debug)]
pub struct Lora {
    origin: PathBuf,
    /// By our name of the layer.
    updates: BTreeMap<String, LowRank>,
    differences: Vec<Difference>,
    /// The transformer's, for layers that other programs fuse with one that has no update.
    mlp_ratio: f64,
}

/// The update of one linear layer.
#[derive(Clone, Debug)]
pub(super) struct LowRank {
    /// `[rank, in]`; also called A.
    pub down: StoredTensor,
    /// `[out, rank]`; also called B.
    pub up: StoredTensor,
    /// Factor of the product: alpha / rank.
    pub scale: f64,
}

/// What a weight or a bias differs by.
#[derive(Clone, Debug)]
struct Difference {
    /// Our names of the layer and of its tensor: `weight` or `bias`.
    layer: String,
    leaf: &'static str,
    /// The layer of the file, and the part of it that is ours. A bias does not tell the model's
    /// width, so it is split when it meets the model.
    part: Part,
    whole: StoredTensor,
}

/// What is added to a tensor when it is read.
#[derive(Clone, Debug)]
pub(super) enum Update {
    /// To a matrix.
    LowRank(LowRank),
    /// To any tensor: its elements in a row.
    Full(StoredTensor),
}

impl Update {
    /// `sum`, in f32, with the update added; `name` is for messages.
    pub fn add_to<const D: usize>(&self, sum: Tensor<D>, name: &str) -> Result<Tensor<D>, Error> {
        let (shape, device) = (sum.shape(), &sum.device());
        let matrix = |tensor: &StoredTensor| -> Result<Tensor<2>, Error> {
            let data = convert::read(name, tensor, FloatDType::F32)?;
            Ok(Tensor::from_data(data, (device, DType::F32)))
        };
        let update = match self {
            Self::LowRank(LowRank { down, up, scale }) => {
                (matrix(up)?.matmul(matrix(down)?) * *scale).reshape::<D, _>(shape)
            }
            Self::Full(difference) => {
                let data = convert::read(name, difference, FloatDType::F32)?;
                Tensor::<1>::from_data(data, (device, DType::F32)).reshape::<D, _>(shape)
            }
        };
        Ok(sum + update)
    }
}

/// The tensors of one layer of a file.
#[derive(Default)]
struct Found {
    down: Option<StoredTensor>,
    up: Option<StoredTensor>,
    alpha: Option<StoredTensor>,
    weight: Option<StoredTensor>,
    bias: Option<StoredTensor>,
}

impl Lora {
    /// Opens a LoRA for the transformer.
    ///
    /// # Errors
    /// A file that cannot be read, of another kind (LoHa, LoKr, DoRA), or with layers that
    /// HunyuanVideo does not have. Updates of text encoders are passed over with a warning.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let weights = Weights::open(path)?;
        convert::check_dtypes(&weights)?;
        // Where `path` is a folder, the file in it.
        let file = weights.origin();
        let alphas = keys::metadata_scales(file, &safetensors::metadata(file)?)?;
        Self::new(&weights, &alphas)
    }

    /// A LoRA in memory, as training has it: `LAYER.lora_A.weight` `[rank, in]` and
    /// `LAYER.lora_B.weight` `[out, rank]` in f32, where a layer has our name. `name` stands in for
    /// a file in messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_tensors(
        name: impl Into<PathBuf>,
        tensors: impl IntoIterator<Item = (String, TensorData)>,
        alpha: f64,
    ) -> Result<Self, Error> {
        let mut weights = Weights::new(name);
        for (key, data) in tensors {
            let stored = StoredTensor::in_memory(weights.origin(), data);
            weights.insert(key, stored);
        }
        Self::new(&weights, &keys::MetadataScales::of_alpha(alpha))
    }

    /// A LoRA for a transformer whose feed-forward parts have this many times its width; without it,
    /// as many as the published one's.
    pub fn with_mlp_ratio(self, mlp_ratio: f64) -> Self {
        Self { mlp_ratio, ..self }
    }

    fn new(weights: &Weights, alphas: &keys::MetadataScales) -> Result<Self, Error> {
        let layers = collect(weights)?;
        let column = keys::column(layers.keys());
        let mut lora = Self {
            origin: weights.origin().to_path_buf(),
            updates: BTreeMap::new(),
            differences: Vec::new(),
            mlp_ratio: DitConfig::new().mlp_ratio,
        };
        let mut mismatch = Mismatch::default();
        for (layer, mut found) in layers {
            let ours = keys::our_layers(column, &layer);
            if ours.is_empty() {
                mismatch.unexpected.push(layer);
                continue;
            }
            let full = [("weight", found.weight.take()), ("bias", found.bias.take())];
            for (leaf, whole) in full {
                let Some(whole) = whole else { continue };
                let differences = ours.iter().map(|(name, part)| Difference {
                    layer: name.clone(),
                    leaf,
                    part: *part,
                    whole: whole.clone(),
                });
                lora.differences.extend(differences);
            }
            if found.is_empty() {
                continue;
            }
            let update = found.update(&layer, alphas, &mut mismatch)?;
            let Some(update) = update else { continue };
            // The layers that other programs fuse take all of the model's width.
            let width = update.down.shape()[1];
            for (name, part) in ours {
                match part.of(&update.up, width) {
                    Some(up) => {
                        let update = LowRank {
                            up,
                            ..update.clone()
                        };
                        lora.updates.insert(name, update);
                    }
                    None => mismatch.misshapen(&layer, vec![width], update.up.shape()),
                }
            }
        }
        match mismatch.is_empty() {
            true => Ok(lora),
            false => Err(Error::Mismatch {
                origin: lora.origin,
                mismatch,
            }),
        }
    }

    /// Our names of the layers that it updates.
    pub fn layers(&self) -> impl Iterator<Item = &str> {
        let differences = self.differences.iter().map(|difference| &difference.layer);
        let layers: BTreeSet<_> = self.updates.keys().chain(differences).collect();
        layers.into_iter().map(String::as_str)
    }
}

/// The tensors of a file by layer.
fn collect(weights: &Weights) -> Result<BTreeMap<String, Found>, Error> {
    let unsupported = |what: String| Error::Unsupported {
        path: weights.origin().to_path_buf(),
        what,
    };
    let mut layers: BTreeMap<String, Found> = BTreeMap::new();
    let mut text_encoders = 0;
    for (key, tensor) in weights.iter() {
        if let Some(kind) = keys::other_kind(key) {
            let what = format!("`{key}` belongs to a {kind}; only plain LoRA is supported");
            return Err(unsupported(what));
        }
        if keys::is_text_encoder(key) {
            text_encoders += 1;
            continue;
        }
        let Some((layer, role)) = keys::parse(key) else {
            let what = format!("`{key}` is no part of a LoRA; is this a LoRA file?");
            return Err(unsupported(what));
        };
        let found = layers.entry(layer.to_string()).or_default();
        *match role {
            keys::Role::Down => &mut found.down,
            keys::Role::Up => &mut found.up,
            keys::Role::Alpha => &mut found.alpha,
            keys::Role::Weight => &mut found.weight,
            keys::Role::Bias => &mut found.bias,
        } = Some(tensor.clone());
    }
    if text_encoders > 0 {
        tracing::warn!(
            "{}: {text_encoders} tensors for text encoders are not used",
            weights.origin().display()
        );
    }
    match layers.is_empty() {
        true => Err(unsupported(
            "the file holds no LoRA for a transformer".into(),
        )),
        false => Ok(layers),
    }
}

impl Found {
    /// Whether no part of a low-rank update is there.
    fn is_empty(&self) -> bool {
        self.down.is_none() && self.up.is_none() && self.alpha.is_none()
    }

    /// The update, or `None` and an entry in `mismatch` where it is not complete.
    fn update(
        self,
        layer: &str,
        metadata: &keys::MetadataScales,
        mismatch: &mut Mismatch,
    ) -> Result<Option<LowRank>, Error> {
        let (down, up) = match (self.down, self.up) {
            (Some(down), Some(up)) => (down, up),
            (down, _) => {
                let which = if down.is_none() { "down" } else { "up" };
                mismatch.missing.push(Parameter {
                    name: format!("{layer}: its {which} matrix"),
                    shape: Vec::new(),
                });
                return Ok(None);
            }
        };
        let ([rank, _], [_, columns]) = (down.shape(), up.shape()) else {
            mismatch.misshapen(layer, vec![0, 0], down.shape());
            return Ok(None);
        };
        if rank != columns || *rank == 0 {
            mismatch.misshapen(layer, vec![up.shape()[0], *rank], up.shape());
            return Ok(None);
        }
        let rank = *rank as f64;
        let scale = match self.alpha {
            // As musubi-tuner has it, an alpha of 0 stands for the rank.
            Some(alpha) => match alpha.values(layer)?.iter::<f32>().next() {
                Some(alpha) if alpha != 0.0 => f64::from(alpha) / rank,
                _ => 1.0,
            },
            None => metadata.of(layer, rank),
        };
        Ok(Some(LowRank { down, up, scale }))
    }
}

impl Mismatch {
    fn misshapen(&mut self, layer: &str, expected: Vec<usize>, found: &[usize]) {
        let parameter = Parameter {
            name: layer.to_string(),
            shape: expected,
        };
        self.misshapen.push((parameter, found.to_vec()));
    }
}

impl Model {
    /// Adds a LoRA to the transformer, `strength` times; several add up.
    ///
    /// Nothing is computed before the transformer is loaded.
    ///
    /// # Errors
    /// Layers that the transformer does not have, or has in another size.
    pub fn add_lora(&mut self, lora: &Lora, strength: f64) -> Result<(), Error> {
        let weights = self.weights_mut(Component::Transformer)?;
        let mut mismatch = Mismatch::default();
        let mut updates = Vec::new();
        for (layer, update) in &lora.updates {
            let expected = vec![update.up.shape()[0], update.down.shape()[1]];
            let tensor = format!("{layer}.weight");
            match weights.get(&tensor) {
                None => mismatch.unexpected.push(layer.clone()),
                Some(weight) if weight.shape() != expected => {
                    mismatch.misshapen(layer, weight.shape().to_vec(), &expected);
                }
                Some(_) => {
                    let scale = update.scale * strength;
                    let update = update.clone();
                    updates.push((tensor, Update::LowRank(LowRank { scale, ..update })));
                }
            }
        }
        for difference in &lora.differences {
            let tensor = format!("{}.{}", difference.layer, difference.leaf);
            let Some(old) = weights.get(&tensor) else {
                mismatch.unexpected.push(tensor);
                continue;
            };
            // The layers that other programs fuse take all of the model's width.
            let weight = weights.get(&format!("{}.weight", difference.layer));
            let width = weight.and_then(|weight| weight.shape().get(1));
            let part = difference.part.of(&difference.whole, *width.unwrap_or(&0));
            let part = part.filter(|part| part.shape() == old.shape());
            match part.and_then(|part| part.reshaped(vec![old.elements()])) {
                Some(flat) => updates.push((tensor, Update::Full(flat.scaled(strength as f32)))),
                None => {
                    mismatch.misshapen(&tensor, old.shape().to_vec(), difference.whole.shape());
                }
            }
        }
        if !mismatch.is_empty() {
            let origin = lora.origin.clone();
            return Err(Error::Mismatch { origin, mismatch });
        }
        for (tensor, update) in updates {
            weights.update(tensor, update);
        }
        Ok(())
    }
}
