//! Files that are there whole or not at all.

use std::{fs, path::Path};

use crate::error::{Error, Result};

/// Writes a file aside, then renames it.
///
/// # Errors
/// A file that cannot be written. What was there before is then still whole.
pub(crate) fn replace(path: &Path, contents: impl AsRef<[u8]>) -> Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".partial");
    let aside = Path::new(&aside);
    fs::write(aside, contents).map_err(Error::io("write", aside))?;
    fs::rename(aside, path).map_err(Error::io("write", path))
}
