//! Still images.

use std::path::Path;

use image::{ImageReader, RgbImage};

use super::Limits;
use crate::{Error, Result};

/// Reads a PNG, JPEG or WebP file, told by its content, as 8-bit RGB; transparency is dropped.
///
/// # Errors
///
/// [`Error::File`] where it cannot be read, [`Error::Unusable`] where it is no such image, is
/// damaged or is larger than `limits` allow.
pub fn still(path: &Path, limits: &Limits) -> Result<RgbImage> {
    let reader = ImageReader::open(path).and_then(ImageReader::with_guessed_format);
    let mut reader = reader.map_err(|source| Error::File {
        action: "read",
        path: path.into(),
        source,
    })?;
    let mut bounds = image::Limits::default();
    bounds.max_alloc = Some(limits.memory);
    reader.limits(bounds);
    let image = reader.decode().map_err(|error| Error::Unusable {
        path: path.into(),
        problem: error.to_string(),
    })?;
    limits.check_size(path, image.width(), image.height())?;
    Ok(image.into_rgb8())
}
