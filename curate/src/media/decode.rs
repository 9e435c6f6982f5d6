//! The pictures of a file, streamed from ffmpeg.

use std::{
    ffi::OsString,
    io::{self, Read},
    path::PathBuf,
    sync::mpsc::{self, Receiver},
    thread::JoinHandle,
};

use super::{
    Clip, Limits, Picture, Probe, Video,
    process::{Output, Process, input, read_messages},
};
use crate::{Error, Result};

/// How a file is decoded.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DecodeOptions {
    /// Threads of the decoder; 0 lets ffmpeg choose. Default 0.
    pub threads: usize,
    /// What the file may cost.
    pub limits: Limits,
}

/// The pictures of a file in order of presentation, turned as players show them.
///
/// As an iterator it allocates each picture; [`Decoder::read`] fills one again and again. What can
/// be decoded comes first; then, if ffmpeg met an error anywhere, [`Error::Unusable`] in its words.
pub struct Decoder {
    path: PathBuf,
    video: Video,
    process: Process,
    /// YUV4MPEG2: the pictures.
    stdout: Output,
    /// Timestamps of the pictures, told ahead of them.
    timestamps: Receiver<i64>,
    /// ffmpeg's errors, once it has ended.
    messages: Option<JoinHandle<String>>,
    /// Pictures so far.
    count: u64,
}

impl Decoder {
    /// Starts to decode the video stream.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] where there is none, it is larger than the limits allow, or ffmpeg is
    /// not installed.
    pub fn open(probe: &Probe, options: &DecodeOptions) -> Result<Self> {
        Self::start(probe, None, options)
    }

    /// Starts to decode the pictures of a clip; those before it are passed over, as far as `seek`
    /// allows by means of the file's index. Pictures are numbered from the clip's first.
    ///
    /// # Errors
    ///
    /// As for [`Decoder::open`].
    pub(super) fn open_clip(
        probe: &Probe,
        clip: &Clip,
        seek: bool,
        options: &DecodeOptions,
    ) -> Result<Self> {
        Self::start(probe, Some((clip, seek)), options)
    }

    fn start(probe: &Probe, clip: Option<(&Clip, bool)>, options: &DecodeOptions) -> Result<Self> {
        let video = probe.video()?.clone();
        let limits = &options.limits;
        limits.check_size(&probe.path, video.width, video.height)?;
        let arguments = arguments(probe, &video, clip, options.threads);
        let (process, stdout, stderr) = Process::start("ffmpeg", &arguments, limits)?;
        let (sender, timestamps) = mpsc::channel();
        let messages = std::thread::spawn(move || {
            read_messages(stderr, |line| {
                if let Some(timestamp) = timestamp(line) {
                    let _ = sender.send(timestamp); // nobody listens once the decoder is dropped
                }
            })
        });
        Ok(Self {
            path: probe.path.clone(),
            video,
            process,
            stdout,
            timestamps,
            messages: Some(messages),
            count: 0,
        })
    }

    /// Reads the next picture into `picture`, whose memory is used again; false at the end.
    ///
    /// # Errors
    ///
    /// [`Error::Unusable`] at the end, where ffmpeg met an error or was stopped by a limit.
    pub fn read(&mut self, picture: &mut Picture) -> Result<bool> {
        if self.messages.is_none() {
            return Ok(false);
        }
        let planes = picture.resize(self.video.width, self.video.height);
        let (stdout, first) = (&mut self.stdout, self.count == 0);
        let whole = self.process.expect(|| read_picture(stdout, first, planes));
        if !whole.map_err(|error| self.failed(error))? {
            return self.finish().map(|()| false);
        }
        // The line that tells a picture's time is written before the picture.
        let timestamp = self.process.expect(|| self.timestamps.recv()).ok();
        picture.index = self.count;
        picture.time = self.micros(timestamp) as f64 / 1e6;
        self.count += 1;
        Ok(true)
    }

    /// Microseconds of the next picture; by its number where the file does not say, and where
    /// PySceneDetect would do so.
    fn micros(&self, timestamp: Option<i64>) -> i64 {
        let stated = timestamp.map(|timestamp| self.video.micros(timestamp));
        let counted = self.count as f64 / self.video.rate.per_second() * 1e6;
        stated
            .filter(|&micros| micros > 0)
            .unwrap_or(counted.round_ties_even() as i64)
    }

    /// Ends ffmpeg; its errors, if any.
    fn finish(&mut self) -> Result<()> {
        let status = self.process.wait();
        let messages = self.messages.take().map(JoinHandle::join);
        let said = messages.and_then(Result::ok).unwrap_or_default();
        let count = self.count;
        let problem = if self.process.expired() {
            format!("ffmpeg took too long after {count} pictures and was stopped; {said}")
        } else if !said.is_empty() {
            format!("ffmpeg decoded {count} pictures and says: {said}")
        } else if !status.map_err(|e| self.failed(e))?.success() {
            format!("ffmpeg ended early, after {count} pictures")
        } else if count == 0 {
            "holds no pictures".into()
        } else {
            return Ok(());
        };
        let path = self.path.clone();
        Err(Error::Unusable { path, problem })
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::File {
            action: "decode",
            path: self.path.clone(),
            source,
        }
    }
}

impl Iterator for Decoder {
    type Item = Result<Picture>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut picture = Picture::default();
        match self.read(&mut picture) {
            Ok(true) => Some(Ok(picture)),
            Ok(false) => None,
            Err(error) => {
                self.messages = None;
                Some(Err(error))
            }
        }
    }
}

/// What stands before each picture in YUV4MPEG2.
const FRAME: &str = "FRAME\n";

/// ffmpeg's arguments: pictures of yuv420p to its output, the time of each to its messages.
///
/// They come as YUV4MPEG2 to spare the copy that `rawvideo` makes, and the filters, which have
/// nothing to do as a rule, get one thread; what either saves is within the noise of what was
/// measured.
fn arguments(
    probe: &Probe,
    video: &Video,
    clip: Option<(&Clip, bool)>,
    threads: usize,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-nostdin", "-hide_banner", "-nostats"]);
    add(&["-loglevel", "level+info", "-copyts"]);
    add(&["-threads", &threads.to_string(), "-filter_threads", "1"]);
    let mut trim = String::new();
    if let Some((clip, seek)) = clip {
        let (start, end) = clip.in_file(video);
        if seek && start > probe.start {
            add(&["-ss", &format!("{:.6}", start - probe.start)]);
        }
        trim = format!("trim=start={start:.6}:end={end:.6},");
    }
    arguments.extend(input(&probe.path));
    let Video { width, height, .. } = video;
    // A stream may change its size on the way; the pictures sent here may not.
    let range = if video.full_range {
        ":out_range=tv"
    } else {
        ""
    };
    let ticks = video.ticks;
    let filter = format!(
        "{trim}scale={width}:{height}{range},format=yuv420p,settb={}/{},{TELL_TIME}",
        ticks.denominator, ticks.numerator
    );
    let stream = format!("0:{}", video.index);
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-map", &stream, "-vf", &filter, "-fps_mode", "passthrough"]);
    add(&["-f", "yuv4mpegpipe", "pipe:1"]);
    arguments
}

/// A filter that passes every picture and writes its timestamp to ffmpeg's messages. `showinfo` would
/// do as well, in some forty writes a picture, each of which wakes a thread here.
pub(super) const TELL_TIME: &str = "select='1+0*print(pts)'";

/// The timestamp in a line that [`TELL_TIME`] wrote: a whole number with zeros as decimals.
pub(super) fn timestamp(line: &str) -> Option<i64> {
    let (_, value) = line.split_once("[info] ")?;
    value.strip_suffix(".000000")?.parse().ok()
}

/// Fills `planes` with the next picture, which may be the `first`; false at the end of the stream.
fn read_picture(stream: &mut impl Read, first: bool, planes: &mut [u8]) -> io::Result<bool> {
    // A line comes first, which tells the stream's size and rate: both are known.
    let begun = !first || skip_line(stream)?;
    let mut mark = [0; FRAME.len()];
    Ok(begun && read_whole(stream, &mut mark)? && read_whole(stream, planes)?)
}

/// Fills `bytes`; false at the end of the stream, where a last part is left out.
fn read_whole(stream: &mut impl Read, bytes: &mut [u8]) -> io::Result<bool> {
    match stream.read_exact(bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        result => result.map(|()| true),
    }
}

/// Reads up to and with the end of a line; false at the end of the stream.
fn skip_line(stream: &mut impl Read) -> io::Result<bool> {
    let mut byte = [0];
    while read_whole(stream, &mut byte)? {
        if byte == *b"\n" {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_in_messages() {
        assert_eq!(timestamp("[info] 11264.000000"), Some(11264));
        assert_eq!(
            timestamp("[Eval @ 0x7ffd4bbc] [info] -512.000000"),
            Some(-512)
        );
        assert_eq!(timestamp("[info] nan"), None);
        assert_eq!(timestamp("[info]     title : [info] 3.000000"), None);
    }
}
