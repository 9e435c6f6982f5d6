//! Reads what the built-in decoders do not through an installed `ffmpeg`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use image::RgbImage;

use super::{Error, Result, VideoReader};

/// Opens any video that ffmpeg reads; `reason` says why the built-in decoders do not.
pub(super) fn open(path: &Path, reason: &str) -> Result<VideoReader> {
    let missing = |error: io::Error| {
        let path = path.to_path_buf();
        match error.kind() {
            io::ErrorKind::NotFound => Error::NeedsFfmpeg {
                path,
                reason: reason.into(),
            },
            _ => Error::Read {
                path,
                source: error,
            },
        }
    };
    let rate = frame_rate(path).map_err(missing)?;
    let fps = rate
        .as_deref()
        .and_then(parse_rate)
        .unwrap_or(super::DEFAULT_FPS);
    let errors = tempfile::tempfile().map_err(missing)?;
    let mut command = Command::new("ffmpeg");
    command
        .args(["-nostdin"])
        .args(INPUT)
        .arg(input(path))
        .args(["-map", "0:v:0"]);
    if let Some(rate) = &rate {
        command.args(["-r", rate]); // a constant rate where the file's varies
    }
    // Each picture as a PPM image says its size itself, after any rotation.
    command.args(["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "-"]);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(errors.try_clone().map_err(missing)?)
        .spawn()
        .map_err(missing)?;
    let stdout = child.stdout.take().map(BufReader::new);
    let frames = Frames {
        path: path.to_path_buf(),
        child,
        stdout,
        errors,
    };
    VideoReader::new(path, fps, frames)
}

/// Quiet but for errors, and no protocol that leaves the machine.
const INPUT: [&str; 5] = ["-v", "error", "-protocol_whitelist", "file", "-i"];

/// The path as ffmpeg takes it literally.
fn input(path: &Path) -> std::ffi::OsString {
    let mut input = std::ffi::OsString::from("file:");
    input.push(path);
    input
}

/// The mean frame rate as a fraction, from `ffprobe`; `None` when it knows none.
fn frame_rate(path: &Path) -> io::Result<Option<String>> {
    let output = Command::new("ffprobe")
        .args([
            "-select_streams",
            "v:0",
            "-show_entries",
            "stream=avg_frame_rate",
        ])
        .args(["-of", "default=noprint_wrappers=1:nokey=1"])
        .args(INPUT)
        .arg(input(path))
        .stdin(Stdio::null())
        .output()?;
    let rate = String::from_utf8_lossy(&output.stdout)
        .lines()
        .next()
        .unwrap_or("")
        .to_string();
    Ok(parse_rate(&rate).map(|_| rate))
}

fn parse_rate(rate: &str) -> Option<f64> {
    let (frames, seconds) = rate.trim().split_once('/')?;
    let rate = frames.parse::<f64>().ok()? / seconds.parse::<f64>().ok()?;
    (rate.is_finite() && rate > 0.0).then_some(rate)
}

/// The pictures of a running ffmpeg, which ends with this.
struct Frames {
    path: PathBuf,
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    errors: File,
}

impl Frames {
    /// What ffmpeg said, once it has ended without success.
    fn check_exit(&mut self) -> Result<()> {
        let status = self.child.wait().map_err(|e| self.failed(e))?;
        if status.success() {
            return Ok(());
        }
        let mut said = Vec::new();
        self.errors
            .rewind()
            .and_then(|()| (&mut self.errors).take(2000).read_to_end(&mut said))
            .map_err(|e| self.failed(e))?;
        let reason = format!("ffmpeg says: {}", String::from_utf8_lossy(&said).trim());
        Err(Error::Invalid {
            path: self.path.clone(),
            reason,
        })
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Read {
            path: self.path.clone(),
            source,
        }
    }
}

impl Iterator for Frames {
    type Item = Result<RgbImage>;

    fn next(&mut self) -> Option<Self::Item> {
        match read_ppm(self.stdout.as_mut()?) {
            Ok(Some(frame)) => Some(Ok(frame)),
            Ok(None) => {
                self.stdout = None;
                self.check_exit().err().map(Err)
            }
            Err(error) => Some(Err(self.failed(error))),
        }
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        // Both fail only when it has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A binary PPM image with 8 bits, as ffmpeg writes it: `P6\nWIDTH HEIGHT\n255\n` and the pixels.
fn read_ppm(stream: &mut impl BufRead) -> io::Result<Option<RgbImage>> {
    let mut header = Vec::new();
    for _ in 0..3 {
        stream.read_until(b'\n', &mut header)?;
    }
    if header.is_empty() {
        return Ok(None);
    }
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "ffmpeg sent no PPM image");
    let header = String::from_utf8(header).map_err(|_| damaged())?;
    let mut words = header.split_ascii_whitespace();
    let (Some("P6"), Some(width), Some(height), Some("255")) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(damaged());
    };
    let (width, height): (u32, u32) = (
        width.parse().map_err(|_| damaged())?,
        height.parse().map_err(|_| damaged())?,
    );
    let mut image = RgbImage::new(width, height);
    stream.read_exact(&mut image)?;
    Ok(Some(image))
}
