//! GIF: 256 colours for each frame, delays in 1/100 s.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use gif::{DecodeOptions, DecodingError, Encoder, EncodingError, Frame, Repeat};
use image::codecs::gif::GifDecoder;
use image::{AnimationDecoder, RgbImage};

use super::images::{flatten, image_error};
use super::output::OutputFile;
use super::palette::quantize;
use super::{DEFAULT_FPS, Error, Result, VideoReader};

pub(super) struct GifWriter {
    path: PathBuf,
    encoder: Encoder<OutputFile>,
    fps: f64,
    frames: u32,
}

impl GifWriter {
    pub(super) fn create(path: &Path, width: u32, height: u32, fps: f64) -> Result<Self> {
        let unwritable = |reason| Error::Unwritable {
            path: path.to_path_buf(),
            reason,
        };
        let (Ok(width), Ok(height)) = (u16::try_from(width), u16::try_from(height)) else {
            return Err(unwritable(format!(
                "GIF ends at 65535x65535 pixels, not {width}x{height}"
            )));
        };
        if fps > 50.0 {
            return Err(unwritable(format!(
                "GIF viewers show at most 50 frames per second, not {fps}; write an mp4 instead"
            )));
        }
        let file = OutputFile::create(path)?;
        let failed = |error| write_error(path, error);
        let mut encoder = Encoder::new(file, width, height, &[]).map_err(failed)?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
        Ok(Self {
            path: path.to_path_buf(),
            encoder,
            fps,
            frames: 0,
        })
    }

    pub(super) fn write(&mut self, frame: &RgbImage) -> Result<()> {
        let (palette, pixels) = quantize(frame);
        // `create` has checked that the size fits.
        let (width, height) = (frame.width() as u16, frame.height() as u16);
        let mut frame = Frame::from_palette_pixels(width, height, pixels, palette, None);
        // Rounding the times, not the delays, keeps the whole length right.
        let time = |frame: u32| (f64::from(frame) * 100.0 / self.fps).round();
        let delay = time(self.frames + 1) - time(self.frames);
        frame.delay = delay as u16;
        self.encoder
            .write_frame(&frame)
            .map_err(|error| write_error(&self.path, error))?;
        self.frames += 1;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<()> {
        let Self { path, encoder, .. } = self;
        let file = encoder
            .into_inner()
            .map_err(|error| write_error(&path, error))?;
        file.commit()
    }
}

fn write_error(path: &Path, error: EncodingError) -> Error {
    let source = match error {
        EncodingError::Io(error) => error,
        error => io::Error::other(error),
    };
    Error::Write {
        path: path.to_path_buf(),
        source,
    }
}

/// Opens a GIF: each picture as it is shown, at the mean frame rate.
pub(super) fn open(path: &Path) -> Result<VideoReader> {
    let failed = |source| Error::Read {
        path: path.to_path_buf(),
        source,
    };
    let file = BufReader::new(File::open(path).map_err(failed)?);
    let fps = mean_fps(path)?;
    let frames = GifDecoder::new(file)
        .map_err(|e| image_error(path, e))?
        .into_frames();
    let path_of_errors = path.to_path_buf();
    let frames = frames.map(move |frame| match frame {
        Ok(frame) => Ok(flatten(&frame.into_buffer())),
        Err(error) => Err(image_error(&path_of_errors, error)),
    });
    VideoReader::new(path, fps, frames)
}

/// Frames per second from the delays, without decoding the pictures.
fn mean_fps(path: &Path) -> Result<f64> {
    let failed = |error: DecodingError| match error {
        DecodingError::Io(source) => Error::Read {
            path: path.to_path_buf(),
            source,
        },
        error => Error::Invalid {
            path: path.to_path_buf(),
            reason: error.to_string(),
        },
    };
    let mut options = DecodeOptions::new();
    options.skip_frame_decoding(true);
    let file = File::open(path).map_err(|e| failed(e.into()))?;
    let mut decoder = options.read_info(BufReader::new(file)).map_err(failed)?;
    let (mut frames, mut hundredths) = (0u32, 0u32);
    while let Some(frame) = decoder.next_frame_info().map_err(failed)? {
        frames += 1;
        hundredths += u32::from(frame.delay);
    }
    if hundredths == 0 {
        return Ok(DEFAULT_FPS);
    }
    Ok(f64::from(frames) * 100.0 / f64::from(hundredths))
}
