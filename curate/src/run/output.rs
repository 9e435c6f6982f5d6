//! Files that appear under their names only when they are whole.

use std::{
    fs::{self, File, TryLockError},
    io,
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
        // A name can outlive a power failure that its contents do not: they have to be there first.
        let synced = File::options().write(true).open(&unfinished);
        let synced = synced.and_then(|file| file.sync_all());
        let renamed = synced.and_then(|()| fs::rename(&unfinished, path));
        renamed.map_err(|source| Error::File {
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

/// Keeps other runs out of a folder for as long as what it returns is alive, and no longer, however the
/// program ends. None where the system has no locks for folders.
///
/// # Errors
/// [`Error::Request`] where another run is at work in it.
pub(crate) fn claim(folder: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(folder) else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(Error::Request(format!(
            "another run is at work in {}; wait for it, or name another folder",
            folder.display()
        ))),
        Err(TryLockError::Error(_)) => Ok(None),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn a_folder_has_one_claim_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = claim(folder.path()).unwrap();
        assert!(first.is_some());
        let refused = claim(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("another run is at work"), "{refused}");
        drop(first);
        assert!(claim(folder.path()).unwrap().is_some());
    }
}
