//! Files that are there whole or not at all, and folders that one run has for itself.

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::Path,
};

use crate::error::{Error, Result};

/// Writes a file. When this returns it is on the disk.
///
/// # Errors
/// A file that cannot be written.
pub(crate) fn write(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(contents.as_ref())?;
        file.sync_all()
    };
    write().map_err(Error::io("write", path))
}

/// Writes a file aside, then renames it.
///
/// # Errors
/// A file that cannot be written. What was there before is then still whole.
pub(crate) fn replace(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    replace_with(path, |aside| write(aside, contents))
}

/// Lets `write` write a file aside, which has to be on the disk when it returns, then renames it to
/// `path`.
///
/// # Errors
/// Those of `write`; a file that cannot be renamed. What was there before is then still whole.
pub(crate) fn replace_with(path: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let aside = path.with_extension("partial");
    let written = write(&aside);
    let replaced =
        written.and_then(|()| fs::rename(&aside, path).map_err(Error::io("write", path)));
    replaced.inspect_err(|_| {
        // A full disk needs the room; what is not there needs no removal.
        let _ = fs::remove_file(&aside);
    })
}

/// Keeps other runs out of a folder for as long as what it returns is alive, and no longer, however
/// the program ends. None where the system has no locks for folders.
///
/// # Errors
/// A folder in which another run is at work.
pub(crate) fn claim(folder: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(folder) else {
        return Ok(None);
    };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            let reason =
                "another run is at work in this folder; wait for it, or give another folder";
            Err(Error::file(folder, reason))
        }
        Err(TryLockError::Error(_)) => Ok(None),
    }
}
