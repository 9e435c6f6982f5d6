//! What can go wrong, told so that the user can mend it.

use std::path::{Path, PathBuf};

/// The result of a curation step.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation on a file.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried: `read`, `create`, `start`.
        action: &'static str,
        /// The file, folder or program.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file is not what it has to be: a video that cannot be decoded, weights of another model.
    #[error("{}: {problem}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// A sidecar that is not understood. What it says may be personal, so where and what kind of
    /// thing is wrong is told apart from what stands there.
    #[error("{}: {place}: {problem}", path.display())]
    Sidecar {
        /// The file.
        path: PathBuf,
        /// Line, column and kind: fit for tables.
        place: String,
        /// The parser's words, which repeat the file's.
        problem: String,
    },
    /// A configuration or request that cannot be carried out.
    #[error("{0}")]
    Request(String),
    /// The observer of a run asked to stop.
    #[error("stopped; go on with --resume")]
    Interrupted,
}

impl Error {
    /// Whether the output cannot be written, as on a full disk: no fault of a source, and nothing goes
    /// on without it.
    pub(crate) fn is_of_output(&self) -> bool {
        let actions = ["write", "create"];
        matches!(self, Self::File { action, .. } if actions.contains(action))
    }

    /// What went wrong, without the path: for tables, which must not tell a name that has a
    /// pseudonym. `hidden` is a path that other programs' words may hold, `shown` what stands for it.
    pub(crate) fn without_path(&self, hidden: &Path, shown: &str) -> String {
        let text = match self {
            Self::File { action, source, .. } => format!("cannot {action} it: {source}"),
            Self::Unusable { problem, .. } => problem.clone(),
            Self::Sidecar { place, .. } => place.clone(),
            other => other.to_string(),
        };
        text.replace(&*hidden.to_string_lossy(), shown)
    }
}
