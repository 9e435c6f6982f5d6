//! Cached clips: latents and text embeddings in safetensors files, so that training the
//! transformer touches neither encoder.
//!
//! ```text
//! SHARDS/
//!   cache.json               what the clips were made from and how; `unfinished.json` before that
//!   empty.safetensors        the caption "": states, pooled
//!   shard-00000.safetensors  clip-00000000.latents, clip-00000000.caption-0.states, ….pooled, …
//!   skipped.txt              the clips that could not be used, and why
//! ```
//!
//! A shard's metadata holds of each clip the captions themselves, `CLIP.file`, what it was made from, and
//! `CLIP.weight`, how often to take it where that is not once. Curation reads it to erase clips, which
//! leaves gaps in their numbers.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Tensor};

use super::shard_writer::UNFINISHED;
use crate::{
    error::{Error, Result},
    tensor_file::{self, StoredTensor},
};

/// A clip of the cache.
#[derive(Clone, Debug)]
struct CachedClip {
    latents: StoredTensor,
    /// States and pooled state of each caption.
    captions: Vec<[StoredTensor; 2]>,
    weight: f64,
}

/// Cached clips. Headers are read when the folder is opened, tensors when they are asked for.
///
/// A clip goes by its number, which stays when others are erased; methods panic where there is none of
/// that number.
#[derive(Debug)]
pub struct Shards {
    clips: BTreeMap<usize, CachedClip>,
    empty: [StoredTensor; 2],
}

/// What the numbers of the clips of each further folder begin with.
const FOLDER: usize = 100_000_000;

impl Shards {
    /// Opens several folders as one. The clips of the first keep their numbers.
    ///
    /// # Errors
    /// As [`open`](Self::open); folders whose captions are of different text encoders; none at all.
    pub fn open_all(folders: &[PathBuf]) -> Result<Self> {
        let mut all: Option<Self> = None;
        for (i, folder) in folders.iter().enumerate() {
            let mut shards = Self::open(folder)?;
            let Some(all) = &mut all else {
                all = Some(shards);
                continue;
            };
            let (own, expected) = (shards.text_dims(), all.text_dims());
            if own != expected {
                let reason = format!(
                    "its captions have {own:?} channels, those of {} {expected:?}; cache both with \
                     the same text encoders",
                    folders[0].display()
                );
                return Err(Error::file(folder, reason));
            }
            let clips = std::mem::take(&mut shards.clips).into_iter();
            all.clips
                .extend(clips.map(|(number, clip)| (i * FOLDER + number, clip)));
        }
        all.ok_or_else(|| Error::Config("`shards` names no folder".into()))
    }

    /// Opens what a [`ShardWriter`](super::ShardWriter) wrote.
    ///
    /// # Errors
    /// A folder that holds no shards, not all of them yet, or damaged ones.
    pub fn open(folder: &Path) -> Result<Self> {
        if folder.join(UNFINISHED).exists() {
            let reason = "`burn-hunyuan cache` has not finished here; repeat it with --resume";
            return Err(Error::file(folder, reason));
        }
        let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
            .collect();
        files.sort();
        let (mut tensors, mut weights) = (BTreeMap::new(), BTreeMap::new());
        for path in &files {
            for (name, tensor) in tensor_file::open(path)? {
                if tensors.contains_key(&name) {
                    let reason = format!(
                        "`{name}` is in another file of this folder as well; shards of several \
                         folders are mixed by naming these in a list, shards = [\"a\", \"b\"]"
                    );
                    return Err(Error::file(path, reason));
                }
                tensors.insert(name, tensor);
            }
            let texts = tensor_file::metadata(path)?.into_iter();
            weights.extend(texts.filter(|(name, _)| name.ends_with(".weight")));
        }
        let missing = |name: &str| {
            let reason =
                format!("no `{name}` in these shards; write them with `burn-hunyuan cache`");
            Error::file(folder, reason)
        };
        let take = |tensors: &mut BTreeMap<String, StoredTensor>, name: String, rank| {
            let stored = tensors.remove(&name).ok_or_else(|| missing(&name))?;
            let shape = stored.shape();
            match shape.len() == rank {
                true => Ok(stored),
                false => Err(Error::file(folder, format!("`{name}` is {shape:?}"))),
            }
        };
        let caption = |tensors: &mut BTreeMap<String, StoredTensor>, name: &str| -> Result<_> {
            let states = take(tensors, format!("{name}.states"), 2)?;
            Ok([states, take(tensors, format!("{name}.pooled"), 1)?])
        };
        let empty = caption(&mut tensors, "empty")?;
        let numbers: Vec<usize> = tensors.keys().filter_map(|name| number(name)).collect();
        let mut clips = BTreeMap::new();
        for number in numbers {
            let clip = clip_name(number);
            let latents = take(&mut tensors, format!("{clip}.latents"), 4)?;
            let mut captions = vec![caption(&mut tensors, &format!("{clip}.caption-0"))?];
            while tensors.contains_key(&format!("{clip}.caption-{}.states", captions.len())) {
                let name = format!("{clip}.caption-{}", captions.len());
                captions.push(caption(&mut tensors, &name)?);
            }
            let weight = weights.get(&format!("{clip}.weight"));
            let clip = CachedClip {
                latents,
                captions,
                weight: weight.and_then(|text| text.parse().ok()).unwrap_or(1.0),
            };
            clips.insert(number, clip);
        }
        if clips.is_empty() {
            let reason = "there are no clips in these shards; write some with `burn-hunyuan cache`";
            return Err(Error::file(folder, reason));
        }
        Ok(Self { clips, empty })
    }

    /// The clips' numbers, ascending.
    pub fn numbers(&self) -> impl Iterator<Item = usize> {
        self.clips.keys().copied()
    }

    /// How many clips there are.
    pub fn len(&self) -> usize {
        self.clips.len()
    }

    /// Whether there is no clip; [`open`](Self::open) refuses that.
    pub fn is_empty(&self) -> bool {
        self.clips.is_empty()
    }

    /// The shape of a clip's latents: channels, frames, height, width.
    pub fn latent_shape(&self, clip: usize) -> [usize; 4] {
        let shape = self.clips[&clip].latents.shape();
        std::array::from_fn(|i| shape[i])
    }

    /// How often a clip is to be taken, compared with the others; 1 on average.
    pub fn weight(&self, clip: usize) -> f64 {
        self.clips[&clip].weight
    }

    /// Number of captions of a clip.
    pub fn captions(&self, clip: usize) -> usize {
        self.clips[&clip].captions.len()
    }

    /// Channels of the text states and of the pooled state.
    pub fn text_dims(&self) -> [usize; 2] {
        [&self.empty[0], &self.empty[1]].map(|stored| stored.shape().last().copied().unwrap_or(0))
    }

    /// The most text tokens of any caption.
    pub fn longest_text(&self) -> usize {
        let captions = self.clips.values().flat_map(|clip| &clip.captions);
        let lengths = captions
            .chain([&self.empty])
            .map(|[states, _]| states.shape()[0]);
        lengths.max().unwrap_or(0)
    }

    /// A clip's latents, f32 `[channels, frames, height, width]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn latents(&self, clip: usize, device: &Device) -> Result<Tensor<4>> {
        self.tensor(&self.clips[&clip].latents, device)
    }

    /// A caption's states `[tokens, text_dim]` and pooled state `[pooled_dim]`, f32; `None` is the
    /// empty caption.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn caption(
        &self,
        clip: usize,
        caption: Option<usize>,
        device: &Device,
    ) -> Result<(Tensor<2>, Tensor<1>)> {
        let [states, pooled] = match caption {
            Some(caption) => &self.clips[&clip].captions[caption],
            None => &self.empty,
        };
        Ok((self.tensor(states, device)?, self.tensor(pooled, device)?))
    }

    fn tensor<const D: usize>(&self, stored: &StoredTensor, device: &Device) -> Result<Tensor<D>> {
        let data = stored.read()?.convert::<f32>();
        Ok(Tensor::from_data(data, (device, DType::F32)))
    }
}

/// What the names of a clip's tensors and texts begin with.
pub(super) fn clip_name(number: usize) -> String {
    format!("clip-{number:08}")
}

/// The number of the clip whose latents have this name.
fn number(latents: &str) -> Option<usize> {
    let number = latents.strip_prefix("clip-")?.strip_suffix(".latents")?;
    number.parse().ok()
}
