//! Clips cut out of a file, exact to the picture.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{
    Clip, Limits, Probe, Video,
    clip::SLACK,
    decode::{TELL_TIME, timestamp},
    process::{Process, input, read_messages},
};
use crate::{Error, Result, run::output};

/// A rectangle of the picture as shown, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crop {
    /// Left edge.
    pub x: u32,
    /// Upper edge.
    pub y: u32,
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

/// How clips are written. The defaults are those of PySceneDetect's `split-video`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CutOptions {
    /// x264's quality: 0 is lossless, 51 the worst. Default 22.
    pub crf: u8,
    /// x264's preset, from `ultrafast` to `veryslow`. Default `veryfast`.
    pub preset: String,
    /// Keep the sound. Default true.
    pub audio: bool,
    /// What a clip may cost.
    pub limits: Limits,
}

impl Default for CutOptions {
    fn default() -> Self {
        Self {
            crf: 22,
            preset: "veryfast".into(),
            audio: true,
            limits: Limits::default(),
        }
    }
}

/// Writes `clip` to `out` as H.264 in MP4, cut down to `crop` and to even sizes.
///
/// The pictures are counted on their way, and the first one's time is compared: a clip with a
/// neighbour's picture, or without one of its own, is an error and no file. `out` appears when it
/// is whole; what a killed program left beside it, the next cut to `out` takes away.
///
/// # Errors
///
/// [`Error::Unusable`] where the pictures are not those of the clip or ffmpeg fails,
/// [`Error::File`] where `out` cannot be written.
pub fn cut(
    probe: &Probe,
    clip: &Clip,
    crop: Option<Crop>,
    out: &Path,
    options: &CutOptions,
) -> Result<()> {
    output::write_with(out, |unfinished| {
        // From the key picture before the clip. Where an index misleads, from the start of the file.
        match write(probe, clip, crop, unfinished, options, true) {
            Err(Error::Unusable { .. }) => write(probe, clip, crop, unfinished, options, false),
            result => result,
        }
    })
}

fn write(
    probe: &Probe,
    clip: &Clip,
    crop: Option<Crop>,
    out: &Path,
    options: &CutOptions,
    seek: bool,
) -> Result<()> {
    let failed = |source| Error::File {
        action: "write",
        path: out.into(),
        source,
    };
    let mut file = File::create(out).map_err(failed)?;
    let video = probe.video()?;
    let arguments = arguments(probe, video, clip, crop, out, options, seek);
    let unusable = |problem: String| Error::Unusable {
        path: probe.path.clone(),
        problem,
    };
    let (process, mut stdout, stderr) = Process::start("ffmpeg", &arguments, &options.limits)?;
    let (mut count, mut first) = (0, None);
    let messages = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            read_messages(stderr, |line| {
                if let Some(timestamp) = timestamp(line) {
                    first.get_or_insert(timestamp);
                    count += 1;
                }
            })
        });
        // ffmpeg writes its progress here twice a second: the signs of life.
        let mut progress = [0; 4096];
        while process.expect(|| read_some(&mut stdout, &mut progress)) {}
        reader.join().unwrap_or_default()
    });
    let status = process.wait().map_err(failed)?;
    if process.expired() {
        return Err(unusable("cutting took too long and was stopped".into()));
    }
    if !status.success() {
        // A full disk is not the source's fault. ffmpeg's words do not tell; some bytes more do.
        let end = file.seek(SeekFrom::End(0));
        let more = end.and_then(|_| file.write_all(&[0; 1 << 16]));
        more.and_then(|()| file.sync_all()).map_err(failed)?;
        return Err(unusable(format!("ffmpeg says: {messages}")));
    }
    let Clip { start, frames, .. } = *clip;
    let begun = first.map(|first| video.micros(first) as f64 / 1e6);
    if count != frames || begun.is_none_or(|begun| (begun - start).abs() > SLACK) {
        let begun = begun.map_or("nowhere".into(), |begun| format!("{begun} s"));
        return Err(unusable(format!(
            "a clip of {frames} pictures from {start} s came out as {count} from {begun}"
        )));
    }
    Ok(())
}

fn arguments(
    probe: &Probe,
    video: &Video,
    clip: &Clip,
    crop: Option<Crop>,
    out: &Path,
    options: &CutOptions,
    seek: bool,
) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-nostdin", "-hide_banner", "-nostats", "-y"]);
    add(&["-loglevel", "level+info", "-progress", "pipe:1", "-copyts"]);
    let (start, end) = clip.in_file(video);
    if seek && start > probe.start {
        add(&["-ss", &format!("{:.6}", start - probe.start)]);
    }
    arguments.extend(input(&probe.path));

    let [numerator, denominator] = [video.ticks.denominator, video.ticks.numerator];
    let mut filter = format!(
        "settb={numerator}/{denominator},trim=start={start:.6}:end={end:.6},{TELL_TIME},\
         setpts=PTS-STARTPTS"
    );
    if let Some(Crop {
        x,
        y,
        width,
        height,
    }) = crop
    {
        filter += &format!(",crop={width}:{height}:{x}:{y}:exact=1");
    }
    filter += ",crop=trunc(iw/2)*2:trunc(ih/2)*2:0:0,format=yuv420p";
    let stream = format!("0:{}", video.index);
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(OsString::from));
    add(&["-map", &stream, "-vf", &filter, "-fps_mode", "passthrough"]);
    if let Some(audio) = probe.audio.as_ref().filter(|_| options.audio) {
        let stream = format!("0:{}", audio.index);
        let filter = format!("atrim=start={start:.6}:end={end:.6},asetpts=PTS-STARTPTS");
        add(&["-map", &stream, "-af", &filter, "-c:a", "aac"]);
    }
    add(&["-c:v", "libx264", "-preset", &options.preset]);
    add(&["-crf", &options.crf.to_string(), "-map_metadata", "-1"]);
    add(&["-movflags", "+faststart", "-f", "mp4"]);
    let mut literal = OsString::from("file:");
    literal.push(out);
    arguments.push(literal);
    arguments
}

fn read_some(stream: &mut impl Read, bytes: &mut [u8]) -> bool {
    loop {
        match stream.read(bytes) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            result => return matches!(result, Ok(1..)),
        }
    }
}
