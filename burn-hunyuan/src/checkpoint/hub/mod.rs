//! Checkpoints by hub id: downloaded once, into the cache that the Python library uses too.
//!
//! `hf-hub` knows the names and places of the cache. The transfer itself is written here, on
//! `ureq`: version 0.5 of `hf-hub` appends to a partial file whatever the server answers, so that a
//! resumed file can be wrong, it cannot be cancelled, and it ignores `HF_HUB_CACHE`,
//! `HF_HUB_OFFLINE` and `HF_TOKEN`; version 1.0 brings an asynchronous runtime and a storage
//! protocol of its own for what is a `GET` here.
//!
//! ```no_run
//! use std::ops::ControlFlow;
//!
//! let folder = burn_hunyuan::checkpoint::hub::fetch("hunyuanvideo-community/HunyuanVideo", &mut |p| {
//!     println!("{} {}/{}", p.file, p.bytes, p.total);
//!     ControlFlow::Continue(())
//! })?;
//! # Ok::<(), burn_hunyuan::checkpoint::hub::Error>(())
//! ```

mod cache;
mod client;
mod select;

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::str::FromStr;

pub use select::needed;

use cache::Cache;
use client::Client;

/// What can go wrong with a download.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not of the form of a [`RepoId`].
    #[error("{0:?} is no hub id; expected owner/name, owner/name/FILE, or either with @revision")]
    InvalidId(String),
    /// No such repository, or a private one.
    #[error(
        "the hub has no repository {id}, or it is private: check the spelling, \
         or log in (set HF_TOKEN) with an account that may read it"
    )]
    NotFound {
        /// The repository.
        id: RepoId,
    },
    /// No such branch, tag or commit.
    #[error("repository {id} has no such revision")]
    RevisionNotFound {
        /// The repository and the revision.
        id: RepoId,
    },
    /// The owner wants conditions accepted first.
    #[error(
        "repository {id} is gated: accept its conditions at {page}, \
         then log in (set HF_TOKEN) with that account"
    )]
    Gated {
        /// The repository.
        id: RepoId,
        /// Where to accept them.
        page: String,
    },
    /// Nothing in the cache, and the network is switched off.
    #[error("{id} is not in the cache {}, and HF_HUB_OFFLINE forbids to download it", cache.display())]
    Offline {
        /// The repository.
        id: RepoId,
        /// The cache's folder.
        cache: PathBuf,
    },
    /// No connection, or one that broke again and again.
    #[error("no connection to {url}: {reason}; what has arrived is kept, so run it again to go on")]
    Unreachable {
        /// What was asked for.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// An answer that is none of the above and no success either.
    #[error("unexpected answer from {url}: {reason}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What was wrong.
        reason: String,
    },
    /// The repository holds no weights this program could read.
    #[error("repository {id} has no weights in .safetensors, .gguf, .pt or .bin files")]
    NoWeights {
        /// The repository.
        id: RepoId,
    },
    /// Weights that have to be asked for by name, or not those that were. Nothing was downloaded.
    #[error(
        "repository {id} has {}; name the one to use, as {}/FILE:\n  {}",
        ambiguity(.id),
        .id.name,
        .files.join("\n  ")
    )]
    Ambiguous {
        /// The repository.
        id: RepoId,
        /// Its files of weights.
        files: Vec<String>,
    },
    /// The cache cannot be written: a full disk, missing permissions.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another process downloads the same file.
    #[error("another process is downloading {}; wait for it", path.display())]
    Busy {
        /// The partial file.
        path: PathBuf,
    },
    /// The progress callback asked to stop.
    #[error("the download was cancelled; what has arrived is kept")]
    Cancelled,
}

/// Why a file has to be named.
fn ambiguity(id: &RepoId) -> &'static str {
    match id.file {
        Some(_) => "no such file",
        None => "more than one file of weights, or one in a folder",
    }
}

/// A result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// A repository on the hub: `owner/name`, or `owner/name/FILE` for one file of weights in it; either
/// with `@revision` for a branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoId {
    /// `owner/name`.
    pub name: String,
    /// The path of a file of weights in it; all that a model needs where there is none.
    pub file: Option<String>,
    /// `main` unless given.
    pub revision: String,
}

impl FromStr for RepoId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (path, revision) = text.split_once('@').unwrap_or((text, "main"));
        let word = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            part.chars().all(plain) && part.starts_with(|c: char| c.is_ascii_alphanumeric())
        };
        let name_end = path.match_indices('/').nth(1).map(|(at, _)| at);
        let (name, file) = match name_end {
            Some(at) => (&path[..at], Some(&path[at + 1..])),
            None => (path, None),
        };
        // All become parts of file names.
        let is_file = |file: &str| file.split('/').all(word) && select::is_entry(file);
        if name.split('/').count() != 2
            || !name.split('/').all(word)
            || name.contains("--")
            || !revision.split('/').all(word)
            || !file.is_none_or(is_file)
        {
            return Err(Error::InvalidId(text.into()));
        }
        Ok(Self {
            name: name.into(),
            file: file.map(String::from),
            revision: revision.into(),
        })
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(file) = &self.file {
            write!(f, "/{file}")?;
        }
        match self.revision.as_str() {
            "main" => Ok(()),
            revision => write!(f, "@{revision}"),
        }
    }
}

/// How far a download is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The file in transfer.
    pub file: &'a str,
    /// Its number from 0.
    pub index: usize,
    /// How many files there are to download.
    pub files: usize,
    /// Bytes of this file on the disk, those of earlier runs included.
    pub bytes: u64,
    /// Bytes of this file in all; [`u64::MAX`] when the server does not tell.
    pub total: u64,
}

/// Called after every piece of a transfer; [`ControlFlow::Break`] cancels it.
pub type OnProgress<'a> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'a;

/// A checkpoint from the hub by a [`RepoId`], for [`Model::open`](super::Model::open): the file that was
/// asked for, or the folder with the local snapshot of the files [`needed`]. They are downloaded as
/// far as they are not in the cache.
///
/// A transfer that broke is taken up where it stopped. Without a network, the snapshot of the last
/// complete download is used. Reads the variables that the Python library reads: `HF_ENDPOINT`,
/// `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_TOKEN`, `HF_TOKEN_PATH` and `HF_HUB_OFFLINE`.
///
/// # Errors
/// See [`Error`].
pub fn fetch(id: &str, on_progress: &mut OnProgress) -> Result<PathBuf> {
    Hub::from_env().fetch(id, on_progress)
}

/// A hub server and the local cache of its files.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Address of the server, without a slash at the end.
    pub endpoint: String,
    /// The folder of the cache.
    pub cache: PathBuf,
    /// Access token.
    pub token: Option<String>,
    /// Never use the network.
    pub offline: bool,
}

impl Hub {
    /// As the environment says; see [`fetch`](fn@fetch).
    pub fn from_env() -> Self {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
        let home = variable("HF_HOME").map(PathBuf::from).unwrap_or_else(|| {
            let cache = variable("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(std::env::home_dir()?.join(".cache")));
            cache.unwrap_or_default().join("huggingface")
        });
        let token_path =
            variable("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        let token = variable("HF_TOKEN").or_else(|| std::fs::read_to_string(token_path).ok());
        let offline = variable("HF_HUB_OFFLINE")
            .unwrap_or_default()
            .to_ascii_uppercase();
        let endpoint = variable("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".into());
        Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            cache: variable("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from),
            token: token
                .map(|t| t.trim().to_string())
                .filter(|t| !t.is_empty()),
            offline: matches!(offline.as_str(), "1" | "ON" | "YES" | "TRUE"),
        }
    }

    /// See [`fetch`](fetch()).
    ///
    /// # Errors
    /// See [`Error`].
    pub fn fetch(&self, id: &str, on_progress: &mut OnProgress) -> Result<PathBuf> {
        let id: RepoId = id.parse()?;
        let cache = Cache::of(&self.cache, &id);
        let wanted = |snapshot: PathBuf| match &id.file {
            Some(file) => snapshot.join(file),
            None => snapshot,
        };
        let last = cache
            .last_snapshot()
            .map(wanted)
            .filter(|path| path.exists());
        if self.offline {
            return last.ok_or_else(|| Error::Offline {
                id,
                cache: self.cache.clone(),
            });
        }
        let client = Client::new(self);
        let listing = match (client.list(&id), last) {
            (Err(error @ Error::Unreachable { .. }), Some(last)) => {
                tracing::warn!("{error}; using the copy in {}", last.display());
                return Ok(last);
            }
            (listing, _) => listing?,
        };
        let files = match needed(&listing.files, id.file.as_deref()) {
            Ok(files) if files.iter().any(|file| select::is_weights(file)) => files,
            Err(files) if !files.is_empty() => return Err(Error::Ambiguous { id, files }),
            _ => return Err(Error::NoWeights { id }),
        };
        let snapshot = cache.snapshot(&listing.commit);
        let missing: Vec<_> = files
            .iter()
            .filter(|file| !snapshot.join(file).exists())
            .collect();
        for (index, file) in missing.iter().enumerate() {
            let remote = client.locate(&id, file, &listing.commit)?;
            let mut report = |bytes, total| match on_progress(Progress {
                file,
                index,
                files: missing.len(),
                bytes,
                total,
            }) {
                ControlFlow::Continue(()) => Ok(()),
                ControlFlow::Break(()) => Err(Error::Cancelled),
            };
            let blob = cache.blob(&remote.etag);
            if !blob.exists() {
                client.download(&remote, &blob, &mut report)?;
            }
            cache.link(&blob, &snapshot.join(file))?;
        }
        // Only now: without a network this leads to a complete snapshot.
        cache.remember(&listing.commit)?;
        Ok(wanted(snapshot))
    }
}
