//! What can go wrong in training.

use std::{io, path::PathBuf};

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, worded for the person who has to act on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried: `read`, `write`, …
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be used for what it was given.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// The configuration asks for something that is not possible.
    #[error("{0}")]
    Config(String),
    /// The data cannot be trained on.
    #[error("{0}")]
    Data(String),
    /// A device failed, as a remote one does when its machine is gone.
    #[error(
        "the device {device} failed: {reason}; the last checkpoint is intact: give --resume to go \
         on from it"
    )]
    Device {
        /// What it was called.
        device: String,
        /// What the backend said.
        reason: String,
    },
    /// A checkpoint could not be written, as on a full disk.
    #[error(
        "step {step} was not saved: {source}; the checkpoints before it are intact: give --resume to \
         go on from the last"
    )]
    Unsaved {
        /// The step.
        step: u64,
        /// Why.
        source: Box<Error>,
    },
    /// The losses left the path and did not come back.
    #[error(
        "stopped after {skipped} skipped steps in a row, the last at step {step}: {reason}; \
         the last checkpoint is intact; lower the learning rate, or raise run.max_skipped"
    )]
    Diverged {
        /// The last step.
        step: u64,
        /// Steps in a row.
        skipped: u64,
        /// Why the last one was skipped.
        reason: String,
    },
}

/// Refuses a configuration unless every condition holds; the text says what has to be.
///
/// # Errors
/// [`Error::Config`] with the first text whose condition does not hold.
pub(crate) fn require(conditions: &[(bool, &str)]) -> Result<()> {
    match conditions.iter().find(|(holds, _)| !holds) {
        None => Ok(()),
        Some((_, text)) => Err(Error::Config((*text).to_string())),
    }
}

impl Error {
    /// For `map_err` on a file operation.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// An unusable file.
    pub fn file(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::File {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}
