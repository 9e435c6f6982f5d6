//! What can go wrong between a prompt and a video.

use std::{io, path::PathBuf};

use crate::{checkpoint, device::DeviceError, video};

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, worded for the person who has to act on it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(checkpoint::Error),
    /// The device cannot be opened.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The prompt cannot be encoded.
    #[error(transparent)]
    Text(#[from] burn_hunyuan_text::Error),
    /// A video cannot be read or written.
    #[error(transparent)]
    Video(#[from] video::Error),
    /// The request asks for something that the model cannot do.
    #[error("{0}")]
    Request(String),
    /// The device does not compute in the requested number format.
    #[error(
        "this device does not compute in {dtype}; `burn-hunyuan devices` lists what it can, and --dtype f32 always works"
    )]
    Dtype {
        /// The number format asked for.
        dtype: &'static str,
    },
    /// A tensor file (`--init-latents`, the input of `reconstruct`) cannot be used.
    #[error("{path}: {reason}")]
    Tensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The operating system refused to read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Training cannot go on.
    #[cfg(feature = "train")]
    #[error(transparent)]
    Train(#[from] burn_hunyuan_train::Error),
    /// A checkpoint that was inspected has faults.
    #[error("{0}")]
    Unusable(String),
    /// The model cannot be downloaded.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(checkpoint::hub::Error),
    /// Footage cannot be curated.
    #[cfg(feature = "curate")]
    #[error(transparent)]
    Curate(#[from] burn_hunyuan_curate::Error),
    /// The numbers left the range of the number format.
    #[error("the {what} are not finite; try --dtype bf16 or --dtype f32")]
    NotFinite {
        /// What holds NaN or infinity.
        what: String,
    },
    /// Of several videos, some were not made.
    #[error("{source}; {written} of {of} videos were written")]
    Unfinished {
        /// Videos that are complete.
        written: usize,
        /// Videos asked for.
        of: usize,
        /// Why the others are not.
        source: Box<Error>,
    },
    /// The progress callback asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl From<checkpoint::Error> for Error {
    fn from(error: checkpoint::Error) -> Self {
        match error {
            checkpoint::Error::Cancelled => Self::Cancelled,
            error => Self::Checkpoint(error),
        }
    }
}

impl Error {
    /// An unusable tensor file.
    pub(crate) fn tensors(path: impl Into<PathBuf>, reason: impl ToString) -> Self {
        Self::Tensors {
            path: path.into(),
            reason: reason.to_string(),
        }
    }
}
