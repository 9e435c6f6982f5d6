//! Still images: single files, and folders of numbered frames.

use std::cmp::Ordering;
use std::fs;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder, ImageError, ImageReader, RgbImage, RgbaImage};
use tempfile::TempDir;

use super::output::{check_folder, parent, remember};
use super::{DEFAULT_FPS, Error, Result, VideoReader};

/// The images this program reads, by extension.
pub(super) const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

/// Writes PNG files; they wait in a temporary folder until [`finish`](Self::finish).
pub(super) struct PngWriter {
    path: PathBuf,
    folder: PathBuf,
    /// Number of a frame to the name of its file.
    name: Name,
    waiting: TempDir,
    frames: usize,
}

enum Name {
    /// The stem goes before the number.
    Numbered(String),
    /// Before and after the number, and its least number of digits.
    Pattern(String, String, usize),
}

impl PngWriter {
    /// `00000.png`, `00001.png`, … in a new or empty folder.
    pub(super) fn folder(path: &Path) -> Result<Self> {
        let unwritable = |reason: &str| {
            Err(Error::Unwritable {
                path: path.to_path_buf(),
                reason: reason.into(),
            })
        };
        if path.exists() && !path.is_dir() {
            return unwritable(
                "it exists and is not a folder; add .mp4, .gif or .png, or choose another name",
            );
        }
        if !is_empty(path) {
            return unwritable("the folder is not empty; choose another or remove it");
        }
        Self::new(
            path,
            path,
            parent(path),
            Name::Pattern(String::new(), ".png".into(), 5),
        )
    }

    /// The file `path` for one frame, numbered files beside it for more. A number such as `%04d`
    /// in the name is replaced by the frame's.
    pub(super) fn files(path: &Path) -> Result<Self> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let name = match pattern(&stem) {
            Some((before, after, digits)) => {
                Name::Pattern(before.into(), format!("{after}.png"), digits)
            }
            None => Name::Numbered(stem.into_owned()),
        };
        let folder = parent(path);
        Self::new(
            path,
            folder,
            if folder.exists() {
                folder
            } else {
                parent(folder)
            },
            name,
        )
    }

    /// `beside` is a folder on the file system of `folder`, which may not exist yet.
    fn new(path: &Path, folder: &Path, beside: &Path, name: Name) -> Result<Self> {
        check_folder(path, beside)?;
        let waiting = tempfile::Builder::new()
            .prefix(".burn-hunyuan-")
            .tempdir_in(beside)
            .map_err(|source| Error::Write {
                path: path.to_path_buf(),
                source,
            })?;
        remember(waiting.path());
        let (path, folder) = (path.to_path_buf(), folder.to_path_buf());
        Ok(Self {
            path,
            folder,
            name,
            waiting,
            frames: 0,
        })
    }

    pub(super) fn write(&mut self, frame: &RgbImage) -> Result<()> {
        let failed = |source| Error::Write {
            path: self.path.clone(),
            source,
        };
        let file = fs::File::create(self.waiting_path(self.frames)).map_err(failed)?;
        let mut file = BufWriter::new(file);
        PngEncoder::new(&mut file)
            .write_image(
                frame,
                frame.width(),
                frame.height(),
                ExtendedColorType::Rgb8,
            )
            .map_err(|error| match error {
                ImageError::IoError(source) => failed(source),
                error => failed(io::Error::other(error)),
            })?;
        file.into_inner()
            .map_err(|e| failed(e.into_error()))?
            .sync_all()
            .map_err(failed)?;
        self.frames += 1;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<()> {
        let failed = |source| Error::Write {
            path: self.path.clone(),
            source,
        };
        fs::create_dir_all(&self.folder).map_err(failed)?;
        for frame in 0..self.frames {
            let target = self.folder.join(self.name.of(frame, self.frames));
            fs::rename(self.waiting_path(frame), target).map_err(failed)?;
        }
        Ok(())
    }

    fn waiting_path(&self, frame: usize) -> PathBuf {
        self.waiting.path().join(frame.to_string())
    }
}

impl Name {
    fn of(&self, frame: usize, frames: usize) -> String {
        match self {
            Self::Numbered(stem) if frames == 1 => format!("{stem}.png"),
            Self::Numbered(stem) => format!("{stem}-{frame:05}.png"),
            Self::Pattern(before, after, digits) => format!("{before}{frame:0digits$}{after}"),
        }
    }
}

/// Splits at `%d` or `%0Nd`.
fn pattern(stem: &str) -> Option<(&str, &str, usize)> {
    let (before, rest) = stem.split_once('%')?;
    let (digits, after) = rest.split_once('d')?;
    let digits = if digits.is_empty() {
        0
    } else {
        digits.strip_prefix('0')?.parse().ok()?
    };
    (digits <= 9).then_some((before, after, digits))
}

/// Whether there is nothing at `path`, or an empty folder.
fn is_empty(path: &Path) -> bool {
    match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Opens an image as a video of one frame.
pub(super) fn open_still(path: &Path) -> Result<VideoReader> {
    VideoReader::new(path, DEFAULT_FPS, std::iter::once(read(path)))
}

/// Opens the images of a folder in natural order (`2.png` before `10.png`).
pub(super) fn open_folder(path: &Path) -> Result<VideoReader> {
    let failed = |source| Error::Read {
        path: path.to_path_buf(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let hidden = file
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let known = super::extension(&file).is_some_and(|e| EXTENSIONS.contains(&e.as_str()));
        if known && !hidden && file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        let reason = format!("the folder holds no images ({})", EXTENSIONS.join(", "));
        return Err(Error::Invalid {
            path: path.to_path_buf(),
            reason,
        });
    }
    files.sort_by(|a, b| natural_order(&a.to_string_lossy(), &b.to_string_lossy()));
    VideoReader::new(path, DEFAULT_FPS, files.into_iter().map(|file| read(&file)))
}

fn read(path: &Path) -> Result<RgbImage> {
    let failed = |source| Error::Read {
        path: path.to_path_buf(),
        source,
    };
    let reader = ImageReader::open(path).map_err(failed)?;
    // The content counts, not the extension.
    let reader = reader.with_guessed_format().map_err(failed)?;
    let image = reader.decode().map_err(|e| image_error(path, e))?;
    Ok(if image.color().has_alpha() {
        flatten(&image.into_rgba8())
    } else {
        image.into_rgb8()
    })
}

pub(super) fn image_error(path: &Path, error: ImageError) -> Error {
    let path = path.to_path_buf();
    match error {
        ImageError::IoError(source) => Error::Read { path, source },
        error => Error::Invalid {
            path,
            reason: error.to_string(),
        },
    }
}

/// Blends over black.
pub(super) fn flatten(image: &RgbaImage) -> RgbImage {
    let mut opaque = RgbImage::new(image.width(), image.height());
    for (pixel, blended) in image.pixels().zip(opaque.pixels_mut()) {
        let [r, g, b, alpha] = pixel.0.map(u16::from);
        blended.0 = [r, g, b].map(|c| ((c * alpha + 127) / 255) as u8);
    }
    opaque
}

/// Compares text with its numbers by value.
fn natural_order(a: &str, b: &str) -> Ordering {
    let (mut left, mut right) = (a, b);
    loop {
        let (x, y) = (chunk(&mut left), chunk(&mut right));
        if x.is_empty() && y.is_empty() {
            return a.cmp(b); // equal but for leading zeros
        }
        let numbers = x.starts_with(|c: char| c.is_ascii_digit())
            && y.starts_with(|c: char| c.is_ascii_digit());
        let order = if numbers {
            let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            x.len().cmp(&y.len()).then(x.cmp(y))
        } else {
            x.cmp(y)
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Takes the digits, or what is before the next digit, from the front of `text`.
fn chunk<'a>(text: &mut &'a str) -> &'a str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text
        .find(|c: char| c.is_ascii_digit() != digits)
        .unwrap_or(text.len());
    let (chunk, rest) = text.split_at(end);
    *text = rest;
    chunk
}
