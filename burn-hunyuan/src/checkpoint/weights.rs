//! Named tensors of a checkpoint, not yet read.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    sync::Arc,
};

use ::safetensors::Dtype;
use burn::tensor::FloatDType;

use super::{
    Encoding, Error, StoredTensor, gguf,
    lora::Update,
    pt, safetensors, scales,
    weight_set::{self, WeightSet},
};

/// The tensors of a checkpoint by name. Opening reads headers only.
#[derive(Clone)]
pub struct Weights {
    origin: PathBuf,
    tensors: BTreeMap<String, StoredTensor>,
    /// What is added to a tensor when it is read.
    updates: BTreeMap<String, Vec<Update>>,
    /// From the names here to those in the files, for messages.
    name_in_file: Arc<dyn Fn(&str) -> String + Send + Sync>,
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(&self.tensors).finish()
    }
}

impl Weights {
    /// No tensors yet; `origin` is the file or folder that messages name.
    pub fn new(origin: impl Into<PathBuf>) -> Self {
        Self {
            origin: origin.into(),
            tensors: BTreeMap::new(),
            updates: BTreeMap::new(),
            name_in_file: Arc::new(str::to_string),
        }
    }

    /// Opens a file (`.safetensors`, PyTorch's `.pt` or `.bin`, `.gguf`, or the `.index.json` of a
    /// sharded checkpoint) or a folder that holds one checkpoint.
    ///
    /// # Errors
    /// What cannot be read, is no checkpoint of these formats, or is cut short.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        if path.is_dir() {
            return Self::open(weights_file(path)?);
        }
        match path.extension().and_then(OsStr::to_str) {
            Some("json") => scales::apply(Self::open_index(path)?),
            _ => scales::apply(Self::open_file(path)?),
        }
    }

    /// A file of weights as it is, without the scales that it may have beside them.
    fn open_file(path: &Path) -> Result<Self, Error> {
        match path.extension().and_then(OsStr::to_str) {
            Some("pt" | "pth" | "bin" | "ckpt") => pt::open(path),
            Some("gguf") => gguf::open(path),
            _ => safetensors::open(path),
        }
    }

    /// A sharded checkpoint: the index maps each tensor's name to the file that holds it.
    fn open_index(path: &Path) -> Result<Self, Error> {
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let malformed = |reason: String| Error::Malformed {
            path: path.to_path_buf(),
            format: "index",
            reason,
        };
        let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
            path: path.to_path_buf(),
            source,
        })?;
        let index: Index = serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))?;

        let mut shards = BTreeMap::new();
        let mut weights = Self::new(path);
        for (name, file) in index.weight_map {
            let shard = match shards.entry(file.clone()) {
                std::collections::btree_map::Entry::Occupied(shard) => shard.into_mut(),
                std::collections::btree_map::Entry::Vacant(slot) => {
                    if Path::new(&file).file_name() != Some(file.as_ref()) {
                        return Err(malformed(format!("`{file}` is not a plain file name")));
                    }
                    slot.insert(Self::open_file(&path.with_file_name(&file))?)
                }
            };
            let tensor = shard
                .remove(&name)
                .ok_or_else(|| malformed(format!("`{name}` is not in {file}")))?;
            weights.insert(name, tensor);
        }
        Ok(weights)
    }

    /// The file or folder that these tensors come from.
    pub fn origin(&self) -> &Path {
        &self.origin
    }

    /// The number format to compute in: the one of most of the bytes, and bf16 for formats that no
    /// device computes in.
    pub fn main_dtype(&self) -> FloatDType {
        let bytes_in = |formats: &dyn Fn(Encoding) -> bool| -> usize {
            let tensors = self
                .tensors
                .values()
                .filter(|tensor| formats(tensor.encoding()));
            tensors.map(StoredTensor::byte_len).sum()
        };
        let plain = |dtype| bytes_in(&|encoding| encoding == Encoding::Plain(dtype));
        let others = bytes_in(&|encoding| encoding.is_float() && !encoding.is_computed());
        let formats = [
            (FloatDType::F32, plain(Dtype::F32)),
            (FloatDType::F16, plain(Dtype::F16)),
            (FloatDType::BF16, plain(Dtype::BF16) + others),
        ];
        let main = formats.into_iter().max_by_key(|(_, bytes)| *bytes);
        main.map_or(FloatDType::F32, |(dtype, _)| dtype)
    }

    /// Whether weights are in formats that they have to be decoded from to compute with them.
    pub fn is_compressed(&self) -> bool {
        let mut encodings = self.tensors.values().map(|tensor| tensor.encoding());
        encodings.any(|encoding| encoding.is_float() && !encoding.is_computed())
    }

    /// Whether an accelerator can hold all that is compressed as it is, and decode it.
    pub fn is_decoded_by_devices(&self) -> bool {
        self.iter().all(|(name, tensor)| {
            let encoding = tensor.encoding();
            encoding.is_computed()
                || encoding.is_decoded_by_devices() && self.updates(name).is_empty()
        })
    }

    /// Names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Names and tensors in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &StoredTensor)> {
        self.tensors
            .iter()
            .map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there are no tensors.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The tensor called `name`.
    pub fn get(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// Adds a tensor, replacing one of the same name.
    pub fn insert(&mut self, name: impl Into<String>, tensor: StoredTensor) {
        self.tensors.insert(name.into(), tensor);
    }

    /// Adds `update` to the tensor called `name` whenever it is read.
    pub(super) fn update(&mut self, name: impl Into<String>, update: Update) {
        self.updates.entry(name.into()).or_default().push(update);
    }

    /// What is added to the tensor called `name` when it is read.
    pub(super) fn updates(&self, name: &str) -> &[Update] {
        self.updates.get(name).map_or(&[], Vec::as_slice)
    }

    /// Puts `tensor`, which has the updates in it, in the place of the tensor called `name`.
    pub(super) fn replace(&mut self, name: &str, tensor: StoredTensor) {
        self.updates.remove(name);
        self.insert(name, tensor);
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<StoredTensor> {
        self.tensors.remove(name)
    }

    /// Keeps the tensors whose names `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(&str) -> bool) {
        self.tensors.retain(|name, _| keep(name));
    }

    /// The tensors whose names begin with `prefix`, without it.
    pub fn under(&self, prefix: &str) -> Self {
        fn under<T: Clone>(map: &BTreeMap<String, T>, prefix: &str) -> BTreeMap<String, T> {
            map.iter()
                .filter_map(|(name, value)| {
                    Some((name.strip_prefix(prefix)?.into(), value.clone()))
                })
                .collect()
        }
        let tensors = under(&self.tensors, prefix);
        let updates = under(&self.updates, prefix);
        let (outer, prefix) = (self.name_in_file.clone(), prefix.to_string());
        Self {
            origin: self.origin.clone(),
            tensors,
            updates,
            name_in_file: Arc::new(move |name| outer(&format!("{prefix}{name}"))),
        }
    }

    /// No tensors of the same checkpoint, to be filled under other names: `old_name` leads from
    /// those back to the names here.
    pub(super) fn renamed(
        &self,
        old_name: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let outer = self.name_in_file.clone();
        Self {
            origin: self.origin.clone(),
            tensors: BTreeMap::new(),
            updates: BTreeMap::new(),
            name_in_file: Arc::new(move |name| outer(&old_name(name))),
        }
    }

    /// What the tensor called `name` here is or would be called in the file.
    pub fn name_in_file(&self, name: &str) -> String {
        (self.name_in_file)(name)
    }
}

/// The file of a folder that holds its weights, or lists the files that do.
fn weights_file(folder: &Path) -> Result<PathBuf, Error> {
    // Other files beside these are variants of the same weights in another dtype or format.
    const NAMES: [&str; 8] = [
        "diffusion_pytorch_model.safetensors.index.json",
        "model.safetensors.index.json",
        "diffusion_pytorch_model.safetensors",
        "model.safetensors",
        "pytorch_model.bin.index.json",
        "pytorch_model.bin",
        "pytorch_model.pt",
        "mp_rank_00_model_states.pt",
    ];
    let named = NAMES
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file());
    if let Some(path) = named {
        return Ok(path);
    }
    let entries = std::fs::read_dir(folder).map_err(|source| Error::Io {
        path: folder.to_path_buf(),
        source,
    })?;
    let files = entries.flatten().filter(|entry| entry.path().is_file());
    let names: Vec<_> = files
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let sets = WeightSet::candidates(names.iter().map(String::as_str));
    let what = match sets.as_slice() {
        [set] => match weight_set::entry(set) {
            Some(file) => return Ok(folder.join(file)),
            None => format!("{} are shards without their index", set.join(", ")),
        },
        [] => format!(
            "no weights in this folder (looked for {})",
            NAMES.join(", ")
        ),
        sets => {
            let files: Vec<_> = sets.iter().map(|set| set[0]).collect();
            let (count, files) = (sets.len(), files.join(", "));
            format!("{count} sets of weights ({files}); name the file to use")
        }
    };
    Err(Error::NotFound {
        path: folder.to_path_buf(),
        what,
    })
}
