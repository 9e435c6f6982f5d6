//! The cache's layout, shared with the Python library: `models--owner--name/` holds the contents
//! by hash in `blobs/`, links to them by name in `snapshots/COMMIT/`, and in `refs/REVISION` the
//! commit that a branch or tag stood for last.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hf_hub::{CacheRepo, Repo, RepoType};

use super::{Error, RepoId, Result};

/// A repository's part of the cache; `hf-hub` knows the places.
pub(super) struct Cache {
    repo: CacheRepo,
    root: PathBuf,
    revision: String,
}

impl Cache {
    pub(super) fn of(cache: &Path, id: &RepoId) -> Self {
        let repo = Repo::with_revision(id.name.clone(), RepoType::Model, id.revision.clone());
        Self {
            root: cache.join(repo.folder_name()),
            revision: id.revision.clone(),
            repo: hf_hub::Cache::new(cache.to_path_buf()).repo(repo),
        }
    }

    /// The snapshot of the last complete download of this revision.
    pub(super) fn last_snapshot(&self) -> Option<PathBuf> {
        let reference = self.root.join("refs").join(&self.revision);
        let commit = fs::read_to_string(reference).unwrap_or_else(|_| self.revision.clone());
        Some(self.snapshot(commit.trim())).filter(|snapshot| snapshot.is_dir())
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join("blobs").join(etag)
    }

    /// Notes the commit that the revision stands for.
    pub(super) fn remember(&self, commit: &str) -> Result<()> {
        self.repo
            .create_ref(commit)
            .map_err(|e| failed(&self.root, e))
    }

    /// Gives a blob its name in a snapshot.
    pub(super) fn link(&self, blob: &Path, name: &Path) -> Result<()> {
        let link = || {
            create_parent(name)?;
            // One step up for each folder between the file and the root of the cache.
            let inner = name.strip_prefix(&self.root).map_err(io::Error::other)?;
            let mut target: PathBuf = inner.components().skip(1).map(|_| "..").collect();
            target.push(blob.strip_prefix(&self.root).map_err(io::Error::other)?);
            symlink(&target, blob, name)
        };
        link().map_err(|e| failed(name, e))
    }
}

#[cfg(unix)]
fn symlink(target: &Path, _blob: &Path, name: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(target, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && name.exists() => Ok(()),
        result => result,
    }
}

/// As the Python library where links are not allowed: the file itself.
#[cfg(not(unix))]
fn symlink(_target: &Path, blob: &Path, name: &Path) -> io::Result<()> {
    fs::rename(blob, name)
}

pub(super) fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Write {
        path: path.to_path_buf(),
        source,
    }
}
