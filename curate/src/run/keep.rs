//! What a run keeps: clips and images as files, and the manifest that training reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Cursor,
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageFormat, imageops};
use serde::Serialize;
use serde_json::Value;

use super::{Found, Meter, Observer, Plan, Request, Stage, fault::guarded, in_parallel, output};
use crate::{
    Error, Result, config,
    media::{self, CutOptions},
    tables::{Row, number, text},
};

/// Writes the files of kept clips and images that are not there yet, and removes those that are no
/// longer kept.
///
/// Of a clip that cannot be written there is a note with the error, for its row.
///
/// # Errors
/// If the output cannot be written, as on a full disk, or the observer stops the run.
pub(super) fn write_files(
    plan: &mut Plan,
    sources: &[Vec<Found>],
    config: &config::Config,
    request: &Request,
    observer: Observer,
) -> Result<()> {
    let found = sources
        .iter()
        .map(|copies| (copies[0].source.id.as_str(), &copies[0]));
    let found: BTreeMap<&str, &Found> = found.collect();
    let rows = plan.clips.iter_mut().chain(&mut plan.images);
    let mut rows: Vec<&mut Row> = rows.filter(|row| is_kept(row)).collect();
    let meter = Meter::new(observer, Stage::Cut, rows.len() as u64);
    let errors = in_parallel(request.jobs, &rows, |row| {
        let error = match found.get(text(row, "source")) {
            Some(found) => {
                let write = || write_file(found, row, &request.output, config);
                guarded(&found.path, write).err()
            }
            // Of an earlier run into the same folder; its files are there.
            None => None,
        };
        match error {
            Some(error) if error.is_of_output() => Err(error),
            _ if meter.add(1).is_break() => Err(Error::Interrupted),
            error => Ok(error),
        }
    })?;
    for (row, error) in rows.iter_mut().zip(errors) {
        let found = found.get(text(row, "source"));
        let told =
            |(error, found): (Error, &&Found)| error.without_path(&found.path, &found.source.name);
        let error = error.zip(found).map(told);
        row.insert("file_error".into(), Value::from(error));
    }
    let kept: BTreeSet<PathBuf> = rows
        .iter()
        .map(|row| request.output.join(file(row)))
        .collect();
    for folder in ["clips", "images"] {
        for path in output::files(&request.output.join(folder))? {
            if !kept.contains(&path) {
                output::remove(&path)?;
            }
        }
    }
    Ok(())
}

fn is_kept(row: &Row) -> bool {
    !text(row, "tier").is_empty()
}

fn write_file(found: &Found, row: &Row, output: &Path, config: &config::Config) -> Result<()> {
    let path = output.join(file(row));
    match text(row, "kind") {
        _ if path.exists() => Ok(()),
        "image" => write_image(&found.path, row, &path, config),
        _ => write_clip(&found.path, row, &path, config),
    }
}

/// Notes in the rows of kept clips and images where their files are, if they are there.
pub(crate) fn note_files(plan: &mut Plan, output: &Path) {
    for row in plan.clips.iter_mut().chain(&mut plan.images) {
        let file = file(row);
        if is_kept(row) && output.join(&file).exists() {
            row.insert("file".into(), Value::from(file));
        }
    }
}

/// Where the file of a row is, from the output folder.
pub(crate) fn file(row: &Row) -> String {
    let id = text(row, "id");
    match text(row, "kind") {
        "image" => format!("images/{id}.png"),
        _ => format!("clips/{id}.mp4"),
    }
}

/// The rectangle that a row keeps, in pixels of the source.
fn crop(row: &Row) -> media::Crop {
    // Written from whole numbers of 32 bits.
    let side = |name: &str| number(row, name).unwrap_or(0.0) as u32;
    media::Crop {
        x: side("crop_x"),
        y: side("crop_y"),
        width: side("crop_width"),
        height: side("crop_height"),
    }
}

fn write_clip(source: &Path, row: &Row, path: &Path, config: &config::Config) -> Result<()> {
    let probe = media::probe(source, &config.limits)?;
    let clip = media::Clip {
        start: number(row, "start").unwrap_or(0.0),
        end: number(row, "end").unwrap_or(0.0),
        frames: number(row, "pictures").unwrap_or(0.0) as u64,
    };
    let options = CutOptions {
        crf: config.clips.crf,
        preset: config.clips.preset.clone(),
        audio: false,
        limits: config.limits.clone(),
    };
    media::cut(&probe, &clip, Some(crop(row)), path, &options)
}

/// As PNG, so that nothing is lost, and without what cameras write beside the picture: where it was
/// taken, and by whom.
fn write_image(source: &Path, row: &Row, path: &Path, config: &config::Config) -> Result<()> {
    let image = media::still(source, &config.limits)?;
    let crop = crop(row);
    let image = imageops::crop_imm(&image, crop.x, crop.y, crop.width, crop.height).to_image();
    let mut png = Cursor::new(Vec::new());
    let encoded = DynamicImage::from(image).write_to(&mut png, ImageFormat::Png);
    encoded.map_err(|error| Error::Unusable {
        path: source.into(),
        problem: format!("cannot be written as PNG: {error}"),
    })?;
    output::write(path, png.get_ref())
}

/// A line of `manifest.jsonl`: what training needs to know of a kept clip or image.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// The file, from the folder of the manifest; without cut files, the source.
    path: &'a str,
    /// `video` or `image`.
    kind: &'a str,
    caption: &'a str,
    /// The highest tier; the tiers below hold it as well.
    tier: &'a str,
    /// How often to draw it, 1 on average.
    weight: f64,
    width: u32,
    height: u32,
    /// Pictures in the clip.
    frames: u64,
    /// Pictures a second.
    fps: f64,
    /// The part of the source, where the clip is not cut.
    #[serde(skip_serializing_if = "Option::is_none")]
    range: Option<Range>,
    id: &'a str,
}

#[derive(Debug, Serialize)]
struct Range {
    /// Seconds in the source.
    start: f64,
    end: f64,
    /// x, y, width and height in pixels of the source.
    crop: [u32; 4],
}

/// Writes `manifest.jsonl`: a line for each kept clip and image; with `cut` only for those whose files
/// are there. Some could not be written, and what an erasure lets be kept waits for a resumed run.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write_manifest(folder: &Path, plan: &Plan, cut: bool) -> Result<()> {
    let kept = |row: &&Row| is_kept(row) && !(cut && text(row, "file").is_empty());
    let mut lines = String::new();
    for row in plan.clips.iter().chain(&plan.images).filter(kept) {
        let file = text(row, "file");
        let value = |name: &str| number(row, name).unwrap_or(0.0);
        let crop = crop(row);
        let range = Range {
            start: value("start"),
            end: value("end"),
            crop: [crop.x, crop.y, crop.width, crop.height],
        };
        let line = Line {
            path: if file.is_empty() {
                text(row, "source_name")
            } else {
                file
            },
            kind: text(row, "kind"),
            caption: text(row, "caption"),
            tier: text(row, "tier"),
            weight: value("weight"),
            width: crop.width,
            height: crop.height,
            frames: value("pictures") as u64,
            fps: value("rate"),
            range: file.is_empty().then_some(range),
            id: text(row, "id"),
        };
        // A structure of plain values always serialises.
        lines += &serde_json::to_string(&line).unwrap_or_default();
        lines.push('\n');
    }
    output::write(&folder.join("manifest.jsonl"), lines.as_bytes())
}
