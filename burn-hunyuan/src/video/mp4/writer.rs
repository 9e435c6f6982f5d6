//! Writes an mp4 that plays anywhere: `avc1`, index at the front, colours signalled in the stream
//! and in the container, a keyframe every second.

use std::io::{Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use image::RgbImage;
use openh264::encoder::{
    BitRate, Complexity, Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, Profile,
    QpRange, RateControlMode, VuiConfig,
};
use openh264::formats::YUVSlices;
use openh264::{OpenH264API, Timestamp};
use shiguredo_mp4::bitstream::h264::{
    H264NalUnitType, H264SampleEntryConfig, LengthSize, build_avc1_box_from_annexb,
    parse_annexb_nal_units,
};
use shiguredo_mp4::boxes::{SampleEntry, UnknownBox};
use shiguredo_mp4::mux::{Mp4FileMuxer, Mp4FileMuxerOptions, Sample};
use shiguredo_mp4::{BoxSize, BoxType, TrackKind};

use super::super::color::rgb_to_yuv420;
use super::super::output::OutputFile;
use super::super::{Error, Quality, Result};

/// Space kept for the index ahead of the pictures: enough for some 3000 frames; a longer video
/// has it at its end, which only delays the start of playback over a network.
const INDEX_BYTES: usize = 16 << 10;

pub(in super::super) struct Mp4Writer {
    path: PathBuf,
    file: OutputFile,
    encoder: Encoder,
    muxer: Mp4FileMuxer,
    /// Where the next picture goes in the file.
    offset: u64,
    /// Ticks per second, and per frame.
    timescale: NonZeroU32,
    duration: u32,
    frames: u64,
    planes: Vec<u8>,
}

impl Mp4Writer {
    pub(in super::super) fn create(
        path: &Path,
        width: u32,
        height: u32,
        fps: f64,
        quality: Quality,
    ) -> Result<Self> {
        let unwritable = |reason| Error::Unwritable {
            path: path.to_path_buf(),
            reason,
        };
        // OpenH264's limits; 4:2:0 needs even sizes.
        let (long, short) = (width.max(height), width.min(height));
        if short < 16 || long > 3840 || short > 2160 || width % 2 + height % 2 != 0 {
            return Err(unwritable(format!(
                "H.264 needs even sizes from 16x16 to 3840x2160, not {width}x{height}; \
                 write a GIF or a folder of PNG files instead"
            )));
        }
        let (timescale, duration) = ticks(fps);
        let encoder =
            encoder(width, height, fps, quality).map_err(|e| unwritable(e.to_string()))?;
        let options = Mp4FileMuxerOptions {
            reserved_moov_box_size: INDEX_BYTES,
            ..Default::default()
        };
        let muxer = Mp4FileMuxer::with_options(options).map_err(|e| unwritable(e.to_string()))?;
        let mut file = OutputFile::create(path)?;
        let head = muxer.initial_boxes_bytes();
        file.write_all(head).map_err(|e| file.error(e))?;
        Ok(Self {
            path: path.to_path_buf(),
            offset: head.len() as u64,
            file,
            encoder,
            muxer,
            timescale,
            duration,
            frames: 0,
            planes: Vec::new(),
        })
    }

    pub(in super::super) fn write(&mut self, frame: &RgbImage) -> Result<()> {
        rgb_to_yuv420(frame, &mut self.planes);
        let picture = self.encode(frame).map_err(|reason| Error::Unwritable {
            path: self.path.clone(),
            reason: format!("encoding frame {} failed: {reason}", self.frames),
        })?;
        self.file
            .write_all(&picture)
            .map_err(|e| self.file.error(e))?;
        self.offset += picture.len() as u64;
        self.frames += 1;
        Ok(())
    }

    pub(in super::super) fn finish(mut self) -> Result<()> {
        let boxes = self.muxer.finalize().map_err(|e| Error::Unwritable {
            path: self.path.clone(),
            reason: e.to_string(),
        })?;
        for (offset, bytes) in boxes.offset_and_bytes_pairs() {
            self.file
                .seek(SeekFrom::Start(offset))
                .and_then(|_| self.file.write_all(bytes))
                .map_err(|e| self.file.error(e))?;
        }
        self.file.commit()
    }

    /// The picture as mp4 stores it (each NAL unit after its length), entered in the index.
    fn encode(&mut self, frame: &RgbImage) -> std::result::Result<Vec<u8>, String> {
        let (width, height) = (frame.width() as usize, frame.height() as usize);
        let (y, uv) = self.planes.split_at(width * height);
        let (u, v) = uv.split_at(width * height / 4);
        let source = YUVSlices::new((y, u, v), (width, height), (width, width / 2, width / 2));
        let milliseconds =
            self.frames * u64::from(self.duration) * 1000 / u64::from(self.timescale.get());
        let stream = self
            .encoder
            .encode_at(&source, Timestamp::from_millis(milliseconds))
            .map_err(|e| e.to_string())?;
        let keyframe = stream.frame_type() == FrameType::IDR;
        let stream = stream.to_vec();

        let mut picture = Vec::with_capacity(stream.len());
        for nal in parse_annexb_nal_units(&stream).map_err(|e| e.to_string())? {
            // The parameter sets go to the container.
            if matches!(
                nal.nal_unit_type,
                H264NalUnitType::IdrSlice | H264NalUnitType::NonIdrSlice
            ) {
                picture.extend((nal.data.len() as u32).to_be_bytes());
                picture.extend(nal.data);
            }
        }
        let sample_entry = if self.frames == 0 {
            Some(sample_entry(&stream)?)
        } else {
            None
        };
        let sample = Sample {
            track_kind: TrackKind::Video,
            sample_entry,
            keyframe,
            timescale: self.timescale,
            duration: self.duration,
            composition_time_offset: None,
            data_offset: self.offset,
            data_size: picture.len(),
        };
        self.muxer
            .append_sample(&sample)
            .map_err(|e| e.to_string())?;
        Ok(picture)
    }
}

fn encoder(
    width: u32,
    height: u32,
    fps: f64,
    quality: Quality,
) -> std::result::Result<Encoder, openh264::Error> {
    // OpenH264 takes no quantiser below 12 in this mode.
    let qp = (51.0 - 0.43 * f64::from(quality.0)).round().max(12.0) as u8;
    let config = EncoderConfig::new()
        .profile(Profile::High)
        // With the quantiser fixed this mode controls nothing (the others warn on stderr), and
        // the bit rate only enters the level: 1/4 bit for each pixel.
        .rate_control_mode(RateControlMode::Bufferbased)
        .qp(QpRange::new(qp, qp))
        .bitrate(BitRate::from_bps(
            (f64::from(width * height) * fps / 4.0) as u32,
        ))
        .skip_frames(false)
        .max_frame_rate(FrameRate::from_hz(fps as f32))
        .intra_frame_period(IntraFramePeriod::from_num_frames(
            fps.round().max(1.0) as u32
        ))
        .complexity(Complexity::High)
        // Both lower the quality where the eye is thought to miss it; generated video is smooth
        // enough to show that.
        .adaptive_quantization(false)
        .background_detection(false)
        .vui(VuiConfig::bt709());
    Encoder::with_api_config(OpenH264API::from_source(), config)
}

/// The description of the stream from its parameter sets, with the colours for players that look
/// only at the container.
fn sample_entry(stream: &[u8]) -> std::result::Result<SampleEntry, String> {
    let config = H264SampleEntryConfig {
        length_size: LengthSize::FourBytes,
    };
    let mut avc1 = build_avc1_box_from_annexb(stream, &config).map_err(|e| e.to_string())?;
    // ISO/IEC 14496-12 §12.1.5: primaries, transfer and matrix of BT.709, limited range.
    let payload = b"nclx\x00\x01\x00\x01\x00\x01\x00".to_vec();
    let box_type = BoxType::Normal(*b"colr");
    let box_size = BoxSize::with_payload_size(box_type, payload.len() as u64);
    avc1.unknown_boxes.push(UnknownBox {
        box_type,
        box_size,
        payload,
    });
    Ok(SampleEntry::Avc1(avc1))
}

/// Ticks per second and per frame; rates such as 23.976 are the fractions of 1001 that they mean.
fn ticks(fps: f64) -> (NonZeroU32, u32) {
    let ntsc = (fps * 1.001).round() * 1000.0;
    let (timescale, duration) = if (ntsc / 1001.0 - fps).abs() < 5e-4 {
        (ntsc, 1001)
    } else {
        ((fps * 1000.0).round(), 1000)
    };
    (
        NonZeroU32::new(timescale as u32).unwrap_or(NonZeroU32::MIN),
        duration,
    )
}
