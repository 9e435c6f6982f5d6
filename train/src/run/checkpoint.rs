//! Checkpoints: folders of safetensors files and one JSON, complete or not there.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    error::{Error, Result},
    files,
    parameters::{Parameter, Parameters},
    tensor_file,
};

/// The file of everything that is no tensor.
const STATE: &str = "state.json";

/// What a folder is called until it is complete.
const UNFINISHED: &str = ".partial";

/// The checkpoints of a run.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// Opens `folder`, which is created; removes what an interrupted save left there.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn open(folder: &Path, keep: usize) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
            let path = entry.map_err(Error::io("read", folder))?.path();
            if path.extension().is_some_and(|e| e == &UNFINISHED[1..]) {
                fs::remove_dir_all(&path).map_err(Error::io("remove", path))?;
            }
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            keep,
        })
    }

    /// Whether there is a checkpoint in `folder`, which need not exist.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn exist_in(folder: &Path) -> Result<bool> {
        Ok(folder.exists() && !steps(folder)?.is_empty())
    }

    /// The checkpoint of the latest step.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn latest(&self) -> Result<Option<Checkpoint>> {
        match steps(&self.folder)?.last() {
            Some(step) => Checkpoint::open(&self.path(*step)).map(Some),
            None => Ok(None),
        }
    }

    /// Writes a checkpoint with what `fill` puts in. It appears under its name when it is whole
    /// and on the disk; older ones but the best are then removed.
    ///
    /// `score`: lower is better.
    ///
    /// # Errors
    /// What cannot be written. The checkpoints that were there are still there.
    pub fn save(
        &self,
        step: u64,
        score: Option<f64>,
        fill: impl FnOnce(&mut CheckpointWriter) -> Result<()>,
    ) -> Result<()> {
        let folder = self.path(step);
        let aside = PathBuf::from(format!("{}{UNFINISHED}", folder.display()));
        let write = || {
            fs::create_dir_all(&aside).map_err(Error::io("create", &aside))?;
            let mut writer = CheckpointWriter {
                folder: aside.clone(),
                state: Map::new(),
            };
            writer.state("step", step)?;
            writer.state("score", score)?;
            fill(&mut writer)?;
            writer.finish()?;
            fs::rename(&aside, &folder).map_err(Error::io("write", &folder))
        };
        write().inspect_err(|_| {
            // A full disk needs the room; where even this fails, `open` does it next time.
            let _ = fs::remove_dir_all(&aside);
        })?;
        sync(&self.folder)?;
        self.prune()
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("step-{step:08}"))
    }

    /// Removes all but the latest `keep` and the best.
    fn prune(&self) -> Result<()> {
        let steps = steps(&self.folder)?;
        let score = |step: &u64| Checkpoint::open(&self.path(*step)).ok()?.score();
        let best = steps
            .iter()
            .filter_map(|step| Some((score(step)?, *step)))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        let old = steps.len().saturating_sub(self.keep);
        for step in &steps[..old] {
            if best.is_none_or(|(_, best)| best != *step) {
                let path = self.path(*step);
                fs::remove_dir_all(&path).map_err(Error::io("remove", path))?;
            }
        }
        Ok(())
    }
}

/// The steps of all checkpoints in a folder, ascending.
fn steps(folder: &Path) -> Result<Vec<u64>> {
    let entries = fs::read_dir(folder).map_err(Error::io("read", folder))?;
    let mut steps: Vec<u64> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_prefix("step-")?.parse().ok()
        })
        .collect();
    steps.sort_unstable();
    Ok(steps)
}

/// Makes what a folder lists survive a power failure. Windows does not open folders, and its file
/// system keeps a journal of names.
fn sync(folder: &Path) -> Result<()> {
    if cfg!(windows) {
        return Ok(());
    }
    let file = File::open(folder).map_err(Error::io("open", folder))?;
    file.sync_all().map_err(Error::io("write", folder))
}

/// A checkpoint being written.
#[derive(Debug)]
pub struct CheckpointWriter {
    folder: PathBuf,
    state: Map<String, Value>,
}

impl CheckpointWriter {
    /// Writes `NAME.safetensors`, f32.
    ///
    /// # Errors
    /// What cannot be written.
    pub fn tensors(&mut self, name: &str, tensors: &Parameters) -> Result<()> {
        let path = self.folder.join(format!("{name}.safetensors"));
        tensor_file::write_parameters(&path, tensors)
    }

    /// Adds a value to `state.json`.
    ///
    /// # Errors
    /// A value that JSON cannot hold.
    pub fn state(&mut self, key: &str, value: impl Serialize) -> Result<()> {
        let value = serde_json::to_value(value).map_err(|e| Error::file(&self.folder, e))?;
        self.state.insert(key.to_string(), value);
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let text = format!("{:#}\n", Value::from(self.state));
        files::write(&self.folder.join(STATE), text)?;
        sync(&self.folder)
    }
}

/// A complete checkpoint.
#[derive(Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    state: Map<String, Value>,
}

impl Checkpoint {
    /// Opens the checkpoint in `folder`.
    ///
    /// # Errors
    /// A folder that is no checkpoint.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(STATE);
        let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let state = serde_json::from_str(&text).map_err(|e| Error::file(&path, e))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            state,
        })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether `state.json` has a value of this name.
    pub fn has_state(&self, key: &str) -> bool {
        self.state.contains_key(key)
    }

    /// A value of `state.json`.
    ///
    /// # Errors
    /// One that is absent or of another kind.
    pub fn state<T: DeserializeOwned>(&self, key: &str) -> Result<T> {
        let value = self.state.get(key).cloned().unwrap_or_default();
        serde_json::from_value(value)
            .map_err(|e| Error::file(self.folder.join(STATE), format!("`{key}`: {e}")))
    }

    /// The tensors of `NAME.safetensors`, which have to be those of `like` by name and shape; they
    /// come to its device.
    ///
    /// # Errors
    /// A file that cannot be read or holds other tensors.
    pub fn tensors(&self, name: &str, like: &Parameters) -> Result<Parameters> {
        let path = self.folder.join(format!("{name}.safetensors"));
        let stored = tensor_file::open(&path)?;
        if let Some(name) = stored.keys().find(|name| !like.contains_key(*name)) {
            let reason = format!("holds `{name}`, which this model does not have");
            return Err(Error::file(&path, reason));
        }
        let read = |(name, parameter): (&String, &Parameter)| {
            let Some(stored) = stored.get(name) else {
                let reason = format!("lacks `{name}`, which this model has");
                return Err(Error::file(&path, reason));
            };
            let (found, shape) = (stored.shape(), parameter.file_shape());
            if found != shape {
                let reason = format!("`{name}` is {found:?}, this model's is {shape:?}");
                return Err(Error::file(&path, reason));
            }
            Ok((name.clone(), parameter.from_file(stored.read()?)))
        };
        like.iter().map(read).collect()
    }

    fn score(&self) -> Option<f64> {
        self.state.get("score")?.as_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::parameters;
    use burn::{nn::LinearConfig, tensor::Device};

    fn steps(checkpoints: &Checkpoints) -> Vec<u64> {
        super::steps(&checkpoints.folder).unwrap()
    }

    #[test]
    fn the_latest_and_the_best_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path(), 2).unwrap();
        for (step, score) in [(0, None), (1, Some(3.0)), (2, Some(1.0)), (3, Some(2.0))] {
            checkpoints.save(step, score, |_| Ok(())).unwrap();
        }
        checkpoints.save(4, Some(4.0), |_| Ok(())).unwrap();
        assert_eq!(steps(&checkpoints), [2, 3, 4]);
        let latest = checkpoints.latest().unwrap().unwrap();
        assert_eq!(latest.state::<u64>("step").unwrap(), 4);
    }

    #[test]
    fn an_unfinished_save_is_never_seen() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path(), 2).unwrap();
        checkpoints.save(1, None, |_| Ok(())).unwrap();
        let failed = checkpoints.save(2, None, |writer| {
            writer.state("something", 1)?;
            Err(Error::Data("the disk is full".into()))
        });
        assert!(failed.is_err());
        assert_eq!(steps(&checkpoints), [1]);
        assert!(Checkpoints::exist_in(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        // What a killed save leaves is removed by the next run.
        fs::create_dir(folder.path().join("step-00000002.partial")).unwrap();
        let checkpoints = Checkpoints::open(folder.path(), 2).unwrap();
        assert_eq!(steps(&checkpoints), [1]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn tensors_come_back_and_others_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::open(folder.path(), 2).unwrap();
        let module = |out| parameters(&LinearConfig::new(2, out).init(&Device::flex()));
        let saved = module(3);
        checkpoints
            .save(1, None, |writer| writer.tensors("model", &saved))
            .unwrap();
        let checkpoint = checkpoints.latest().unwrap().unwrap();
        let read = checkpoint.tensors("model", &module(3)).unwrap();
        for (name, parameter) in &saved {
            assert_eq!(parameter.values.to_data(), read[name].values.to_data());
        }
        let message = checkpoint
            .tensors("model", &module(4))
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("[3]") && message.contains("[4]"),
            "{message}"
        );
    }
}
