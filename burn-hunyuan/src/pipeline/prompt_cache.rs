//! Prompts that were encoded before, on disk.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use burn::tensor::{Device, FloatDType};
use sha2::{Digest, Sha256};

use super::PromptCondition;
use crate::{
    checkpoint::Model,
    device,
    error::{Error, Result},
    tensors::{TensorFile, load_tensor},
    video,
};

/// Prompts that are kept; one of the published model takes 16 KB for each token, 4 MB at most.
const KEPT: usize = 200;

/// Changes with what a file holds, so that those of other versions are not read.
const LAYOUT: u32 = 2;

/// A folder of encoded prompts, a file for each.
///
/// A file's name is a hash of the prompt and of all that its encoding depends on: the text encoders'
/// files (by path, size and time of change), the number format and the device.
#[derive(Clone, Debug)]
pub(super) struct PromptCache {
    folder: PathBuf,
}

impl PromptCache {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The file for a prompt.
    ///
    /// # Errors
    /// Text encoders that are absent.
    pub fn path(
        &self,
        model: &Model,
        device: &Device,
        dtype: FloatDType,
        prompt: &str,
    ) -> Result<PathBuf> {
        let (llama, clip) = (model.text_encoder()?, model.text_encoder_2()?);
        let mut about = format!(
            "{} {LAYOUT} {dtype:?} {} {:?} {:?} {:?}",
            env!("CARGO_PKG_VERSION"),
            device::description(device),
            model.prompt_template(),
            llama.config,
            clip.config,
        );
        for weights in [llama.weights, clip.weights] {
            let mut last = None;
            for (name, tensor) in weights.iter() {
                let _ = write!(about, "\n{name} {tensor:?}");
                // Neighbours are of one file, as a rule.
                if last.as_deref() != Some(tensor.path()) {
                    let _ = write!(about, " {:?}", stamp(tensor.path()));
                    last = Some(tensor.path().to_path_buf());
                }
            }
        }
        for folder in model.tokenizer_folders() {
            let mut files: Vec<_> = fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .collect();
            files.sort_by_key(fs::DirEntry::path);
            for file in files {
                let path = file.path();
                let _ = write!(about, "\n{} {:?}", path.display(), stamp(&path));
            }
        }
        let mut name = String::new();
        for byte in Sha256::digest(format!("{about}\n{prompt}")) {
            let _ = write!(name, "{byte:02x}");
        }
        Ok(self.folder.join(name + ".safetensors"))
    }

    /// What [`store`](Self::store) wrote, if it did.
    pub fn load(path: &Path, device: &Device, dtype: FloatDType) -> Option<PromptCondition> {
        Some(PromptCondition {
            states: load_tensor::<3>(path, "states", device).ok()?.cast(dtype),
            pooled: load_tensor::<2>(path, "pooled", device).ok()?.cast(dtype),
            dropped: None,
            dropped_by_clip: None,
        })
    }

    /// Writes an encoded prompt, and removes those that were written longest ago where there are too
    /// many. A prompt that was cut is not kept: whoever gives it again is to be told again.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn store(&self, path: &Path, prompt: &PromptCondition) -> Result<()> {
        if prompt.dropped.is_some() || prompt.dropped_by_clip.is_some() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder).map_err(|source| video::Error::Write {
            path: self.folder.clone(),
            source,
        })?;
        let mut file = TensorFile::create(path)?;
        file.insert("states", prompt.states.clone());
        file.insert("pooled", prompt.pooled.clone());
        file.save()?;
        let entries = fs::read_dir(&self.folder).map_err(|source| Error::Io {
            path: self.folder.clone(),
            source,
        })?;
        let entries = entries.flatten();
        let is_prompt = |path: &PathBuf| path.extension().is_some_and(|e| e == "safetensors");
        let mut prompts: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(is_prompt)
            .collect();
        prompts.sort_by_key(|path| std::cmp::Reverse(stamp(path)));
        for old in prompts.iter().skip(KEPT) {
            // Another process may have removed it.
            let _ = fs::remove_file(old);
        }
        Ok(())
    }
}

/// When a file was last changed, and its size.
fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
