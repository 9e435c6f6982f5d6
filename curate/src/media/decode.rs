//! The pictures of a file, streamed from ffmpeg.

use std::{
    ffi::OsString,
    io::{self, Read},
    path::PathBuf,
    process::ChildStdout,
    sync::mpsc::{self, Receiver, Sender},
    thread::JoinHandle,
};

use super::{
    Clip, Limits, Picture, Probe, Video,
    picture::length,
    process::{Process, input, read_messages},
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
    /// Planes of the next pictures.
    full: Receiver<io::Result<Vec<u8>>>,
    /// Planes to be filled.
    empty: Sender<Vec<u8>>,
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
        widen(&stdout);
        let (filled, full) = mpsc::channel();
        let (empty, emptied) = mpsc::channel();
        for _ in 0..AHEAD {
            let _ = empty.send(Vec::new()); // as long as both ends are here it arrives
        }
        let bytes = length(video.width, video.height);
        std::thread::spawn(move || read_pictures(stdout, bytes, &emptied, &filled));
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
            full,
            empty,
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
        let next = self.process.expect(|| self.full.recv()).ok();
        let Some(planes) = next.transpose().map_err(|e| self.failed(e))? else {
            return self.finish().map(|()| false);
        };
        let (width, height) = (self.video.width, self.video.height);
        // Only at the end of the file nobody waits for it.
        let _ = self.empty.send(picture.exchange(width, height, planes));
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
        "{trim}scale={width}:{height}{range},format=yuv420p,settb={}/{},showinfo=checksum=0",
        ticks.denominator, ticks.numerator
    );
    let stream = format!("0:{}", video.index);
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-map", &stream, "-vf", &filter, "-fps_mode", "passthrough"]);
    add(&["-f", "yuv4mpegpipe", "pipe:1"]);
    arguments
}

/// The timestamp in a line of ffmpeg's `showinfo`.
pub(super) fn timestamp(line: &str) -> Option<i64> {
    let line = line.strip_prefix("[Parsed_showinfo")?;
    let (_, value) = line.split_once(" pts:")?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

/// Pictures that are read ahead, so that ffmpeg does not wait while one is looked at.
const AHEAD: usize = 2;

/// Reads pictures of `bytes` bytes into the planes that come from `empty` and sends them to `full`,
/// to the end of the stream or until nobody asks for more.
fn read_pictures(
    mut stream: impl Read,
    bytes: usize,
    empty: &Receiver<Vec<u8>>,
    full: &Sender<io::Result<Vec<u8>>>,
) {
    let mut first = true;
    for mut planes in empty {
        planes.resize(bytes, 0);
        let mut read = || {
            // A line comes first, which tells the stream's size and rate: both are known.
            let begun = !std::mem::take(&mut first) || skip_line(&mut stream)?;
            let mut mark = [0; FRAME.len()];
            Ok(begun
                && read_whole(&mut stream, &mut mark)?
                && read_whole(&mut stream, &mut planes)?)
        };
        let picture = match read() {
            Ok(false) => return,
            whole => whole.map(|_| planes),
        };
        let failed = picture.is_err();
        if full.send(picture).is_err() || failed {
            return;
        }
    }
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

/// Asks for a pipe of 1 MiB: with the usual 64 KiB, two processes take turns some fifty times for a
/// picture of 1080p.
#[cfg(target_os = "linux")]
fn widen(pipe: &ChildStdout) {
    // Refused where the user has too many such pipes; slower, not wrong.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, 1 << 20);
}

#[cfg(not(target_os = "linux"))]
fn widen(_pipe: &ChildStdout) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_in_messages() {
        let line =
            "[Parsed_showinfo_3 @ 0x55] [info] n:  11 pts:  11264 pts_time:0.6875 fmt:yuv420p";
        assert_eq!(timestamp(line), Some(11264));
        assert_eq!(
            timestamp("[Parsed_showinfo_3 @ 0x55] [info] n: 0 pts: NOPTS"),
            None
        );
        assert_eq!(
            timestamp("[info]     title : [Parsed_showinfo pts: 3"),
            None
        );
    }
}
