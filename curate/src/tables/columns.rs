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
    /// Whether it comes of the tiers, so that their rules cannot go by it.
    pub(crate) of_tiers: bool,
}

impl Column {
    /// A column.
    pub const fn new(name: &'static str, kind: Kind, meaning: &'static str) -> Self {
        Self {
            name,
            kind,
            meaning,
            of_clips_only: false,
            of_tiers: false,
        }
    }

    /// The column, which is filled when the rules have been asked.
    const fn of_tiers(mut self) -> Self {
        self.of_tiers = true;
        self
    }

    /// The column, which `images.parquet` lacks.
    const fn of_clips(mut self) -> Self {
        self.of_clips_only = true;
        self
    }
}

const fn text(name: &'static str, meaning: &'static str) -> Column {
    Column::new(name, Kind::Text, meaning)
}

const fn integer(name: &'static str, meaning: &'static str) -> Column {
    Column::new(name, Kind::Integer, meaning)
}

const fn number(name: &'static str, meaning: &'static str) -> Column {
    Column::new(name, Kind::Number, meaning)
}

const fn flag(name: &'static str, meaning: &'static str) -> Column {
    Column::new(name, Kind::Flag, meaning)
}

/// What is known of a source beside the file; in every table.
const SIDECAR: &[Column] = &[
    text(
        "origin",
        "the owner's id from the sidecar, or its pseudonym",
    ),
    text("licence", "from the sidecar"),
    flag("consent", "from the sidecar"),
    text(
        "retention",
        "last day of storage, from the sidecar: YYYY-MM-DD",
    ),
    flag("expired", "whether that day lies before the run's"),
    text("caption", "from the sidecar, scrubbed"),
    text("metadata", "from the sidecar, scrubbed, as JSON"),
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
    text(
        "id",
        "first 16 digits of the file's SHA-256; the same for identical files",
    ),
    text("name", "the file's path as it was given, or its pseudonym"),
    text("kind", "video or image"),
    text("sha256", "SHA-256 of the file"),
    integer("bytes", "size of the file"),
    text(
        "identical_to",
        "name of the first file with the same bytes, where this is another",
    ),
    text("error", "why the file could not be read, or not to its end"),
    integer("clips", "rows of clips or images that come from it"),
    text("format", "container format"),
    text("codec", "video codec"),
    integer("width", "pixels, as shown"),
    integer("height", "pixels, as shown"),
    number("rate", "pictures a second"),
    flag("variable_rate", "whether the time between pictures varies"),
    number("seconds", "length that the container states"),
    integer(
        "rotation",
        "degrees clockwise by which players turn the picture",
    ),
    flag("audio", "whether there is sound"),
    integer("pictures", "pictures that could be decoded"),
];

/// The clip, what was measured and what was decided.
const OF_CLIPS: &[Column] = &[
    text(
        "id",
        "the source's id, the first picture's number, the number after the last",
    ),
    text("kind", "video or image"),
    text("source", "id of the source"),
    text("source_name", "name of the source"),
    text("sha256", "SHA-256 of the source"),
    // Where it lies.
    integer(
        "first_picture",
        "number of the first picture in the source, from 0",
    )
    .of_clips(),
    integer("end_picture", "number of the first picture after the clip").of_clips(),
    integer("pictures", "pictures in the clip").of_clips(),
    number("start", "seconds of the first picture in the source").of_clips(),
    number(
        "end",
        "seconds at which the first picture after the clip is shown",
    )
    .of_clips(),
    number("seconds", "length").of_clips(),
    number("rate", "pictures a second").of_clips(),
    number(
        "transition",
        "seconds of it that lie in dissolves and fades",
    )
    .of_clips(),
    integer("width", "pixels of the source's pictures"),
    integer("height", "pixels of the source's pictures"),
    integer(
        "crop_x",
        "left edge of what is kept, in pixels of the source",
    ),
    integer("crop_y", "upper edge of what is kept"),
    integer("crop_width", "width of what is kept"),
    integer("crop_height", "height of what is kept"),
    number("crop_share", "what is kept, as a share of the picture"),
    integer("short_side", "shorter side of what is kept, in pixels"),
    number("aspect", "width over height of what is kept"),
    // What was measured, on what is kept.
    text("overlays_decision", "keep, crop or reject"),
    number("overlays_borders", "share of the picture that borders take"),
    integer("overlays_subtitles", "subtitles found"),
    integer("overlays_logos", "logos and watermarks found"),
    number(
        "overlays_stillness",
        "share of the scene's edges that stay where they are",
    ),
    number(
        "clarity_laplacian",
        "variance of the Laplacian, as OpenCV computes it",
    ),
    number("clarity_blur", "blur, 0 to 1"),
    number(
        "clarity_noise",
        "standard deviation of the noise, in gray levels",
    ),
    number(
        "clarity_blockiness",
        "height of the 8 x 8 grid of compression, in gray levels",
    ),
    number("clarity_exposure_mean", "mean brightness, 0 to 1"),
    number(
        "clarity_exposure_spread",
        "range of brightness that is used, 0 to 1",
    ),
    number("clarity_exposure_black", "share of pixels that are black"),
    number("clarity_exposure_white", "share of pixels that are white"),
    number(
        "motion_speed",
        "mean speed of all pixels, in diagonals a second",
    )
    .of_clips(),
    number("motion_fastest", "mean speed of the fastest twentieth").of_clips(),
    number("motion_still", "share of the time in which nothing moves").of_clips(),
    number(
        "motion_repeated",
        "share of pictures that repeat the one before",
    )
    .of_clips(),
    flag("motion_dynamic", "dynamic by the rule of VBench").of_clips(),
    number(
        "motion_subject",
        "speed against the camera's motion, in diagonals a second",
    )
    .of_clips(),
    number(
        "motion_camera_speed",
        "speed of the camera's motion, in diagonals a second",
    )
    .of_clips(),
    number("motion_camera_pan", "to the right, in diagonals a second").of_clips(),
    number("motion_camera_tilt", "upwards, in diagonals a second").of_clips(),
    number("motion_camera_zoom", "growth a second: 0.1 is 10 %").of_clips(),
    number(
        "motion_camera_roll",
        "clockwise turn of what is seen, in radians a second",
    )
    .of_clips(),
    number(
        "motion_camera_jitter",
        "shake of pan and tilt, in diagonals a second",
    )
    .of_clips(),
    number(
        "statistics_colorfulness",
        "colourfulness after Hasler and Suesstrunk: 0 is grey, above 80 vivid",
    ),
    number(
        "statistics_contrast",
        "standard deviation of luma, at most 0.5",
    ),
    number("statistics_exposure", "mean of luma, 0 to 1"),
    number(
        "statistics_clipped",
        "share of pixels near the ends of luma's range",
    ),
    number(
        "statistics_from_thirds",
        "distance of the salient part from where thirds cross, at most 0.24 for the middle",
    ),
    number(
        "statistics_concentration",
        "how concentrated salience is, 0 to 1",
    ),
    number(
        "aesthetic",
        "LAION's aesthetic score, about 1 to 10; null without its weights",
    ),
    number(
        "dover_technical",
        "DOVER: sharpness, noise, compression, stability, 0 to 1; null without its weights",
    ),
    number(
        "dover_aesthetic",
        "DOVER: composition, content, colour, 0 to 1",
    ),
    number("dover_overall", "DOVER: both, as the reference joins them"),
    // What was decided.
    integer("cluster", "the concept: cluster of the embedding"),
    text(
        "duplicate_of",
        "id of the better copy, where this is a near-duplicate",
    ),
    number("duplicate_cosine", "cosine of the embeddings of both"),
    text("tier", "the highest tier whose rules it passes").of_tiers(),
    text("stage", "stage of the first rule that it fails").of_tiers(),
    text("reason", "that rule, with the value").of_tiers(),
    number(
        "weight",
        "how often to draw it so that concepts balance, 1 on average",
    )
    .of_tiers(),
    text("file", "the clip's file, from the output folder").of_tiers(),
    text("file_error", "why it could not be written").of_tiers(),
];
