//! From a source's row to the rows of its clips.

use std::{path::Path, sync::mpsc, thread};

use image::GrayImage;

use super::{
    Found, Measure, Measured, Media, Shard, Source,
    fault::{fault, guarded},
    measure::Picked,
    output,
    pending::{Pending, Shot},
    progress::{Meter, Told},
};
use crate::{
    Error, Frame, Result,
    media::{self, DecodeOptions, Decoder, Picture, Probe},
    scenes::{Position, ShotDetector, Transition},
    tiers::Medium,
};

/// Seconds for which what might still be cut is kept back, at least; and as a multiple of the
/// longest transition, which is certain only when none that begins within it can be better.
const DELAY: f64 = 3.0;

/// Measures a source. What is wrong with it stands in the shard.
///
/// # Errors
/// If a thumbnail cannot be written, or the observer stops the run.
pub(super) fn measure(
    found: &Found,
    sources: Vec<Source>,
    measure: &Measure,
    output: &Path,
    meter: &Meter,
) -> Result<Shard> {
    let mut shard = Shard {
        sources,
        media: None,
        error: None,
        clips: Vec::new(),
    };
    let bytes = found.source.bytes.unwrap_or(0);
    let mut told = Told::new(meter, bytes);
    // The shard has its clips only when all are done, so it is sound after a panic as well.
    let result = guarded(&found.path, || {
        match (&found.source.error, found.source.kind) {
            // The row has it already.
            (Some(_), _) => Ok(()),
            (None, Medium::Image) => image(found, measure, output, &mut shard),
            (None, Medium::Video) => video(found, measure, output, &mut told, &mut shard),
        }
    });
    match result {
        Ok(()) => {}
        Err(Error::Interrupted) => return Err(Error::Interrupted),
        Err(error) if error.is_of_output() => return Err(error),
        Err(error) => shard.error = Some(error.without_path(&found.path, &found.source.name)),
    }
    told.all()?;
    Ok(shard)
}

/// An error where no even sides are left of pictures, which the clips that are written have.
fn check_size(path: &Path, width: u32, height: u32) -> Result<()> {
    match width.min(height) {
        2.. => Ok(()),
        _ => Err(Error::Unusable {
            path: path.into(),
            problem: format!("pictures of {width}x{height}; at least 2x2 pixels are needed"),
        }),
    }
}

fn image(found: &Found, measure: &Measure, output: &Path, shard: &mut Shard) -> Result<()> {
    let picture = media::still(&found.path, &measure.config.limits)?;
    shard.media = Some(Media {
        width: Some(picture.width()),
        height: Some(picture.height()),
        pictures: Some(1),
        ..Media::default()
    });
    check_size(&found.path, picture.width(), picture.height())?;
    let picked = measure.image(&picture, &found.source.id)?;
    shard.clips.extend(save(picked, output)?);
    Ok(())
}

/// Writes the thumbnail.
fn save(picked: Option<Picked>, output: &Path) -> Result<Option<Measured>> {
    let Some(picked) = picked else {
        return Ok(None);
    };
    let name = format!("{}.jpg", picked.measured.clip.id);
    output::write(&output.join("thumbnails").join(name), &picked.thumbnail)?;
    Ok(Some(picked.measured))
}

/// One thread decodes and finds the shots, the other measures them: each picture is decoded once,
/// and at most three clips are in memory.
fn video(
    found: &Found,
    measure: &Measure,
    output: &Path,
    told: &mut Told,
    shard: &mut Shard,
) -> Result<()> {
    let probe = media::probe(&found.path, &measure.config.limits)?;
    shard.media = Some(Media::from(&probe));
    let shown = probe.video()?;
    check_size(&found.path, shown.width, shown.height)?;
    let (sender, shots) = mpsc::sync_channel(1);
    let (decoded, measured) = thread::scope(|scope| {
        let measuring = scope.spawn(|| -> Result<Vec<Measured>> {
            let mut clips = Vec::new();
            for shot in shots {
                clips.extend(save(measure.clip(shot, &probe, &found.source.id)?, output)?);
            }
            Ok(clips)
        });
        let decoded = decode(&probe, measure, told, sender);
        let measured = measuring.join();
        let measured = measured.unwrap_or_else(|_| Err(fault(&found.path)));
        (decoded, measured)
    });
    let decoded = decoded?;
    let mut clips = measured?;
    for clip in clips.iter_mut().map(|measured| &mut measured.clip) {
        for transition in &decoded.transitions {
            let from = transition.start.seconds().max(clip.start);
            let shared = transition.end.seconds().min(clip.end) - from;
            clip.transition += shared.max(0.0);
        }
    }
    if let Some(media) = &mut shard.media {
        media.pictures = Some(decoded.pictures);
    }
    shard.clips = clips;
    decoded.ended
}

/// What is known of a video once it is decoded.
struct Decoded {
    pictures: u64,
    transitions: Vec<Transition>,
    /// What ended it early, if something did: all up to there is good.
    ended: Result<()>,
}

/// Decodes a video and sends its shots on.
///
/// # Errors
/// If it cannot be decoded at all, or the observer stops the run.
fn decode(
    probe: &Probe,
    measure: &Measure,
    told: &mut Told,
    shots: mpsc::SyncSender<Shot<GrayImage>>,
) -> Result<Decoded> {
    let rate = probe.video()?.rate;
    let seconds = probe.video()?.duration.or(probe.duration);
    let config = &measure.config.clips;
    let options = DecodeOptions {
        threads: 0,
        limits: measure.config.limits.clone(),
    };
    let mut decoder = Decoder::open(probe, &options)?;
    let mut detector = ShotDetector::new(&measure.config.shots, rate)?;
    let transitions = &measure.config.transitions;
    let mut transitions = transitions.finder(rate, measure.transnet.as_ref())?;
    let delay = DELAY * measure.config.transitions.longest.max(1.0);
    // Windows of TransNetV2 reach 75 pictures ahead.
    let delay = ((delay * rate.per_second()).ceil() as u64).max(100);
    let mut pending = Pending::new(config.longest, delay);
    let mut samples = Clock::every(1.0 / config.analysis_rate);
    let mut lumas = Clock::every(config.clarity_interval);
    let mut picture = Picture::default();
    let (mut pictures, mut end) = (0, 0.0);
    let mut found = Vec::new();
    // The receiver goes when measuring has failed. Then that error counts, and nothing more is needed.
    let ended = 'pictures: loop {
        match decoder.read(&mut picture) {
            Ok(true) => {}
            ended => break ended.map(drop),
        }
        pictures += 1;
        let Picture { index, time, .. } = picture;
        end = time + 1.0 / rate.per_second();
        let cut = detector.process(&picture);
        let position = Position::new(index, time, rate);
        let passed = transitions.process(position, detector.reduced());
        let sample = samples.strikes(time).then(|| Frame {
            index,
            time,
            picture: measure.reduced(&picture),
        });
        let luma = lumas.strikes(time).then(|| picture.luma());
        pending.push(index, time, sample, luma);
        // In the dark for so long that it cannot be kept: a cut found in it later parts nothing.
        let dark = detector
            .waiting()
            .filter(|dark| dark.index + delay <= index);
        cut.iter()
            .chain(&dark)
            .for_each(|cut| pending.cut(cut.index));
        leave_out(&mut pending, &passed);
        found.extend(passed);
        while let Some(shot) = pending.ready() {
            if shots.send(shot).is_err() {
                break 'pictures Ok(());
            }
        }
        told.share(seconds.map_or(0.0, |seconds| time / seconds) * 0.99)?;
    };
    // A fade-out that no picture follows is a cut only now; the others have been made.
    for scene in detector.finish().scenes {
        pending.cut(scene.start.index);
    }
    let passed = transitions.finish();
    leave_out(&mut pending, &passed);
    found.extend(passed);
    for shot in pending.finish(end) {
        if shots.send(shot).is_err() {
            break;
        }
    }
    Ok(Decoded {
        pictures,
        transitions: found,
        ended,
    })
}

/// Makes shots of their own of transitions.
fn leave_out<D>(pending: &mut Pending<D>, transitions: &[Transition]) {
    for transition in transitions {
        pending.cut(transition.from.index);
        pending.cut(transition.until.index);
    }
}

/// Strikes at the first picture of every interval.
struct Clock {
    interval: f64,
    next: f64,
}

impl Clock {
    fn every(interval: f64) -> Self {
        Self {
            interval,
            next: f64::NEG_INFINITY,
        }
    }

    fn strikes(&mut self, time: f64) -> bool {
        // Times are rounded to microseconds.
        let strikes = time >= self.next - 1e-5;
        if strikes {
            self.next = (time / self.interval + 1e-5).floor() * self.interval + self.interval;
        }
        strikes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_strike_once_an_interval() {
        let strikes = |rate: f64, interval: f64| -> Vec<u32> {
            let mut clock = Clock::every(interval);
            let times = (0..50).map(|i| (i, (f64::from(i) / rate * 1e6).round() / 1e6));
            times
                .filter(|(_, time)| clock.strikes(*time))
                .map(|(i, _)| i)
                .take(6)
                .collect()
        };
        assert_eq!(strikes(24.0, 0.125), [0, 3, 6, 9, 12, 15]);
        assert_eq!(strikes(30.0, 0.125), [0, 4, 8, 12, 15, 19]);
        assert_eq!(strikes(5.0, 0.125), [0, 1, 2, 3, 4, 5]);
        assert_eq!(strikes(23.976, 1.0), [0, 24, 48]);
    }
}
