//! Files that appear under their names only when they are whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::{Error, Result};

/// What the names of unfinished files begin with.
const UNFINISHED: &str = ".unfinished-";

/// Writes `bytes` to `path` by way of another name in the same folder.
///
/// # Errors
/// If the system refuses.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    write_with(path, |unfinished| {
        fs::write(unfinished, bytes).map_err(|source| Error::File {
            action: "write",
            path: path.into(),
            source,
        })
    })
}

/// Lets `fill` write another name in the folder of `path`, then renames it to `path`. Errors of that
/// other file are told of `path`.
///
/// # Errors
/// What `fill` returns, or if the system refuses.
pub(crate) fn write_with(path: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let unfinished = unfinished(path);
    let finished = fill(&unfinished).and_then(|()| {
        fs::rename(&unfinished, path).map_err(|source| Error::File {
            action: "write",
            path: path.into(),
            source,
        })
    });
    if finished.is_err() {
        // What is not there needs no removal.
        let _ = fs::remove_file(&unfinished);
    }
    finished.map_err(|error| match error {
        Error::File {
            action,
            path: at,
            source,
        } if at == unfinished => Error::File {
            action,
            path: path.into(),
            source,
        },
        error => error,
    })
}

/// What a file is called before it is whole.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(UNFINISHED);
    // The extension stays at the end, where ffmpeg looks for the format.
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

/// Creates a folder, and those above it.
///
/// # Errors
/// If the system refuses.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|source| Error::File {
        action: "create",
        path: path.into(),
        source,
    })
}

/// The files directly in a folder, in order; none where there is no folder.
///
/// # Errors
/// If the system refuses.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::File {
        action: "read",
        path: folder.into(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        entries => entries.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Removes what a killed run left unfinished in a folder.
///
/// # Errors
/// If the system refuses.
pub(crate) fn discard_unfinished(folder: &Path) -> Result<()> {
    for path in files(folder)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(UNFINISHED) {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Removes a file.
///
/// # Errors
/// If the system refuses.
pub(crate) fn remove(path: &Path) -> Result<()> {
    fs::remove_file(path).map_err(|source| Error::File {
        action: "remove",
        path: path.into(),
        source,
    })
}
