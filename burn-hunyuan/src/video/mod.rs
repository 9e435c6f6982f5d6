//! Video files in and out, frame by frame.
//!
//! | path | written as | read by |
//! | --- | --- | --- |
//! | `cat.mp4` | H.264 (4:2:0, BT.709, limited range) | the built-in decoder, else `ffmpeg` |
//! | `cat.gif` | GIF that loops forever | the built-in decoder |
//! | `frames/`, `frames` | folder of `00000.png`, `00001.png`, … | images of a folder in natural order |
//! | `cat.png` | one frame: that file; more: `cat-00000.png`, … | a video of one frame |
//! | `cat-%04d.png` | numbered files | |
//! | anything else | | `ffmpeg`, where it is on the `PATH` |
//!
//! Nothing appears at the target before [`VideoWriter::finish`]: frames go to a temporary name
//! beside it, which is removed when the writer is dropped early.
//!
//! ```no_run
//! use burn_hunyuan::video::{self, Quality, VideoWriter};
//!
//! # fn main() -> Result<(), video::Error> {
//! let input = video::open("cat.mp4".as_ref())?;
//! let (width, height, fps) = (input.width, input.height, input.fps);
//! let mut output = VideoWriter::create("cat.gif".as_ref(), width, height, fps, Quality::default())?;
//! for frame in input {
//!     output.write(&frame?)?;
//! }
//! output.finish()
//! # }
//! ```

mod color;
mod ffmpeg;
mod gif;
mod images;
mod mp4;
mod output;
mod palette;

use std::path::{Path, PathBuf};

pub use image::RgbImage;
pub(crate) use output::OutputFile;
pub use output::discard_unfinished;

/// The frame rate HunyuanVideo is trained at, and the one assumed for still images.
pub const DEFAULT_FPS: f64 = 24.0;

/// What can go wrong with a video file.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system refused to write.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The target, not its temporary name.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file system refused to read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The target cannot hold this video.
    #[error("cannot write {}: {reason}", path.display())]
    Unwritable {
        /// The target.
        path: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The file is damaged or not what its name says.
    #[error("cannot read {}: {reason}", path.display())]
    Invalid {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The built-in decoders do not read this file, and there is no `ffmpeg` to ask.
    #[error(
        "cannot read {} without ffmpeg: {reason}; install ffmpeg so that it is on the PATH, \
         or convert the file to an H.264 mp4, a GIF or a folder of PNG files",
        path.display()
    )]
    NeedsFfmpeg {
        /// The file.
        path: PathBuf,
        /// Why the built-in decoders do not read it.
        reason: String,
    },
    /// A frame differs in size from the video.
    #[error(
        "{}: frame {index} has {}x{} pixels, the video {}x{}",
        path.display(), got.0, got.1, expected.0, expected.1
    )]
    FrameSize {
        /// The video.
        path: PathBuf,
        /// The frame's number from 0.
        index: usize,
        /// The frame's width and height.
        got: (u32, u32),
        /// The video's width and height.
        expected: (u32, u32),
    },
}

/// A result of this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Quality of lossy video from 0 (smallest file) to 100 (nearly lossless); GIF and PNG ignore it.
///
/// It sets a constant quantiser, `51 − 0.43 · quality` rounded and at least 12, so quality does
/// not depend on the content; the file's size does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quality(pub u8);

impl Default for Quality {
    fn default() -> Self {
        Self(75)
    }
}

/// Writes a video, one frame at a time, in the format that the path's extension names
/// (see the [module](self)).
pub struct VideoWriter {
    path: PathBuf,
    size: (u32, u32),
    frames: usize,
    format: Format,
}

enum Format {
    Mp4(Box<mp4::Mp4Writer>),
    Gif(gif::GifWriter),
    Png(images::PngWriter),
}

impl VideoWriter {
    /// Starts a video of `width` x `height` pixels at `fps` frames per second.
    ///
    /// # Errors
    /// When the format is unknown, cannot hold this size or rate, or the folder is not writable.
    pub fn create(
        path: &Path,
        width: u32,
        height: u32,
        fps: f64,
        quality: Quality,
    ) -> Result<Self> {
        let unwritable = |reason: &str| {
            Err(Error::Unwritable {
                path: path.to_path_buf(),
                reason: reason.into(),
            })
        };
        if width == 0 || height == 0 {
            return unwritable("the video has no pixels");
        }
        if !(fps.is_finite() && fps > 0.0 && fps <= 1000.0) {
            return unwritable("the frame rate must lie between 0 and 1000 frames per second");
        }
        let format = match extension(path).as_deref() {
            _ if path.is_dir() => Format::Png(images::PngWriter::folder(path)?),
            None => Format::Png(images::PngWriter::folder(path)?),
            Some("png") => Format::Png(images::PngWriter::files(path)?),
            Some("gif") => Format::Gif(gif::GifWriter::create(path, width, height, fps)?),
            Some("mp4") => Format::Mp4(Box::new(mp4::Mp4Writer::create(
                path, width, height, fps, quality,
            )?)),
            Some(other) => {
                return unwritable(&format!(
                    ".{other} is not a format this program writes; use .mp4, .gif or .png, \
                     or a name without an extension for a folder of PNG files"
                ));
            }
        };
        Ok(Self {
            path: path.to_path_buf(),
            size: (width, height),
            frames: 0,
            format,
        })
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// When the frame's size is not the video's, or it cannot be written.
    pub fn write(&mut self, frame: &RgbImage) -> Result<()> {
        check_size(&self.path, self.frames, frame, self.size)?;
        match &mut self.format {
            Format::Mp4(mp4) => mp4.write(frame)?,
            Format::Gif(gif) => gif.write(frame)?,
            Format::Png(png) => png.write(frame)?,
        }
        self.frames += 1;
        Ok(())
    }

    /// Completes the video and gives it its name.
    ///
    /// # Errors
    /// When there are no frames, or the rest cannot be written.
    pub fn finish(self) -> Result<()> {
        if self.frames == 0 {
            return Err(Error::Unwritable {
                path: self.path,
                reason: "it has no frames".into(),
            });
        }
        match self.format {
            Format::Mp4(mp4) => mp4.finish(),
            Format::Gif(gif) => gif.finish(),
            Format::Png(png) => png.finish(),
        }
    }
}

/// A video being read: an iterator of frames of one size. It ends after the first error.
pub struct VideoReader {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames per second, the average where they vary; [`DEFAULT_FPS`] for still images.
    pub fps: f64,
    path: PathBuf,
    index: usize,
    first: Option<RgbImage>,
    rest: Box<dyn Iterator<Item = Result<RgbImage>>>,
}

/// Opens a video file, an image, or a folder of images.
///
/// Transparency is blended over black. An mp4 that does not say its colour matrix is taken as
/// BT.601, as `ffmpeg` does.
///
/// # Errors
/// When it cannot be read or has no frames.
pub fn open(path: &Path) -> Result<VideoReader> {
    let metadata = std::fs::metadata(path).map_err(|source| Error::Read {
        path: path.to_path_buf(),
        source,
    })?;
    if metadata.is_dir() {
        return images::open_folder(path);
    }
    match extension(path).as_deref() {
        Some("mp4" | "m4v" | "mov") => match mp4::open(path) {
            Err(Error::NeedsFfmpeg { reason, .. }) => ffmpeg::open(path, &reason),
            result => result,
        },
        Some("gif") => gif::open(path),
        Some(name) if images::EXTENSIONS.contains(&name) => images::open_still(path),
        _ => ffmpeg::open(path, "its format is none of mp4, GIF and PNG"),
    }
}

impl VideoReader {
    /// Reads the first frame of `frames` to learn the size.
    fn new(
        path: &Path,
        fps: f64,
        mut frames: impl Iterator<Item = Result<RgbImage>> + 'static,
    ) -> Result<Self> {
        let first = frames.next().unwrap_or_else(|| {
            Err(Error::Invalid {
                path: path.to_path_buf(),
                reason: "it has no frames".into(),
            })
        })?;
        Ok(Self {
            width: first.width(),
            height: first.height(),
            fps,
            path: path.to_path_buf(),
            index: 0,
            first: Some(first),
            rest: Box::new(frames),
        })
    }
}

impl Iterator for VideoReader {
    type Item = Result<RgbImage>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        self.index += 1;
        let frame = self.rest.next()?.and_then(|frame| {
            check_size(&self.path, self.index, &frame, (self.width, self.height))?;
            Ok(frame)
        });
        if frame.is_err() {
            self.rest = Box::new(std::iter::empty());
        }
        Some(frame)
    }
}

/// The frame of planar RGB values in [0, 1] (`[3, height, width]`), rounded to the nearest of 255
/// steps, half away from zero; values outside are clamped and NaN becomes 0.
///
/// # Errors
/// `None` when `values` does not have `3 · width · height` elements.
pub fn frame_from_planar(values: &[f32], width: u32, height: u32) -> Option<RgbImage> {
    let pixels = width as usize * height as usize;
    if values.len() != 3 * pixels {
        return None;
    }
    let byte = |v: f32| (v.clamp(0.0, 1.0) * 255.0).round() as u8;
    let mut rgb = Vec::with_capacity(3 * pixels);
    for i in 0..pixels {
        rgb.extend([values[i], values[pixels + i], values[2 * pixels + i]].map(byte));
    }
    RgbImage::from_raw(width, height, rgb)
}

/// The extension in lower case; none for a path that ends in a separator.
fn extension(path: &Path) -> Option<String> {
    let text = path.as_os_str().to_string_lossy();
    if text.ends_with(std::path::is_separator) {
        return None;
    }
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

fn check_size(path: &Path, index: usize, frame: &RgbImage, expected: (u32, u32)) -> Result<()> {
    if frame.dimensions() != expected {
        let (path, got) = (path.to_path_buf(), frame.dimensions());
        return Err(Error::FrameSize {
            path,
            index,
            got,
            expected,
        });
    }
    Ok(())
}
