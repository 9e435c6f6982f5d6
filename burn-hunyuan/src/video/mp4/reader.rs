//! Reads progressive 8-bit 4:2:0 H.264 from mp4; whatever else is left to ffmpeg.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use image::RgbImage;
use openh264::OpenH264API;
use openh264::decoder::{DecodedYUV, Decoder, DecoderConfig, Flush};
use openh264::formats::YUVSource;
use shiguredo_mp4::aux::SampleTableAccessor;
use shiguredo_mp4::boxes::{Avc1Box, HdlrBox, MoovBox, MvhdBox, SampleEntry, StblBox, TrakBox};
use shiguredo_mp4::{BoxHeader, Decode};

use super::super::color::{Color, Planes, yuv420_to_rgb};
use super::super::{Error, Result, VideoReader};
use super::sps::Sps;

/// Opens an mp4; [`Error::NeedsFfmpeg`] for one that is fine but not for this decoder.
pub(in super::super) fn open(path: &Path) -> Result<VideoReader> {
    let invalid = |reason: String| Error::Invalid {
        path: path.to_path_buf(),
        reason,
    };
    let needs_ffmpeg = |reason: String| Error::NeedsFfmpeg {
        path: path.to_path_buf(),
        reason,
    };
    let failed = |source| Error::Read {
        path: path.to_path_buf(),
        source,
    };

    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let index = read_index(&mut file).map_err(failed)?;
    let index = index.ok_or_else(|| invalid("it is no mp4 file, or cut short: no index".into()))?;
    let (movie, _) = MoovBox::decode(&index).map_err(|e| invalid(e.to_string()))?;
    let track = movie
        .trak_boxes
        .into_iter()
        .find(|track| track.mdia_box.hdlr_box.handler_type == HdlrBox::HANDLER_TYPE_VIDE)
        .ok_or_else(|| invalid("it has no video track".into()))?;
    if track.tkhd_box.matrix != MvhdBox::DEFAULT_MATRIX {
        return Err(needs_ffmpeg("its pictures are rotated".into()));
    }
    let timeline = Timeline::of(&track, movie.mvhd_box.timescale.get());
    let timescale = f64::from(track.mdia_box.mdhd_box.timescale.get());
    let table = SampleTableAccessor::new(track.mdia_box.minf_box.stbl_box)
        .map_err(|e| invalid(e.to_string()))?;
    let stream = Stream::describe(table.stbl_box()).map_err(needs_ffmpeg)?;
    let timeline = timeline.map_err(needs_ffmpeg)?;

    let samples: Vec<Location> = table
        .samples()
        .map(|s| Location {
            offset: s.data_offset(),
            size: s.data_size(),
        })
        .collect();
    if samples.is_empty() {
        return Err(needs_ffmpeg("it is fragmented".into()));
    }
    let duration: f64 = table.samples().map(|s| f64::from(s.duration())).sum();
    let fps = if duration > 0.0 {
        samples.len() as f64 * timescale / duration
    } else {
        super::super::DEFAULT_FPS
    };
    let times = table
        .samples()
        .map(|s| s.timestamp() as i64 + s.composition_time_offset().unwrap_or(0))
        .collect();
    let (hidden, shown) = timeline.shown(times);

    let config = DecoderConfig::new().flush_after_decode(Flush::NoFlush);
    let decoder = Decoder::with_api_config(OpenH264API::from_source(), config)
        .map_err(|e| invalid(e.to_string()))?;
    let frames = Frames {
        path: path.to_path_buf(),
        file,
        samples: samples.into_iter(),
        stream,
        decoder,
        flushed: None,
    };
    VideoReader::new(path, fps, frames.skip(hidden).take(shown)).map_err(|error| match error {
        Error::Invalid { reason, .. } => needs_ffmpeg(reason),
        error => error,
    })
}

/// The `moov` box, searched at the top level of the file.
fn read_index(file: &mut (impl Read + Seek)) -> io::Result<Option<Vec<u8>>> {
    let mut position = 0;
    loop {
        let mut head = Vec::new();
        file.seek(SeekFrom::Start(position))?;
        file.take(BoxHeader::MAX_SIZE as u64)
            .read_to_end(&mut head)?;
        let Ok((header, _)) = BoxHeader::decode(&head) else {
            return Ok(None);
        };
        let size = header.box_size.get();
        if header.box_type == MoovBox::TYPE {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(position))?;
            file.take(if size == 0 { u64::MAX } else { size })
                .read_to_end(&mut bytes)?;
            return Ok((size <= bytes.len() as u64).then_some(bytes));
        }
        match position.checked_add(size) {
            Some(next) if size > 0 => position = next,
            _ => return Ok(None),
        }
    }
}

/// The part of the track that is shown (its edit list), in ticks of the track.
struct Timeline {
    start: i64,
    end: i64,
}

impl Timeline {
    fn of(track: &TrakBox, movie_timescale: u32) -> std::result::Result<Self, String> {
        let whole = Self {
            start: i64::MIN,
            end: i64::MAX,
        };
        let Some(list) = track.edts_box.as_ref().and_then(|b| b.elst_box.as_ref()) else {
            return Ok(whole);
        };
        // An edit without media only delays the start.
        let mut edits = list.entries.iter().filter(|edit| edit.media_time >= 0);
        match (edits.next(), edits.next()) {
            (None, _) => Ok(whole),
            (Some(edit), None) => {
                let ticks =
                    f64::from(track.mdia_box.mdhd_box.timescale.get()) / f64::from(movie_timescale);
                // Zero stands for "to the end"; durations are rounded to the movie's ticks.
                let length = match edit.edit_duration {
                    0 => i64::MAX,
                    duration => ((duration as f64 + 0.5) * ticks) as i64,
                };
                Ok(Self {
                    start: edit.media_time,
                    end: edit.media_time.saturating_add(length),
                })
            }
            _ => Err("it is cut together from several pieces".into()),
        }
    }

    /// How many pictures are hidden before, and how many are shown, of those shown at `times`.
    fn shown(&self, times: Vec<i64>) -> (usize, usize) {
        let hidden = times.iter().filter(|&&t| t < self.start).count();
        let shown = times
            .iter()
            .filter(|&&t| self.start <= t && t < self.end)
            .count();
        (hidden, shown)
    }
}

/// Where a picture lies in the file.
struct Location {
    offset: u64,
    size: u32,
}

/// How the pictures are coded.
struct Stream {
    /// Parameter sets, with start codes.
    head: Vec<u8>,
    /// Bytes of a NAL unit's length.
    length_bytes: usize,
    color: Color,
}

impl Stream {
    /// Checks that the built-in decoder reads this stream, or says why not.
    fn describe(table: &StblBox) -> std::result::Result<Self, String> {
        let avc1 = match table.stsd_box.entries.as_slice() {
            [SampleEntry::Avc1(avc1)] => avc1,
            [] => return Err("it does not name its codec".into()),
            [_] => return Err("its codec is not H.264".into()),
            _ => return Err("its format changes on the way".into()),
        };
        let sps = avc1
            .avcc_box
            .sps_list
            .first()
            .and_then(|nal| Sps::parse(nal));
        let sps = sps.ok_or("its sequence parameters are damaged")?;
        if !matches!(sps.profile, 66 | 77 | 100) || sps.chroma_format != 1 || sps.bit_depth != 8 {
            return Err("it is not 8-bit 4:2:0 H.264".into());
        }
        if sps.interlaced {
            return Err("it is interlaced".into());
        }
        let color = sps.color.ok_or("its colour space is unusual")?;
        let length_bytes = usize::from(avc1.avcc_box.length_size_minus_one.get()) + 1;
        Ok(Self {
            head: parameter_sets(avc1),
            length_bytes,
            color,
        })
    }
}

fn parameter_sets(avc1: &Avc1Box) -> Vec<u8> {
    let mut bytes = Vec::new();
    for nal in avc1.avcc_box.sps_list.iter().chain(&avc1.avcc_box.pps_list) {
        bytes.extend(START_CODE);
        bytes.extend(nal);
    }
    bytes
}

const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The decoded pictures, in the order in which they are shown.
struct Frames {
    path: PathBuf,
    file: BufReader<File>,
    samples: std::vec::IntoIter<Location>,
    stream: Stream,
    decoder: Decoder,
    /// Once the samples have ended: what the decoder still held.
    flushed: Option<std::vec::IntoIter<RgbImage>>,
}

impl Frames {
    /// The next sample with start codes in place of lengths.
    fn read_sample(&mut self, location: Location) -> Result<Vec<u8>> {
        let mut sample = Vec::new();
        self.file
            .seek(SeekFrom::Start(location.offset))
            .and_then(|_| {
                (&mut self.file)
                    .take(u64::from(location.size))
                    .read_to_end(&mut sample)
            })
            .map_err(|source| Error::Read {
                path: self.path.clone(),
                source,
            })?;
        if sample.len() < location.size as usize {
            return Err(self.invalid("it is cut short"));
        }
        let mut bytes = std::mem::take(&mut self.stream.head);
        let mut rest = sample.as_slice();
        while !rest.is_empty() {
            let (length, tail) = rest
                .split_at_checked(self.stream.length_bytes)
                .ok_or_else(|| self.invalid("a picture is damaged"))?;
            let length = length
                .iter()
                .fold(0, |sum, &byte| sum << 8 | usize::from(byte));
            let (nal, tail) = tail
                .split_at_checked(length)
                .ok_or_else(|| self.invalid("a picture is damaged"))?;
            bytes.extend(START_CODE);
            bytes.extend(nal);
            rest = tail;
        }
        Ok(bytes)
    }

    fn invalid(&self, reason: &str) -> Error {
        Error::Invalid {
            path: self.path.clone(),
            reason: reason.into(),
        }
    }

    fn decode(&mut self) -> Result<Option<RgbImage>> {
        while let Some(location) = self.samples.next() {
            let sample = self.read_sample(location)?;
            let color = self.stream.color;
            match self.decoder.decode(&sample) {
                Ok(None) => {} // pictures may wait for earlier ones
                Ok(Some(picture)) => return Ok(Some(convert(&picture, color))),
                Err(e) => return Err(self.invalid(&format!("decoding failed: {e}"))),
            }
        }
        if self.flushed.is_none() {
            let color = self.stream.color;
            let rest = match self.decoder.flush_remaining() {
                Ok(pictures) => pictures
                    .iter()
                    .map(|p| convert(p, color))
                    .collect::<Vec<_>>(),
                Err(e) => return Err(self.invalid(&format!("decoding failed: {e}"))),
            };
            self.flushed = Some(rest.into_iter());
        }
        Ok(self.flushed.as_mut().and_then(Iterator::next))
    }
}

impl Iterator for Frames {
    type Item = Result<RgbImage>;

    fn next(&mut self) -> Option<Self::Item> {
        self.decode().transpose()
    }
}

fn convert(picture: &DecodedYUV, color: Color) -> RgbImage {
    let (width, height) = picture.dimensions();
    let (y_stride, uv_stride, _) = picture.strides();
    let planes = Planes {
        y: picture.y(),
        u: picture.u(),
        v: picture.v(),
        strides: (y_stride, uv_stride),
    };
    yuv420_to_rgb(planes, width as u32, height as u32, color)
}
