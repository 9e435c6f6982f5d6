//! Positions in a video and lengths of it, counted as PySceneDetect counts them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, media::FrameRate};

/// A picture's place in its video.
///
/// Its number among the decoded pictures (`index`) and its number by the clock
/// ([`Position::frame_number`]) are the same at a constant rate and differ at a variable one.
/// PySceneDetect knows only the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Pictures before this one.
    pub index: u64,
    /// Microseconds from the start of the video stream.
    pub micros: i64,
    /// The rate by which frames are numbered.
    pub rate: FrameRate,
}

impl Position {
    /// Where the picture is that starts `time` seconds into the video.
    pub fn new(index: u64, time: f64, rate: FrameRate) -> Self {
        Self {
            index,
            micros: (time * 1e6).round() as i64,
            rate,
        }
    }

    /// Seconds from the start.
    pub fn seconds(self) -> f64 {
        self.micros as f64 / 1e6
    }

    /// The number of the frame that the clock shows here, from 0.
    pub fn frame_number(self) -> u64 {
        frames(self.micros, self.rate)
    }

    /// `HH:MM:SS.nnn`.
    pub fn timecode(self) -> String {
        timecode(self.micros)
    }

    /// Frames by the clock since `earlier`; 0 where that is later.
    pub(super) fn frames_since(self, earlier: Self) -> u64 {
        frames((self.micros - earlier.micros).max(0), self.rate)
    }

    /// The next position at the nominal rate.
    pub(super) fn next(self) -> Self {
        let index = self.index + 1;
        let duration = 1e6 / self.rate.per_second();
        // Where the clock has kept step with the pictures, no roundings add up.
        let micros = match self.frame_number() == self.index {
            true => (index as f64 * duration).round_ties_even() as i64,
            false => self.micros + duration.round_ties_even() as i64,
        };
        Self {
            index,
            micros,
            ..self
        }
    }
}

/// Frames of `rate` in some microseconds, to the nearest.
pub(super) fn frames(micros: i64, rate: FrameRate) -> u64 {
    (micros as f64 / 1e6 * rate.per_second()).round_ties_even() as u64
}

/// `HH:MM:SS.nnn`.
pub(super) fn timecode(micros: i64) -> String {
    let seconds = micros as f64 / 1e6;
    let hours = (seconds / 3600.0).floor();
    let seconds = seconds - 3600.0 * hours;
    let minutes = (seconds / 60.0).floor();
    let seconds = format!("{:06.3}", (seconds - 60.0 * minutes).max(0.0));
    if seconds == "60.000" {
        let minutes = 60 * hours as u64 + minutes as u64 + 1;
        return format!("{:02}:{:02}:00.000", minutes / 60, minutes % 60);
    }
    format!("{hours:02}:{minutes:02}:{seconds}")
}

/// A length of video: `15` (frames), `0.6s` or `0.6` (seconds), `00:00:00.600` or `00:00.600`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Length {
    /// A number of frames.
    Frames(u64),
    /// Seconds.
    Seconds(f64),
}

impl Length {
    /// The nearest number of frames at `rate`.
    pub fn frames(self, rate: FrameRate) -> u64 {
        match self {
            Self::Frames(frames) => frames,
            Self::Seconds(seconds) => (seconds * rate.per_second()).round_ties_even() as u64,
        }
    }
}

impl FromStr for Length {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let decimal = |text: &str| {
            let plain = text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
            plain.then(|| text.parse::<f64>().ok()).flatten()
        };
        let clock = |text: &str| {
            let (rest, seconds) = text.rsplit_once(':')?;
            let (hours, minutes) = rest.split_once(':').unwrap_or(("0", rest));
            let whole = |text: &str| text.parse::<u32>().ok().filter(|_| digits(text));
            let (hours, minutes, seconds) = (whole(hours)?, whole(minutes)?, decimal(seconds)?);
            (minutes < 60 && seconds < 60.0)
                .then(|| seconds + 60.0 * f64::from(minutes) + 3600.0 * f64::from(hours))
        };
        let text = text.trim();
        let length = if digits(text) {
            text.parse().ok().map(Self::Frames)
        } else if text.contains(':') {
            clock(text).map(Self::Seconds)
        } else {
            decimal(text.strip_suffix('s').unwrap_or(text)).map(Self::Seconds)
        };
        length.ok_or_else(|| {
            Error::Request(format!(
                "`{text}` is no length of video: give frames (15), seconds (0.6s) or a timecode \
                 (00:00:00.600)"
            ))
        })
    }
}

impl TryFrom<String> for Length {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Length> for String {
    fn from(length: Length) -> Self {
        length.to_string()
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Frames(frames) => write!(f, "{frames}"),
            Self::Seconds(seconds) => write!(f, "{seconds}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(numerator: u64, denominator: u64) -> FrameRate {
        FrameRate::new(numerator, denominator).unwrap()
    }

    #[test]
    fn lengths() {
        let ntsc = rate(30000, 1001);
        for (text, frames) in [
            ("15", 15),
            ("0.6s", 18),
            ("0.6", 18),
            ("2s", 60),
            ("00:00:00.600", 18),
            ("01:00", 1798),
            ("1:00:00", 107892),
        ] {
            assert_eq!(
                text.parse::<Length>().unwrap().frames(ntsc),
                frames,
                "{text}"
            );
        }
        for text in [
            "", "-1", "1.2.3", "s", "00:60:00", "1:2:3:4", "nan", "1e3s", "inf",
        ] {
            assert!(text.parse::<Length>().is_err(), "{text}");
        }
    }

    #[test]
    fn timecodes() {
        for (micros, expected) in [
            (0, "00:00:00.000"),
            (59_999_600, "00:01:00.000"),
            (3_599_999_900, "01:00:00.000"),
            (3_723_004_400, "01:02:03.004"),
        ] {
            assert_eq!(timecode(micros), expected);
        }
    }

    /// At a constant rate the clock's number is the index, ten hours in as well.
    #[test]
    fn frame_numbers() {
        for rate in [rate(24000, 1001), rate(25, 1), rate(60000, 1001)] {
            for index in [0, 1, 2, 1001, 863_136] {
                let time = index as f64 / rate.per_second();
                assert_eq!(Position::new(index, time, rate).frame_number(), index);
            }
        }
    }
}
