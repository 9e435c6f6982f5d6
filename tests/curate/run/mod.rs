//! The whole pipeline: footage in, decisions with their reasons out.

mod faults;
mod privacy;
mod requests;
mod shots;

use std::{fs, ops::ControlFlow, path::Path};

use burn_hunyuan_curate::{
    config::Config,
    media::{Limits, probe},
    report,
    run::{self, Plan, Record, Request},
    tables::{Row, number, text},
    tiers,
};
use image::{DynamicImage, RgbImage, RgbaImage, imageops};
use tempfile::TempDir;

use crate::{
    common, films,
    footage::ffmpeg,
    overlays::letters::{self, Backing, Look},
};

/// The default rules, but for lower sizes, since the films are small, and for blur: they are low in
/// contrast, where steps of eight bits pass for detail. Sharp films measure 0.38 to 0.40, blurred
/// ones 0.45.
fn config() -> Config {
    let mut config = Config::default();
    for rule in config.tiers.iter_mut().flat_map(|tier| &mut tier.rules) {
        if rule.column == "short_side" {
            rule.min = rule.min.map(|side| side * 0.6);
        }
        if rule.column == "clarity_blur" {
            rule.max = Some(0.42);
        }
    }
    config.privacy.date = Some("2026-11-21".parse().unwrap());
    config
}

/// A folder with every kind of footage.
fn footage() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let shots: Vec<_> = (1..=3).map(|seed| films::take(seed, 3.0, 60.0)).collect();
    films::write(&at("shots.mp4"), &shots.concat());
    films::write(&at("other.mp4"), &films::take(4, 3.0, 60.0));
    films::write(&at("long.mp4"), &films::take(5, 12.5, 60.0));
    films::write(&at("short.mp4"), &films::take(6, 1.0, 60.0));
    films::write(&at("still.mp4"), &films::take(7, 3.0, 0.0));
    films::write(&at("slow.mp4"), &films::take(8, 3.0, 0.6));
    films::filtered(&at("other.mp4"), &at("copy.mp4"), "scale=304:172", 30);
    films::write(&at("sharp.mp4"), &films::take(9, 3.0, 60.0));
    films::filtered(&at("sharp.mp4"), &at("blurred.mp4"), "gblur=5", 16);
    fs::remove_file(at("sharp.mp4")).unwrap();
    films::write(&at("wide.mp4"), &films::take(10, 3.0, 60.0));
    let bars = "pad=456:336:0:40";
    films::filtered(&at("wide.mp4"), &at("letterbox.mp4"), bars, 16);
    fs::remove_file(at("wide.mp4")).unwrap();
    films::write(&at("subtitled.mp4"), &subtitled(films::take(13, 3.0, 60.0)));
    fs::copy(at("other.mp4"), at("same.mp4")).unwrap();
    films::ground(11).save(at("picture.png")).unwrap();
    let small = image::imageops::thumbnail(&films::ground(12), 160, 90);
    small.save(at("small.jpg")).unwrap();
    let whole = fs::read(at("long.mp4")).unwrap();
    fs::write(at("cut-off.mp4"), &whole[..whole.len() / 2]).unwrap();
    fs::write(at("no-film.mp4"), "this is a text").unwrap();
    fs::write(at("empty.mkv"), "").unwrap();
    ffmpeg(&folder, "-f lavfi -i sine=d=0.5 sound.mp4");
    fs::write(at("no-image.png"), "this is another text").unwrap();
    folder
}

/// Upper edge of the subtitle, in pixels.
const SUBTITLE: f32 = 218.0;

/// The pictures with a line of text burnt in.
fn subtitled(pictures: Vec<RgbImage>) -> Vec<RgbImage> {
    let look = Look {
        color: [255; 3],
        alpha: 1.0,
        backing: Backing::Outline,
        height: 18.0,
    };
    let (width, height) = films::SIZE;
    let text = "WHERE ARE WE GOING";
    let left = (width as f32 - letters::width(text, look.height)) / 2.0;
    let mut line = RgbaImage::new(width, height);
    letters::write(&mut line, text, left, SUBTITLE, look);
    let burn = |picture| {
        let mut picture = DynamicImage::ImageRgb8(picture).into_rgba8();
        imageops::overlay(&mut picture, &line, 0, 0);
        DynamicImage::ImageRgba8(picture).into_rgb8()
    };
    pictures.into_iter().map(burn).collect()
}

fn request(inputs: &Path, output: &Path, config: Config) -> Option<Request> {
    Some(Request {
        inputs: vec![inputs.into()],
        output: output.into(),
        config,
        jobs: 2,
        resume: false,
        cut: true,
        device: common::device()?,
    })
}

fn curate(request: &Request) -> Record {
    run::curate(request, &|_| ControlFlow::Continue(())).unwrap()
}

/// The rows that come from the file with this name.
fn from<'a>(rows: &'a [Row], name: &str) -> Vec<&'a Row> {
    rows.iter()
        .filter(|row| text(row, "source_name").ends_with(name))
        .collect()
}

/// The only row that comes from a file.
fn only<'a>(rows: &'a [Row], name: &str) -> &'a Row {
    let rows = from(rows, name);
    assert_eq!(rows.len(), 1, "{name}: {rows:#?}");
    rows[0]
}

#[test]
fn footage_comes_out_sorted_with_reasons() {
    let (footage, out) = (footage(), tempfile::tempdir().unwrap());
    let Some(request) = request(footage.path(), out.path(), config()) else {
        return;
    };
    let record = curate(&request);
    let plan = Plan::read(out.path()).unwrap();
    let clips = &plan.clips;

    let shots = from(clips, "shots.mp4");
    let ends: Vec<f64> = shots
        .iter()
        .map(|row| number(row, "end_picture").unwrap())
        .collect();
    assert_eq!(ends, [72.0, 144.0, 216.0]);
    let other = only(clips, "other.mp4");
    for row in shots.iter().copied().chain([other]) {
        assert!(!text(row, "tier").is_empty(), "{row:#?}");
        assert!(number(row, "weight").unwrap() > 0.0);
    }
    let long = from(clips, "long.mp4");
    let seconds: Vec<f64> = long
        .iter()
        .map(|row| number(row, "seconds").unwrap())
        .collect();
    assert!(
        seconds.len() == 2 && seconds.iter().all(|s| *s <= 10.0),
        "{seconds:?}"
    );

    // Each of these has one fault.
    for (name, stage, column) in [
        ("short.mp4", "length", "seconds"),
        ("still.mp4", "motion", "motion_"),
        ("slow.mp4", "motion", "motion_"),
        ("copy.mp4", "duplicates", "duplicate_of"),
        ("blurred.mp4", "clarity", "clarity_blur"),
    ] {
        let row = only(clips, name);
        let reason = text(row, "reason");
        assert_eq!(text(row, "stage"), stage, "{name}: {row:#?}");
        assert!(reason.starts_with(column), "{name}: {reason}");
    }
    let copy = only(clips, "copy.mp4");
    assert_eq!(
        text(copy, "duplicate_of"),
        text(other, "id"),
        "the larger copy stays"
    );

    let letterbox = only(clips, "letterbox.mp4");
    assert_eq!(text(letterbox, "overlays_decision"), "crop");
    let height = number(letterbox, "crop_height").unwrap();
    let top = number(letterbox, "crop_y").unwrap();
    assert!((244.0..=256.0).contains(&height) && (40.0..=50.0).contains(&top));

    let subtitled = only(clips, "subtitled.mp4");
    assert_eq!(number(subtitled, "overlays_subtitles"), Some(1.0));
    assert_eq!(text(subtitled, "overlays_decision"), "crop");
    let bottom = number(subtitled, "crop_y").unwrap() + number(subtitled, "crop_height").unwrap();
    assert!((180.0..=f64::from(SUBTITLE)).contains(&bottom), "{bottom}");

    assert_eq!(text(only(&plan.images, "picture.png"), "tier"), "512");
    let small = only(&plan.images, "small.jpg");
    assert!(text(small, "reason").starts_with("short_side is 90"));

    errors_stand_in_rows(&plan);
    files_are_those_of_kept_rows(out.path(), &plan);
    let counts = record.counts.clone().unwrap();
    assert_eq!(counts.sources, 18);
    assert_eq!(counts.identical_sources, 1);
    assert_eq!(counts.video_funnel[0].before, clips.len());
    assert_eq!(Record::read(out.path()).unwrap(), Some(record));

    let story = tiers::explain(out.path(), text(copy, "id")).unwrap();
    assert!(
        story.contains("FAILS  duplicates") && story.contains(text(other, "id")),
        "{story}"
    );
    let page = report::write(out.path()).unwrap();
    let page = fs::read_to_string(page).unwrap();
    assert!(page.contains("data:image/jpeg;base64,"));
    // From the first tier and, of what is in it, from the next ones.
    for heading in [
        "Rejected from 256p: duplicates, duplicate_of",
        "Rejected from 360p: clarity",
    ] {
        assert!(page.contains(heading), "{heading}");
    }
    for outside in ["http://", "https://", "<script", "<link"] {
        let page = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains(outside), "the page asks for {outside}");
    }
}

fn errors_stand_in_rows(plan: &Plan) {
    let source = |name: &str| {
        let mut rows = plan
            .sources
            .iter()
            .filter(|row| text(row, "name").ends_with(name));
        rows.next().unwrap()
    };
    for name in ["cut-off.mp4", "no-film.mp4", "empty.mkv", "no-image.png"] {
        assert!(!text(source(name), "error").is_empty(), "{name}");
    }
    let sound = text(source("sound.mp4"), "error");
    assert_eq!(sound, "holds audio but no video");
    for name in ["other.mp4", "same.mp4", "picture.png"] {
        assert_eq!(text(source(name), "error"), "", "{name}");
    }
    let identical = text(source("same.mp4"), "identical_to");
    assert!(identical.ends_with("other.mp4"), "{identical}");
    assert!(
        from(&plan.clips, "same.mp4").is_empty(),
        "identical files are worked on once"
    );
}

/// The cut clips hold the pictures that their rows say, and nothing else is there.
fn files_are_those_of_kept_rows(out: &Path, plan: &Plan) {
    let manifest = fs::read_to_string(out.join("manifest.jsonl")).unwrap();
    let mut lines = manifest.lines();
    let mut files = 0;
    for row in plan.clips.iter().chain(&plan.images) {
        let file = text(row, "file");
        assert_eq!(file.is_empty(), text(row, "tier").is_empty(), "{row:#?}");
        if file.is_empty() {
            continue;
        }
        files += 1;
        let line: serde_json::Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert_eq!(line["path"], file);
        assert_eq!(line["tier"], row["tier"]);
        if let Some(pictures) = number(row, "pictures").filter(|_| file.ends_with(".mp4")) {
            let video = probe(&out.join(file), &Limits::default())
                .unwrap()
                .video
                .unwrap();
            assert_eq!(video.frames, Some(pictures as u64), "{file}");
            let size = (video.width.into(), video.height.into());
            assert_eq!(
                Some(size),
                number(row, "crop_width").zip(number(row, "crop_height"))
            );
        }
    }
    assert_eq!(lines.next(), None);
    let written = |folder: &str| fs::read_dir(out.join(folder)).unwrap().count();
    assert_eq!(written("clips") + written("images"), files);
    assert_eq!(written("thumbnails"), plan.clips.len() + plan.images.len());
}
