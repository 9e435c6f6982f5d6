//! Files that something is wrong with: each is told in its row, and the run goes on.

use std::{
    fs,
    ops::ControlFlow,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use burn_hunyuan_curate::{
    privacy, report,
    run::{self, Plan, Request},
    tables::{Row, text},
};
use image::RgbImage;

use super::{config, curate, only, request};
use crate::films;

/// Pictures too small for a clip are an error of their source, and the run goes on.
#[test]
fn tiny_pictures_are_told() {
    let (footage, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let at = |name: &str| footage.path().join(name);
    let sizes = [(1, 1), (300, 1), (1, 40), (3, 1), (2, 2), (2, 50), (90, 3)];
    for (width, height) in sizes {
        let name = format!("{width}x{height}");
        RgbImage::new(width, height)
            .save(at(&format!("{name}.png")))
            .unwrap();
        let source = format!("testsrc=s={name}:d=1:r=8,format=yuv444p");
        let done = Command::new("ffmpeg")
            .args(["-v", "error", "-f", "lavfi", "-i", &source, "-c:v", "ffv1"])
            .arg(at(&format!("{name}.mkv")))
            .status();
        assert!(done.unwrap().success(), "{name}");
    }
    let Some(request) = request(footage.path(), out.path(), config()) else {
        return;
    };
    curate(&request);
    let plan = Plan::read(out.path()).unwrap();
    assert_eq!(plan.sources.len(), 2 * sizes.len());
    for (width, height) in sizes {
        for kind in ["png", "mkv"] {
            let name = format!("/{width}x{height}.{kind}");
            let row = plan
                .sources
                .iter()
                .find(|row| text(row, "name").ends_with(&name));
            let error = text(row.unwrap(), "error");
            let expected = match width.min(height) {
                1 => format!("pictures of {width}x{height}; at least 2x2 pixels are needed"),
                _ => String::new(),
            };
            assert_eq!(error, expected, "{name}");
        }
    }
    assert_eq!(plan.images.len(), 3);
}

/// Where the program itself fails, the file at which it did has the error, and the others their rows.
#[test]
fn a_fault_at_one_file_does_not_stop_the_others() {
    let (footage, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for seed in [84, 85] {
        let path = footage.path().join(format!("{seed}.png"));
        films::ground(seed).save(path).unwrap();
    }
    let Some(request) = request(footage.path(), out.path(), config()) else {
        return;
    };
    // No file is known to make it fail; the observer of its reading can.
    let fails = AtomicBool::new(true);
    let observer = |progress: run::Progress| {
        let first = progress.stage == run::Stage::Ingest && fails.swap(false, Ordering::Relaxed);
        assert!(!first, "on purpose");
        ControlFlow::Continue(())
    };
    let one_by_one = Request { jobs: 1, ..request };
    let record = run::curate(&one_by_one, &observer).unwrap();
    assert_eq!(record.counts.unwrap().sources_with_errors, 1);
    let plan = Plan::read(out.path()).unwrap();
    let error = |row: &Row| text(row, "error").to_string();
    let mut errors: Vec<String> = plan.sources.iter().map(error).collect();
    errors.sort();
    assert_eq!(errors[0], "");
    assert!(errors[1].contains("fault of the program"), "{errors:?}");
    assert!(!text(only(&plan.images, "85.png"), "tier").is_empty());
    // The fault is gone: the file is taken in.
    let resumed = Request {
        resume: true,
        ..one_by_one
    };
    let counts = curate(&resumed).counts.unwrap();
    assert_eq!((counts.sources, counts.images), (2, 2));
    assert_eq!(counts.sources_with_errors, 0);
}

/// A clip that cannot be written is counted and told.
#[test]
fn clips_that_cannot_be_written_are_counted() {
    let (footage, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for seed in [82, 83] {
        let path = footage.path().join(format!("{seed}.png"));
        films::ground(seed).save(path).unwrap();
    }
    let Some(request) = request(footage.path(), out.path(), config()) else {
        return;
    };
    // The file goes when it has been measured.
    let observer = |progress: run::Progress| {
        if progress.stage == run::Stage::Plan {
            let _ = fs::remove_file(footage.path().join("82.png"));
        }
        ControlFlow::Continue(())
    };
    let record = run::curate(&request, &observer).unwrap();
    assert_eq!(record.counts.unwrap().files_with_errors, 1);
    let plan = Plan::read(out.path()).unwrap();
    let told = text(only(&plan.images, "82.png"), "file_error");
    assert!(told.contains("cannot read it"), "{told}");
    let manifest = || fs::read_to_string(out.path().join("manifest.jsonl")).unwrap();
    assert_eq!(manifest().lines().count(), 1);
    // Nor has it a line once the tables are made anew without the other.
    let other = footage.path().join("83.png");
    let other = other.to_string_lossy();
    privacy::erase(out.path(), None, &other, &request.device).unwrap();
    let plan = Plan::read(out.path()).unwrap();
    assert_ne!(text(only(&plan.images, "82.png"), "tier"), "");
    assert_eq!(manifest(), "");
}

/// A film is not decoded to its end when nothing can be written of it.
#[test]
fn an_output_that_fails_ends_the_film() {
    let (footage, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = "testsrc2=size=240x136:rate=24:duration=24";
    let done = Command::new("ffmpeg")
        .args([
            "-v", "error", "-f", "lavfi", "-i", source, "-c:v", "libx264",
        ])
        .args(["-preset", "ultrafast", "-pix_fmt", "yuv420p"])
        .arg(footage.path().join("film.mp4"))
        .status();
    assert!(done.unwrap().success());
    let mut config = config();
    config.clips.longest = 1.0;
    config.transitions.longest = 1.0;
    let Some(request) = request(footage.path(), out.path(), config) else {
        return;
    };
    let thumbnails = out.path().join("thumbnails");
    let furthest = Mutex::new(0.0_f64);
    let result = run::curate(&request, &|progress| {
        if progress.stage == run::Stage::Measure {
            let _ = fs::remove_dir_all(&thumbnails);
            let mut furthest = furthest.lock().unwrap();
            *furthest = furthest.max(progress.done as f64 / progress.total as f64);
        }
        ControlFlow::Continue(())
    });
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("cannot write") && error.contains("thumbnails"),
        "{error}"
    );
    // Three clips of a second are on their way at most, and four seconds are kept back.
    let furthest = furthest.into_inner().unwrap();
    assert!(0.1 < furthest && furthest < 0.5, "{furthest}");
}

#[test]
fn hostile_names_stay_within_the_output() {
    let folder = tempfile::tempdir().unwrap();
    let inputs = folder.path().join("in");
    let out = folder.path().join("out");
    films::write(&inputs.join("a.mp4"), &films::take(41, 1.0, 60.0));
    let names = [
        "-i.mp4",
        "concat:a.mp4|b.mp4",
        "%2e%2e%2f%2e%2e%2fescape.mp4",
        "a'; touch escaped; '.mp4",
        "$(touch escaped).mp4",
        "<script>alert(1)<.mp4",
        "new\nline.mp4",
    ];
    for (name, seed) in names.iter().zip(42..) {
        let path = inputs.join(if name.ends_with(".mp4") {
            name.to_string()
        } else {
            format!("{name}.mp4")
        });
        films::write(&inputs.join("next.mp4"), &films::take(seed, 1.0, 60.0));
        fs::rename(inputs.join("next.mp4"), &path).unwrap();
        fs::write(
            path.with_extension("json"),
            r#"{"id": "../../escape", "caption": "<b>"}"#,
        )
        .unwrap();
    }
    let Some(request) = request(&inputs, &out, config()) else {
        return;
    };
    curate(&request);
    let plan = Plan::read(&out).unwrap();
    assert_eq!(plan.clips.len(), names.len() + 1, "{:#?}", plan.sources);
    let entries = |folder: &Path| fs::read_dir(folder).unwrap().count();
    assert_eq!(
        entries(folder.path()),
        2,
        "the input and the output, nothing else"
    );
    assert_eq!(entries(&inputs), 2 * names.len() + 1);
    let page = report::write(&out).unwrap();
    assert!(!fs::read_to_string(page).unwrap().contains("<script>"));
}
