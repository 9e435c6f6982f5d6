//! Output that appears under its name only when it is complete.

use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempPath;

use super::{Error, Result};

/// Temporary files and folders, those of finished outputs included: they are gone by then.
static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Removes what unfinished outputs have written so far, for a program that is about to exit
/// without dropping them.
pub fn discard_unfinished() {
    let paths = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
    for path in paths.iter() {
        // Whatever is gone already needs no removal.
        let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
    }
}

/// Remembers a temporary file or folder for [`discard_unfinished`].
pub(super) fn remember(path: &Path) {
    let mut paths = TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner);
    paths.push(path.to_path_buf());
}

/// A file under a temporary name in the target's folder, removed when dropped before
/// [`commit`](Self::commit).
pub(crate) struct OutputFile {
    target: PathBuf,
    file: BufWriter<File>,
    waiting: TempPath,
}

impl OutputFile {
    pub(crate) fn create(target: &Path) -> Result<Self> {
        let failed = |source| Error::Write {
            path: target.to_path_buf(),
            source,
        };
        // A device or pipe must not be replaced by a file, nor a link by its target.
        let target = match fs::metadata(target) {
            Ok(metadata) if !metadata.is_file() => {
                return Err(failed(io::Error::other(
                    "it exists and is not a regular file",
                )));
            }
            Ok(_) => fs::canonicalize(target).map_err(failed)?,
            Err(_) => target.to_path_buf(),
        };
        check_folder(&target, parent(&target))?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".burn-hunyuan-").suffix(".partial");
        #[cfg(unix)] // as for any new file; the crate's default is private to the user
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let (file, waiting) = builder
            .tempfile_in(parent(&target))
            .map_err(failed)?
            .into_parts();
        remember(&waiting);
        Ok(Self {
            target,
            file: BufWriter::new(file),
            waiting,
        })
    }

    pub(crate) fn error(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.target.clone(),
            source,
        }
    }

    /// Moves the complete file to its target, replacing what was there.
    pub(crate) fn commit(self) -> Result<()> {
        let Self {
            target,
            file,
            waiting,
        } = self;
        let complete = || {
            // A full disk may show only when all is written.
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync_all()?;
            waiting.persist(&target).map_err(|e| e.error)
        };
        complete().map_err(|source| Error::Write {
            path: target.clone(),
            source,
        })
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for OutputFile {
    fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
        self.file.seek(position)
    }
}

/// Says so where the folder for `target` does not exist; the system would name a temporary file.
pub(super) fn check_folder(target: &Path, folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let reason = format!("there is no folder {}; create it first", folder.display());
    Err(Error::Unwritable {
        path: target.to_path_buf(),
        reason,
    })
}

/// The folder that holds `path`.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
