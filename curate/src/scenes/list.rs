//! Lists of scenes.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::{
    Position, Transition,
    position::{frames, timecode},
};

/// A scene: the pictures from `start` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scene {
    /// The first picture.
    pub start: Position,
    /// The first picture after the scene; for the last scene, where one would be.
    pub end: Position,
}

impl Scene {
    /// Number of pictures.
    pub fn pictures(&self) -> u64 {
        self.end.index - self.start.index
    }

    /// Seconds.
    pub fn seconds(&self) -> f64 {
        self.micros() as f64 / 1e6
    }

    fn micros(&self) -> i64 {
        self.end.micros - self.start.micros
    }
}

/// The scenes between `cuts` (sorted, unique) of a video from `start` to before `end`.
pub(super) fn scenes(start: Position, cuts: &[Position], end: Position) -> Vec<Scene> {
    let starts = std::iter::once(&start).chain(cuts);
    let ends = cuts.iter().chain(std::iter::once(&end));
    let pairs = starts.zip(ends);
    pairs.map(|(&start, &end)| Scene { start, end }).collect()
}

/// What `transitions` (in order) leave of `scenes`: a scene ends before a transition, and another
/// begins after it. Of a scene that is touched, parts of less than `least` pictures are left out.
pub(super) fn without(scenes: Vec<Scene>, transitions: &[Transition], least: u64) -> Vec<Scene> {
    let parts = |scene: Scene| {
        let touches = |transition: &&Transition| {
            transition.from.index < scene.end.index && transition.until.index > scene.start.index
        };
        let mut parts = Vec::new();
        let mut start = scene.start;
        for transition in transitions.iter().filter(touches) {
            let end = transition.from;
            parts.push(Scene { start, end });
            start = transition.until;
        }
        let end = scene.end;
        parts.push(Scene { start, end });
        if parts.len() > 1 {
            parts.retain(|part| part.start.index + least.max(1) <= part.end.index);
        }
        parts
    };
    scenes.into_iter().flat_map(parts).collect()
}

/// Writes PySceneDetect's scene list: a row with the times of all cuts, a header, a row a scene.
///
/// Frames are numbered from 1 by the clock ([`Position::frame_number`]); `End Frame` is the scene's
/// last.
///
/// # Errors
///
/// Those of `out`.
pub fn write_csv(scenes: &[Scene], mut out: impl Write) -> io::Result<()> {
    let mut cuts = vec!["Timecode List:".to_string()];
    cuts.extend(scenes.iter().skip(1).map(|scene| scene.start.timecode()));
    let cuts = if cuts.len() > 1 {
        cuts.join(",")
    } else {
        String::new()
    };
    writeln!(out, "{cuts}")?;
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record([
        "Scene Number",
        "Start Frame",
        "Start Timecode",
        "Start Time (seconds)",
        "End Frame",
        "End Timecode",
        "End Time (seconds)",
        "Length (frames)",
        "Length (timecode)",
        "Length (seconds)",
    ])?;
    for (i, scene) in scenes.iter().enumerate() {
        let Scene { start, end } = scene;
        csv.write_record([
            (i + 1).to_string(),
            (start.frame_number() + 1).to_string(),
            start.timecode(),
            format!("{:.3}", start.seconds()),
            end.frame_number().to_string(),
            end.timecode(),
            format!("{:.3}", end.seconds()),
            frames(scene.micros(), start.rate).to_string(),
            timecode(scene.micros()),
            format!("{:.3}", scene.seconds()),
        ])?;
    }
    csv.flush()
}
