//! Cached clips: latents and text embeddings in safetensors files, so that training the
//! transformer touches neither encoder.
//!
//! ```text
//! SHARDS/
//!   empty.safetensors        the caption "": states, pooled
//!   shard-00000.safetensors  clip-00000000.latents, clip-00000000.caption-0.states, ….pooled, …
//! ```

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::{Dtype, tensor::TensorView};

use crate::{
    error::{Error, Result},
    tensor_file::{self, StoredTensor},
};

/// A shard is written when it has grown to this many bytes.
const SHARD_BYTES: usize = 1 << 30;

/// The file of the empty caption.
const EMPTY: &str = "empty.safetensors";

/// A caption as both text encoders understand it, without padding.
#[derive(Clone, Debug)]
pub struct CachedCaption {
    /// The caption itself, for people who open the file.
    pub text: String,
    /// LLaMA's states, `[tokens, text_dim]`.
    pub states: TensorData,
    /// CLIP's pooled state, `[pooled_dim]`.
    pub pooled: TensorData,
}

/// Writes shards.
pub struct ShardWriter {
    folder: PathBuf,
    clips: usize,
    shards: usize,
    bytes: usize,
    tensors: BTreeMap<String, TensorData>,
    texts: BTreeMap<String, String>,
}

impl ShardWriter {
    /// Starts to write to `folder`, which is created and has to be empty, with the embedding of
    /// the empty caption.
    ///
    /// # Errors
    /// A folder that is not empty or cannot be written.
    pub fn create(folder: &Path, empty: &CachedCaption) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let mut entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
        if entries.next().is_some() {
            return Err(Error::file(
                folder,
                "this folder is not empty; give another",
            ));
        }
        let mut writer = Self {
            folder: folder.to_path_buf(),
            clips: 0,
            shards: 0,
            bytes: 0,
            tensors: BTreeMap::new(),
            texts: BTreeMap::new(),
        };
        writer.caption("empty", empty);
        writer.write(EMPTY)?;
        Ok(writer)
    }

    /// Adds a clip: its latents `[channels, frames, height, width]`, as the transformer knows
    /// them, and its captions, of which training takes one at random each time.
    ///
    /// # Errors
    /// A shard that cannot be written.
    pub fn add(&mut self, latents: TensorData, captions: &[CachedCaption]) -> Result<()> {
        let clip = format!("clip-{:08}", self.clips);
        self.clips += 1;
        self.insert(format!("{clip}.latents"), latents);
        for (i, caption) in captions.iter().enumerate() {
            self.caption(&format!("{clip}.caption-{i}"), caption);
        }
        match self.bytes >= SHARD_BYTES {
            true => self.next_shard(),
            false => Ok(()),
        }
    }

    /// Writes what is left, and returns the number of clips.
    ///
    /// # Errors
    /// A shard that cannot be written.
    pub fn finish(mut self) -> Result<usize> {
        if !self.tensors.is_empty() {
            self.next_shard()?;
        }
        Ok(self.clips)
    }

    fn caption(&mut self, name: &str, caption: &CachedCaption) {
        self.insert(format!("{name}.states"), caption.states.clone());
        self.insert(format!("{name}.pooled"), caption.pooled.clone());
        self.texts.insert(name.to_string(), caption.text.clone());
    }

    fn insert(&mut self, name: String, data: TensorData) {
        self.bytes += data.bytes().len();
        self.tensors.insert(name, data);
    }

    fn next_shard(&mut self) -> Result<()> {
        let name = format!("shard-{:05}.safetensors", self.shards);
        self.shards += 1;
        self.write(&name)
    }

    fn write(&mut self, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        let tensors = std::mem::take(&mut self.tensors);
        let views: Result<BTreeMap<_, _>> = tensors
            .iter()
            .map(|(name, data)| {
                let dtype = stored_dtype(data.dtype()).ok_or_else(|| {
                    let reason = format!("`{name}` is {:?}, not a float", data.dtype());
                    Error::file(&path, reason)
                })?;
                let view = TensorView::new(dtype, data.shape().as_slice().to_vec(), data.bytes());
                Ok((name.clone(), view.map_err(|e| Error::file(&path, e))?))
            })
            .collect();
        let texts = std::mem::take(&mut self.texts).into_iter().collect();
        let aside = path.with_extension("partial");
        safetensors::serialize_to_file(views?, Some(texts), &aside)
            .map_err(|e| Error::file(&aside, e))?;
        self.bytes = 0;
        fs::rename(&aside, &path).map_err(Error::io("write", path))
    }
}

fn stored_dtype(dtype: DType) -> Option<Dtype> {
    match dtype {
        DType::F32 => Some(Dtype::F32),
        DType::F16 => Some(Dtype::F16),
        DType::BF16 => Some(Dtype::BF16),
        _ => None,
    }
}

/// A clip of the cache.
#[derive(Clone, Debug)]
struct CachedClip {
    latents: StoredTensor,
    /// States and pooled state of each caption.
    captions: Vec<[StoredTensor; 2]>,
}

/// Cached clips. Headers are read when the folder is opened, tensors when they are asked for.
#[derive(Debug)]
pub struct Shards {
    clips: Vec<CachedClip>,
    empty: [StoredTensor; 2],
}

impl Shards {
    /// Opens what a [`ShardWriter`] wrote.
    ///
    /// # Errors
    /// A folder that holds no shards, or damaged ones.
    pub fn open(folder: &Path) -> Result<Self> {
        let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
        let mut files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
            .collect();
        files.sort();
        let mut tensors = BTreeMap::new();
        for path in &files {
            tensors.append(&mut tensor_file::open(path)?);
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
        let mut clips = Vec::new();
        loop {
            let clip = format!("clip-{:08}", clips.len());
            let name = format!("{clip}.latents");
            if !tensors.contains_key(&name) {
                break;
            }
            let latents = take(&mut tensors, name, 4)?;
            let mut captions = vec![caption(&mut tensors, &format!("{clip}.caption-0"))?];
            while tensors.contains_key(&format!("{clip}.caption-{}.states", captions.len())) {
                let name = format!("{clip}.caption-{}", captions.len());
                captions.push(caption(&mut tensors, &name)?);
            }
            clips.push(CachedClip { latents, captions });
        }
        if clips.is_empty() {
            return Err(missing("clip-00000000.latents"));
        }
        Ok(Self { clips, empty })
    }

    /// Number of clips.
    pub fn len(&self) -> usize {
        self.clips.len()
    }

    /// Whether there is no clip; [`open`](Self::open) refuses that.
    pub fn is_empty(&self) -> bool {
        self.clips.is_empty()
    }

    /// The shape of a clip's latents: channels, frames, height, width.
    pub fn latent_shape(&self, clip: usize) -> [usize; 4] {
        let shape = &self.clips[clip].latents.shape();
        std::array::from_fn(|i| shape[i])
    }

    /// Number of captions of a clip.
    pub fn captions(&self, clip: usize) -> usize {
        self.clips[clip].captions.len()
    }

    /// Channels of the text states and of the pooled state.
    pub fn text_dims(&self) -> [usize; 2] {
        [&self.empty[0], &self.empty[1]].map(|stored| stored.shape().last().copied().unwrap_or(0))
    }

    /// The most text tokens of any caption.
    pub fn longest_text(&self) -> usize {
        let captions = self.clips.iter().flat_map(|clip| &clip.captions);
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
        self.tensor(&self.clips[clip].latents, device)
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
            Some(caption) => &self.clips[clip].captions[caption],
            None => &self.empty,
        };
        Ok((self.tensor(states, device)?, self.tensor(pooled, device)?))
    }

    fn tensor<const D: usize>(&self, stored: &StoredTensor, device: &Device) -> Result<Tensor<D>> {
        let data = stored.read()?.convert::<f32>();
        Ok(Tensor::from_data(data, (device, DType::F32)))
    }
}
