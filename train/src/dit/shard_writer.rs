//! Writes cached clips, and goes on where it was interrupted.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs::{self, File},
    path::{Path, PathBuf},
};

use burn::tensor::TensorData;
use serde_json::Value;

use super::shards::clip_name;
use crate::{
    error::{Error, Result},
    files, tensor_file,
};

/// Clips of a shard: what an interruption can lose.
const SHARD_CLIPS: usize = 32;

/// What the settings' file is called while shards are missing.
pub(super) const UNFINISHED: &str = "unfinished.json";

/// What it is called then.
const FINISHED: &str = "cache.json";

/// The file of the empty caption.
const EMPTY: &str = "empty.safetensors";

/// The list of the clips that were passed over.
const SKIPPED: &str = "skipped.txt";

/// In a shard's metadata: the clips of the dataset that this shard and those before it are made
/// from, and the list of those among them that were passed over since the shard before.
const DONE: &str = "dataset_clips_done";
const PASSED_OVER: &str = "passed_over";

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

/// Writes shards from the clips of a dataset, one after the other.
///
/// A shard appears under its name when it is whole. What a shard holds follows from the dataset
/// alone, so a writer that was killed and resumed leaves the same bytes as one that was not.
pub struct ShardWriter {
    folder: PathBuf,
    /// Held until the shards are written.
    _claim: Option<File>,
    /// Clips of the dataset dealt with, those that were passed over included.
    done: usize,
    /// Clips in all shards, and in the one that is begun.
    clips: usize,
    begun: usize,
    /// Whole shards.
    shards: usize,
    tensors: BTreeMap<String, TensorData>,
    texts: BTreeMap<String, String>,
    /// Lines about clips that were passed over: in earlier shards, and since the last.
    skipped: [String; 2],
    count_skipped: usize,
}

impl ShardWriter {
    /// Starts to write to `folder`, which is created and has to be empty, with the embedding of
    /// the empty caption. `settings` are all that the shards follow from.
    ///
    /// # Errors
    /// A folder that is not empty, that another writer is at work in, or that cannot be written.
    pub fn create(folder: &Path, settings: &Value, empty: &CachedCaption) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let claim = files::claim(folder)?;
        let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
        // What a write that was killed left does not count.
        let is_whole = |entry: fs::DirEntry| entry.path().extension() != Some("partial".as_ref());
        if entries.filter_map(std::result::Result::ok).any(is_whole) {
            let reason = "this folder is not empty; give another, or --resume to go on with a \
                          cache that was interrupted";
            return Err(Error::file(folder, reason));
        }
        files::replace(&folder.join(UNFINISHED), format!("{settings:#}\n"))?;
        Self::start(folder, claim, empty)
    }

    /// Goes on with the shards in `folder`; where there are none, as [`create`](Self::create).
    ///
    /// # Errors
    /// A folder of something else, or that another writer is at work in; shards of other settings,
    /// damaged ones.
    pub fn resume(folder: &Path, settings: &Value, empty: &CachedCaption) -> Result<Self> {
        let [unfinished, finished] = [UNFINISHED, FINISHED].map(|name| folder.join(name));
        let path = match (unfinished.exists(), finished.exists()) {
            (true, _) => &unfinished,
            (_, true) => &finished,
            _ => return Self::create(folder, settings, empty),
        };
        let claim = files::claim(folder)?;
        let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
        let found: Value = serde_json::from_str(&text).map_err(|e| Error::file(path, e))?;
        if let Some(difference) = difference(&found, settings) {
            let reason = format!("these shards were made otherwise: {difference}");
            return Err(Error::file(folder, reason));
        }
        let mut writer = Self::start(folder, claim, empty)?;
        loop {
            let path = folder.join(shard_name(writer.shards));
            if !path.exists() {
                return Ok(writer);
            }
            writer.pass(&path)?;
        }
    }

    fn start(folder: &Path, claim: Option<File>, empty: &CachedCaption) -> Result<Self> {
        let mut writer = Self {
            folder: folder.to_path_buf(),
            _claim: claim,
            done: 0,
            clips: 0,
            begun: 0,
            shards: 0,
            tensors: BTreeMap::new(),
            texts: BTreeMap::new(),
            skipped: Default::default(),
            count_skipped: 0,
        };
        writer.caption("empty", empty);
        writer.write(EMPTY)?;
        Ok(writer)
    }

    /// Passes a shard that is there.
    fn pass(&mut self, path: &Path) -> Result<()> {
        let tensors = tensor_file::open(path)?;
        let texts = tensor_file::metadata(path)?;
        let (Some(done), Some(skipped)) = (
            texts.get(DONE).and_then(|done| done.parse().ok()),
            texts.get(PASSED_OVER),
        ) else {
            let reason = "this shard does not tell what it was made from; give another folder";
            return Err(Error::file(path, reason));
        };
        self.done = done;
        self.shards += 1;
        let latents = tensors.keys().filter(|name| name.ends_with(".latents"));
        self.clips += latents.count();
        self.skipped[0] += skipped;
        self.count_skipped += skipped.lines().count();
        Ok(())
    }

    /// The clips of the dataset that are dealt with; the next one is this one's number.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Adds the next clip of the dataset: its latents `[channels, frames, height, width]`, as the
    /// transformer knows them, its captions, of which training takes one at random each time, how often
    /// to take it, 1 on average, and what it was made from: the path of its file, or words where it was
    /// drawn.
    ///
    /// # Errors
    /// A shard that cannot be written.
    pub fn add(
        &mut self,
        latents: TensorData,
        captions: &[CachedCaption],
        weight: f64,
        file: &str,
    ) -> Result<()> {
        // Not by the count of clips: of those in earlier shards some may have been erased.
        let clip = clip_name(self.shards * SHARD_CLIPS + self.begun);
        self.clips += 1;
        self.begun += 1;
        self.done += 1;
        self.texts.insert(format!("{clip}.file"), file.into());
        self.tensors.insert(format!("{clip}.latents"), latents);
        for (i, caption) in captions.iter().enumerate() {
            self.caption(&format!("{clip}.caption-{i}"), caption);
        }
        if weight != 1.0 {
            let weight = weight.to_string();
            self.texts.insert(format!("{clip}.weight"), weight);
        }
        match self.begun == SHARD_CLIPS {
            true => self.next_shard(),
            false => Ok(()),
        }
    }

    /// Passes over the next clip of the dataset.
    pub fn skip(&mut self, path: &Path, why: &str) {
        self.done += 1;
        self.count_skipped += 1;
        // Writing to a text cannot fail; a reason of several lines is one line in the list.
        let why = why.replace('\n', " ");
        let _ = writeln!(self.skipped[1], "{}: {why}", path.display());
    }

    /// Writes what is left, and the list of the clips that were passed over. Returns the number of
    /// clips, and of those passed over.
    ///
    /// # Errors
    /// A file that cannot be written. More clips passed over than cached: the shards stay
    /// unfinished, and training refuses them.
    pub fn finish(mut self) -> Result<(usize, usize)> {
        if self.begun > 0 {
            self.next_shard()?;
        }
        let (clips, skipped) = (self.clips, self.count_skipped);
        let list = self.folder.join(SKIPPED);
        if skipped > 0 {
            files::replace(&list, self.skipped.concat())?;
        }
        let [unfinished, finished] = [UNFINISHED, FINISHED].map(|name| self.folder.join(name));
        if unfinished.exists() {
            if skipped > clips {
                let all = clips + skipped;
                let reason = format!(
                    "{skipped} of {all} clips could not be used, more than half; see {}",
                    list.display()
                );
                return Err(Error::file(&self.folder, reason));
            }
            fs::rename(unfinished, &finished).map_err(Error::io("write", finished))?;
        }
        Ok((clips, skipped))
    }

    fn caption(&mut self, name: &str, caption: &CachedCaption) {
        let tensors = [("states", &caption.states), ("pooled", &caption.pooled)];
        for (part, data) in tensors {
            self.tensors.insert(format!("{name}.{part}"), data.clone());
        }
        self.texts.insert(name.to_string(), caption.text.clone());
    }

    fn next_shard(&mut self) -> Result<()> {
        let skipped = std::mem::take(&mut self.skipped[1]);
        self.skipped[0] += &skipped;
        self.texts.insert(PASSED_OVER.into(), skipped);
        self.texts.insert(DONE.into(), self.done.to_string());
        let name = shard_name(self.shards);
        self.shards += 1;
        self.begun = 0;
        self.write(&name)
    }

    fn write(&mut self, name: &str) -> Result<()> {
        let path = self.folder.join(name);
        let tensors = std::mem::take(&mut self.tensors);
        let texts = std::mem::take(&mut self.texts);
        let shapes = tensors.iter();
        let shapes = shapes.map(|(n, data)| (n, data.dtype(), data.shape().as_slice().to_vec()));
        files::replace_with(&path, |aside| {
            tensor_file::write(aside, &texts, shapes, |name| tensors[name].clone())
        })
    }
}

fn shard_name(number: usize) -> String {
    format!("shard-{number:05}.safetensors")
}

/// The first setting that differs, in words.
fn difference(found: &Value, wanted: &Value) -> Option<String> {
    // What an earlier version did not set down is null.
    let was = |key: &String| found.get(key).unwrap_or(&Value::Null);
    let mut wanted = wanted.as_object()?.iter();
    let (key, value) = wanted.find(|(key, value)| was(key) != *value)?;
    let was = was(key);
    Some(format!(
        "{key} was {was}, now it is {value}; give another folder"
    ))
}
