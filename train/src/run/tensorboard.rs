//! TensorBoard's event files: protocol buffers in TFRecords.
//!
//! Sources: TensorFlow's `core/util/event.proto`, `core/framework/summary.proto` and
//! `core/lib/io/record_writer.h`.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::error::{Error, Result};

/// An event file.
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Starts a file for a run that goes on after `step`. TensorBoard forgets what earlier files
    /// hold of later steps.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn create(folder: &Path, step: u64) -> Result<Self> {
        let seconds = now();
        let name = format!(
            "events.out.tfevents.{:010}.{:09}.{}",
            seconds as u64,
            (seconds.fract() * 1e9) as u64,
            std::process::id()
        );
        let path = folder.join(name);
        let file = File::create(&path).map_err(Error::io("write", &path))?;
        let mut events = Self { path, file };
        events.write(&event(0, &bytes(FILE_VERSION, b"brain.Event:2")))?;
        let start = varint_field(SESSION_STATUS, SESSION_START);
        events.write(&event(step + 1, &bytes(SESSION_LOG, &start)))?;
        Ok(events)
    }

    /// Adds a number.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn scalar(&mut self, step: u64, tag: &str, value: f64) -> Result<()> {
        let mut entry = bytes(VALUE_TAG, tag.as_bytes());
        entry.extend(key(VALUE_SIMPLE, FIXED32));
        entry.extend((value as f32).to_le_bytes());
        let summary = bytes(SUMMARY_VALUE, &entry);
        self.write(&event(step, &bytes(SUMMARY, &summary)))
    }

    fn write(&mut self, event: &[u8]) -> Result<()> {
        let written = self.file.write_all(&record(event));
        written.map_err(Error::io("write", &self.path))
    }
}

// Field numbers of `Event`, `SessionLog`, `Summary` and `Summary.Value`.
const WALL_TIME: u64 = 1;
const STEP: u64 = 2;
const FILE_VERSION: u64 = 3;
const SUMMARY: u64 = 5;
const SESSION_LOG: u64 = 7;
const SESSION_STATUS: u64 = 1;
const SESSION_START: u64 = 1;
const SUMMARY_VALUE: u64 = 1;
const VALUE_TAG: u64 = 1;
const VALUE_SIMPLE: u64 = 2;

// Wire types of protocol buffers.
const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH_DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// An event with the current time, its step and the field `what`.
fn event(step: u64, what: &[u8]) -> Vec<u8> {
    let mut event = key(WALL_TIME, FIXED64);
    event.extend(now().to_le_bytes());
    event.extend(varint_field(STEP, step));
    event.extend(what);
    event
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

fn key(field: u64, wire_type: u64) -> Vec<u8> {
    varint(field << 3 | wire_type)
}

fn varint_field(field: u64, value: u64) -> Vec<u8> {
    [key(field, VARINT), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    let length = varint(value.len() as u64);
    [key(field, LENGTH_DELIMITED), length, value.to_vec()].concat()
}

/// A TFRecord: length, masked checksum of the length, data, masked checksum of the data.
fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    [
        &length[..],
        &masked_crc(&length).to_le_bytes(),
        data,
        &masked_crc(data).to_le_bytes(),
    ]
    .concat()
}

/// CRC-32C, rotated and shifted so that a checksum of a checksum is no fixed point.
fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `tensorboard` 2.21 for step 300, tag `train/loss`, value 0.25, wall time 1.5.
    #[test]
    fn a_scalar_is_what_tensorboard_writes() {
        let mut entry = bytes(VALUE_TAG, b"train/loss");
        entry.extend(key(VALUE_SIMPLE, FIXED32));
        entry.extend(0.25_f32.to_le_bytes());
        let mut event = key(WALL_TIME, FIXED64);
        event.extend(1.5_f64.to_le_bytes());
        event.extend(varint_field(STEP, 300));
        event.extend(bytes(SUMMARY, &bytes(SUMMARY_VALUE, &entry)));
        let hex: String = record(&event).iter().map(|b| format!("{b:02x}")).collect();
        let expected = "2100000000000000017becf609000000000000f83f10ac022a130a110a0a747261\
            696e2f6c6f7373150000803e6557981f";
        assert_eq!(hex, expected);
    }
}
