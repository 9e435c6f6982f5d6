//! What a file holds, by ffprobe.

use std::{
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    FrameRate, Limits,
    process::{Process, input, read_messages},
};
use crate::{Error, Result};

/// A file of video or audio.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The file.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// ffmpeg's names of the container format, as in `mov,mp4,m4a,3gp,3g2,mj2`.
    pub format: String,
    /// Seconds, as the container states it.
    pub duration: Option<f64>,
    /// The container's first timestamp in seconds; ffmpeg seeks relative to it.
    pub start: f64,
    /// The first stream of moving pictures (a cover picture is none).
    pub video: Option<Video>,
    /// The first audio stream.
    pub audio: Option<Audio>,
}

/// A stream of pictures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Video {
    /// Number of the stream in the file.
    pub index: u32,
    /// Codec, as in `h264`.
    pub codec: String,
    /// Width in pixels as shown, after rotation.
    pub width: u32,
    /// Height in pixels as shown, after rotation.
    pub height: u32,
    /// Degrees clockwise that players turn the picture by, 0 to 359.
    pub rotation: u32,
    /// ffmpeg's name of the pixel format, as in `yuv420p`.
    pub pixel_format: String,
    /// Luma in 0..=255 instead of 16..=235.
    pub full_range: bool,
    /// The rate by which pictures are numbered: OpenCV's and PySceneDetect's choice.
    pub rate: FrameRate,
    /// The mean rate differs from the nominal one: a sign of a variable rate that not every file
    /// gives.
    pub variable_rate: bool,
    /// What timestamps count: the inverse of ffmpeg's time base.
    pub ticks: FrameRate,
    /// Timestamp at which the stream starts.
    pub start: i64,
    /// Seconds, where the stream states it.
    pub duration: Option<f64>,
    /// Number of pictures, where the container states it.
    pub frames: Option<u64>,
}

/// An audio stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Audio {
    /// Number of the stream in the file.
    pub index: u32,
    /// Codec, as in `aac`.
    pub codec: String,
    /// Samples a second.
    pub sample_rate: Option<u32>,
    /// Channels.
    pub channels: Option<u32>,
}

impl Video {
    /// Seconds from the start of the stream to a timestamp, in whole microseconds as PySceneDetect
    /// has them from OpenCV: the arithmetic is theirs, so that ties fall the same way.
    pub(super) fn micros(&self, timestamp: i64) -> i64 {
        let tick = self.ticks.denominator as f64 / self.ticks.numerator as f64;
        let milliseconds = timestamp.saturating_sub(self.start) as f64 * tick * 1000.0;
        (milliseconds * 1000.0).round_ties_even() as i64
    }
}

impl Probe {
    /// The video stream.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] where the file has none.
    pub fn video(&self) -> Result<&Video> {
        let problem = match self.audio {
            Some(_) => "holds audio but no video",
            None => "holds no video",
        };
        self.video.as_ref().ok_or_else(|| Error::Unusable {
            path: self.path.clone(),
            problem: problem.into(),
        })
    }

    /// Number of pictures, stated or estimated from duration and rate.
    pub fn expected_frames(&self) -> Option<u64> {
        let video = self.video.as_ref()?;
        let estimate = || {
            let seconds = video.duration.or(self.duration)?;
            Some((seconds * video.rate.per_second()).round() as u64)
        };
        video.frames.or_else(estimate)
    }
}

/// Asks ffprobe what `path` holds.
///
/// # Errors
///
/// [`Error::File`] where it cannot be opened, [`Error::Unusable`] with ffprobe's words where it is
/// no media file, or its pictures are larger than `limits` allow.
pub fn probe(path: &Path, limits: &Limits) -> Result<Probe> {
    let metadata = std::fs::metadata(path).map_err(|source| Error::File {
        action: "read",
        path: path.into(),
        source,
    })?;
    let unusable = |problem: String| Error::Unusable {
        path: path.into(),
        problem,
    };
    if !metadata.is_file() {
        return Err(unusable("not a file".into()));
    }
    let options = ["-loglevel", "level+error", "-show_format", "-show_streams"];
    let mut arguments: Vec<_> = options.map(OsString::from).into();
    arguments.extend(["-of", "json"].map(OsString::from));
    arguments.extend(input(path));
    let (process, stdout, stderr) = Process::start("ffprobe", &arguments, limits)?;
    let messages = std::thread::spawn(move || read_messages(stderr, |_| ()));
    let mut json = Vec::new();
    let read = process.expect(|| stdout.take(MAX_REPORT).read_to_end(&mut json));
    let status = process.wait();
    let said = messages.join().unwrap_or_default();
    if process.expired() {
        return Err(unusable("ffprobe took too long and was stopped".into()));
    }
    let failed = |source| Error::File {
        action: "probe",
        path: path.into(),
        source,
    };
    read.map_err(failed)?;
    if !status.map_err(failed)?.success() {
        return Err(unusable(format!("ffprobe says: {said}")));
    }
    let report: Value =
        serde_json::from_slice(&json).map_err(|e| unusable(format!("ffprobe's report: {e}")))?;
    let probe = interpret(path, metadata.len(), &report);
    if let Some(video) = &probe.video {
        limits.check_size(path, video.width, video.height)?;
    }
    Ok(probe)
}

/// Bytes of ffprobe's report that are read; a hostile file can have millions of streams.
const MAX_REPORT: u64 = 16 << 20;

fn interpret(path: &Path, bytes: u64, report: &Value) -> Probe {
    let format = &report["format"];
    let streams = report["streams"].as_array().map_or(&[][..], Vec::as_slice);
    Probe {
        path: path.into(),
        bytes,
        format: text(&format["format_name"]),
        duration: number(&format["duration"]),
        start: number(&format["start_time"]).unwrap_or(0.0),
        video: streams.iter().find_map(video),
        audio: streams.iter().find_map(audio),
    }
}

fn video(stream: &Value) -> Option<Video> {
    if stream["codec_type"] != "video" || stream["disposition"]["attached_pic"] == 1 {
        return None;
    }
    let rate = |key: &str| FrameRate::parse(stream[key].as_str()?);
    let (nominal, mean) = (rate("r_frame_rate"), rate("avg_frame_rate"));
    let side_data = stream["side_data_list"].as_array().into_iter().flatten();
    let turned = side_data
        .filter_map(|data| data["rotation"].as_f64())
        .next();
    // The display matrix turns anticlockwise.
    let rotation = (-turned.unwrap_or(0.0)).rem_euclid(360.0).round() as u32 % 360;
    let size = |key: &str| u32::try_from(stream[key].as_u64()?).ok();
    let (mut width, mut height) = (size("width")?, size("height")?);
    if rotation % 180 == 90 {
        (width, height) = (height, width);
    }
    let time_base = rate("time_base")?;
    let pixel_format = text(&stream["pix_fmt"]);
    Some(Video {
        index: u32::try_from(stream["index"].as_u64()?).ok()?,
        codec: text(&stream["codec_name"]),
        width,
        height,
        rotation,
        full_range: stream["color_range"] == "pc" || pixel_format.starts_with("yuvj"),
        pixel_format,
        rate: opencv_rate(nominal, mean)?.canonical(),
        variable_rate: mean.is_some() && nominal != mean,
        ticks: FrameRate::new(time_base.denominator, time_base.numerator)?,
        start: stream["start_pts"].as_i64().unwrap_or(0),
        duration: number(&stream["duration"]),
        frames: number(&stream["nb_frames"]).map(|frames| frames as u64),
    })
}

/// The rate that `cv2.VideoCapture` reports, which is ffmpeg's `av_guess_frame_rate`: the nominal
/// one, unless it is implausibly high.
fn opencv_rate(nominal: Option<FrameRate>, mean: Option<FrameRate>) -> Option<FrameRate> {
    match (nominal, mean) {
        (Some(nominal), Some(mean)) if nominal.per_second() > 210.0 && mean.per_second() < 70.0 => {
            Some(mean)
        }
        _ => nominal.or(mean),
    }
}

fn audio(stream: &Value) -> Option<Audio> {
    (stream["codec_type"] == "audio").then_some(())?;
    Some(Audio {
        index: u32::try_from(stream["index"].as_u64()?).ok()?,
        codec: text(&stream["codec_name"]),
        sample_rate: number(&stream["sample_rate"]).map(|rate| rate as u32),
        channels: number(&stream["channels"]).map(|channels| channels as u32),
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// A number that ffprobe prints as a number or as text.
fn number(value: &Value) -> Option<f64> {
    let number = value.as_f64().or_else(|| value.as_str()?.parse().ok())?;
    number.is_finite().then_some(number)
}
