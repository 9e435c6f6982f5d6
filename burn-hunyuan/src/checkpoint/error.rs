//! What can be wrong with a checkpoint.

use std::{fmt::Write as _, io, path::PathBuf};

use super::Mismatch;

/// A checkpoint that cannot be used: where, what is wrong, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The header does not parse.
    #[error("{path} is not a usable {format} file: {reason}")]
    Malformed {
        /// File.
        path: PathBuf,
        /// The format that its name or first bytes claim.
        format: &'static str,
        /// The parser's reason.
        reason: String,
    },
    /// The file is shorter than its header says.
    #[error(
        "{path} is truncated: its header announces {expected} bytes, the file has {actual}; \
         download it again"
    )]
    Truncated {
        /// File.
        path: PathBuf,
        /// Size according to the header, in bytes.
        expected: u64,
        /// Size of the file, in bytes.
        actual: u64,
    },
    /// A format or model that this program does not read.
    #[error("{path}: {what}")]
    Unsupported {
        /// File or folder.
        path: PathBuf,
        /// What it is and what to use instead.
        what: String,
    },
    /// Nothing that looks like weights.
    #[error("{path}: {what}")]
    NotFound {
        /// File or folder.
        path: PathBuf,
        /// What was looked for.
        what: String,
    },
    /// Tensors missing from the checkpoint, of other shapes than the model's, or unknown to it.
    #[error("{origin} does not fit the model: {}", summary(.mismatch))]
    Mismatch {
        /// File or folder.
        origin: PathBuf,
        /// Every one of them.
        mismatch: Mismatch,
    },
    /// A config file that does not describe its weights.
    #[error(
        "{config} says `{key}` is {configured}, the tensors of {weights} say {measured}; the two \
         do not belong together"
    )]
    Disagreement {
        /// Config file.
        config: PathBuf,
        /// Its key.
        key: String,
        /// The value there.
        configured: String,
        /// File or folder of the weights.
        weights: PathBuf,
        /// The value according to the tensors.
        measured: String,
    },
    /// A weight in a number format that cannot be loaded.
    #[error(
        "{path}: tensor `{name}` is stored as {dtype}, which cannot be loaded; use a checkpoint \
         in F32, F16, BF16, fp8 or one of GGUF's usual types"
    )]
    Dtype {
        /// File.
        path: PathBuf,
        /// Tensor.
        name: String,
        /// Its number format.
        dtype: String,
    },
    /// A weight that is NaN or infinite.
    #[error(
        "{path}: tensor `{name}` holds NaN or infinite values in {dtype}; the file is damaged, or \
         its values need a wider dtype"
    )]
    NotFinite {
        /// File.
        path: PathBuf,
        /// Tensor.
        name: String,
        /// The dtype loaded into.
        dtype: &'static str,
    },
    /// A tokenizer that cannot be used.
    #[error(transparent)]
    Tokenizer(#[from] burn_hunyuan_text::Error),
    /// The progress callback asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// The first names of each kind; `inspect` lists them all.
fn summary(mismatch: &Mismatch) -> String {
    const SHOWN: usize = 8;
    let mut text = String::new();
    let mut list = |what: &str, names: Vec<String>| {
        if names.is_empty() {
            return;
        }
        let separator = if text.is_empty() { "" } else { "; " };
        let shown = names[..names.len().min(SHOWN)].join(", ");
        let _ = write!(text, "{separator}{} {what}: {shown}", names.len());
        if names.len() > SHOWN {
            text.push_str(", …");
        }
    };
    list(
        "missing",
        mismatch.missing.iter().map(|p| p.name.clone()).collect(),
    );
    list(
        "misshapen",
        mismatch
            .misshapen
            .iter()
            .map(|(p, found)| format!("{} {found:?} instead of {:?}", p.name, p.shape))
            .collect(),
    );
    list("unexpected", mismatch.unexpected.clone());
    text
}
