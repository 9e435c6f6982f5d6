//! What the tables hold.

use std::{fmt, sync::LazyLock};

/// What a column's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Signed, 64 bits.
    Integer,
    /// Floating point, 64 bits.
    Number,
    /// True or false.
    Flag,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "texts",
            Self::Integer => "whole numbers",
            Self::Number => "numbers",
            Self::Flag => "flags",
        })
    }
}

/// A column of a table. Every column can be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Its name, also in rules of tiers and in SQL.
    pub name: &'static str,
    /// What its values are.
    pub kind: Kind,
    /// What they mean; stands in the file as the field's metadata.
    pub meaning: &'static str,
    /// Whether images have no such value.
    of_clips_only: bool,
}

impl Column {
    /// A column.
    pub const fn new(name: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self {
            name,
            kind,
            meaning,
            of_clips_only: false,
        }
    }

    /// A column that `images.parquet` lacks.
    const fn of_clips(name: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self {
            of_clips_only: true,
            ..Self::new(name, kind, meaning)
        }
    }
}

use Kind::{Flag, Integer, Number, Text};

/// What is known of a source beside the file; in every table.
const SIDECAR: &[Column] = &[
    Column::new(
        "origin",
        Text,
        "the owner's id from the sidecar, or its pseudonym",
    ),
    Column::new("licence", Text, "from the sidecar"),
    Column::new("consent", Flag, "from the sidecar"),
    Column::new(
        "retention",
        Text,
        "last day of storage, from the sidecar: YYYY-MM-DD",
    ),
    Column::new("expired", Flag, "whether that day lies before the run's"),
    Column::new("caption", Text, "from the sidecar, scrubbed"),
    Column::new("metadata", Text, "from the sidecar, scrubbed, as JSON"),
];

/// `sources.parquet`: a row for each file of the input.
pub static SOURCES: LazyLock<Vec<Column>> = LazyLock::new(|| [OF_SOURCES, SIDECAR].concat());

/// `clips.parquet`: a row for each clip.
pub static CLIPS: LazyLock<Vec<Column>> = LazyLock::new(|| [OF_CLIPS, SIDECAR].concat());

/// `images.parquet`: a row for each image, with what clips and images have in common.
pub static IMAGES: LazyLock<Vec<Column>> = LazyLock::new(|| {
    let common = CLIPS.iter().filter(|column| !column.of_clips_only);
    common.copied().collect()
});

/// The file, and what it holds.
const OF_SOURCES: &[Column] = &[
    Column::new(
        "id",
        Text,
        "first 16 digits of the file's SHA-256; the same for identical files",
    ),
    Column::new(
        "name",
        Text,
        "the file's path as it was given, or its pseudonym",
    ),
    Column::new("kind", Text, "video or image"),
    Column::new("sha256", Text, "SHA-256 of the file"),
    Column::new("bytes", Integer, "size of the file"),
    Column::new(
        "identical_to",
        Text,
        "name of the first file with the same bytes, where this is another",
    ),
    Column::new(
        "error",
        Text,
        "why the file could not be read, or not to its end",
    ),
    Column::new(
        "clips",
        Integer,
        "rows of clips or images that come from it",
    ),
    Column::new("format", Text, "container format"),
    Column::new("codec", Text, "video codec"),
    Column::new("width", Integer, "pixels, as shown"),
    Column::new("height", Integer, "pixels, as shown"),
    Column::new("rate", Number, "pictures a second"),
    Column::new(
        "variable_rate",
        Flag,
        "whether the time between pictures varies",
    ),
    Column::new("seconds", Number, "length that the container states"),
    Column::new(
        "rotation",
        Integer,
        "degrees clockwise by which players turn the picture",
    ),
    Column::new("audio", Flag, "whether there is sound"),
    Column::new("pictures", Integer, "pictures that could be decoded"),
];

/// The clip, what was measured and what was decided.
const OF_CLIPS: &[Column] = &[
    Column::new(
        "id",
        Text,
        "the source's id, the first picture's number, the number after the last",
    ),
    Column::new("kind", Text, "video or image"),
    Column::new("source", Text, "id of the source"),
    Column::new("source_name", Text, "name of the source"),
    Column::new("sha256", Text, "SHA-256 of the source"),
    // Where it lies.
    Column::of_clips(
        "first_picture",
        Integer,
        "number of the first picture in the source, from 0",
    ),
    Column::of_clips(
        "end_picture",
        Integer,
        "number of the first picture after the clip",
    ),
    Column::of_clips("pictures", Integer, "pictures in the clip"),
    Column::of_clips(
        "start",
        Number,
        "seconds of the first picture in the source",
    ),
    Column::of_clips(
        "end",
        Number,
        "seconds at which the first picture after the clip is shown",
    ),
    Column::of_clips("seconds", Number, "length"),
    Column::of_clips("rate", Number, "pictures a second"),
    Column::of_clips(
        "transition",
        Number,
        "seconds of it that lie in dissolves and fades",
    ),
    Column::new("width", Integer, "pixels of the source's pictures"),
    Column::new("height", Integer, "pixels of the source's pictures"),
    Column::new(
        "crop_x",
        Integer,
        "left edge of what is kept, in pixels of the source",
    ),
    Column::new("crop_y", Integer, "upper edge of what is kept"),
    Column::new("crop_width", Integer, "width of what is kept"),
    Column::new("crop_height", Integer, "height of what is kept"),
    Column::new(
        "crop_share",
        Number,
        "what is kept, as a share of the picture",
    ),
    Column::new(
        "short_side",
        Integer,
        "shorter side of what is kept, in pixels",
    ),
    Column::new("aspect", Number, "width over height of what is kept"),
    // What was measured, on what is kept.
    Column::new("overlays_decision", Text, "keep, crop or reject"),
    Column::new(
        "overlays_borders",
        Number,
        "share of the picture that borders take",
    ),
    Column::new("overlays_subtitles", Integer, "subtitles found"),
    Column::new("overlays_logos", Integer, "logos and watermarks found"),
    Column::new(
        "overlays_stillness",
        Number,
        "share of the scene's edges that stay where they are",
    ),
    Column::new(
        "clarity_laplacian",
        Number,
        "variance of the Laplacian, as OpenCV computes it",
    ),
    Column::new("clarity_blur", Number, "blur, 0 to 1"),
    Column::new(
        "clarity_noise",
        Number,
        "standard deviation of the noise, in gray levels",
    ),
    Column::new(
        "clarity_blockiness",
        Number,
        "height of the 8 x 8 grid of compression, in gray levels",
    ),
    Column::new("clarity_exposure_mean", Number, "mean brightness, 0 to 1"),
    Column::new(
        "clarity_exposure_spread",
        Number,
        "range of brightness that is used, 0 to 1",
    ),
    Column::new(
        "clarity_exposure_black",
        Number,
        "share of pixels that are black",
    ),
    Column::new(
        "clarity_exposure_white",
        Number,
        "share of pixels that are white",
    ),
    Column::of_clips(
        "motion_speed",
        Number,
        "mean speed of all pixels, in diagonals a second",
    ),
    Column::of_clips(
        "motion_fastest",
        Number,
        "mean speed of the fastest twentieth",
    ),
    Column::of_clips(
        "motion_still",
        Number,
        "share of the time in which nothing moves",
    ),
    Column::of_clips(
        "motion_repeated",
        Number,
        "share of pictures that repeat the one before",
    ),
    Column::of_clips("motion_dynamic", Flag, "dynamic by the rule of VBench"),
    Column::of_clips(
        "motion_subject",
        Number,
        "speed against the camera's motion, in diagonals a second",
    ),
    Column::of_clips(
        "motion_camera_speed",
        Number,
        "speed of the camera's motion, in diagonals a second",
    ),
    Column::of_clips(
        "motion_camera_pan",
        Number,
        "to the right, in diagonals a second",
    ),
    Column::of_clips(
        "motion_camera_tilt",
        Number,
        "upwards, in diagonals a second",
    ),
    Column::of_clips("motion_camera_zoom", Number, "growth a second: 0.1 is 10 %"),
    Column::of_clips(
        "motion_camera_roll",
        Number,
        "clockwise turn of what is seen, in radians a second",
    ),
    Column::of_clips(
        "motion_camera_jitter",
        Number,
        "shake of pan and tilt, in diagonals a second",
    ),
    Column::new(
        "statistics_colorfulness",
        Number,
        "colourfulness after Hasler and Suesstrunk: 0 is grey, above 80 vivid",
    ),
    Column::new(
        "statistics_contrast",
        Number,
        "standard deviation of luma, at most 0.5",
    ),
    Column::new("statistics_exposure", Number, "mean of luma, 0 to 1"),
    Column::new(
        "statistics_clipped",
        Number,
        "share of pixels near the ends of luma's range",
    ),
    Column::new(
        "statistics_from_thirds",
        Number,
        "distance of the salient part from where thirds cross, at most 0.24 for the middle",
    ),
    Column::new(
        "statistics_concentration",
        Number,
        "how concentrated salience is, 0 to 1",
    ),
    Column::new(
        "aesthetic",
        Number,
        "LAION's aesthetic score, about 1 to 10; null without its weights",
    ),
    Column::new(
        "dover_technical",
        Number,
        "DOVER: sharpness, noise, compression, stability, 0 to 1; null without its weights",
    ),
    Column::new(
        "dover_aesthetic",
        Number,
        "DOVER: composition, content, colour, 0 to 1",
    ),
    Column::new(
        "dover_overall",
        Number,
        "DOVER: both, as the reference joins them",
    ),
    // What was decided.
    Column::new("cluster", Integer, "the concept: cluster of the embedding"),
    Column::new(
        "duplicate_of",
        Text,
        "id of the better copy, where this is a near-duplicate",
    ),
    Column::new(
        "duplicate_cosine",
        Number,
        "cosine of the embeddings of both",
    ),
    Column::new("tier", Text, "the highest tier whose rules it passes"),
    Column::new("stage", Text, "stage of the first rule that it fails"),
    Column::new("reason", Text, "that rule, with the value"),
    Column::new(
        "weight",
        Number,
        "how often to draw it so that concepts balance, 1 on average",
    ),
    Column::new("file", Text, "the clip's file, from the output folder"),
    Column::new("file_error", Text, "why it could not be written"),
];
