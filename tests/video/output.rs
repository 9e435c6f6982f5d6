//! Targets: what is refused, replaced, and left behind.

use std::path::Path;

use burn_hunyuan::video::{Quality, VideoWriter};
use tempfile::TempDir;

use crate::pictures::{names, read, smooth};

#[test]
fn an_abandoned_writer_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    for name in ["a.mp4", "a.gif", "a.png", "frames/", "new/f%d.png"] {
        let path = folder.path().join(name);
        let mut writer = VideoWriter::create(&path, 32, 32, 24.0, Quality::default()).unwrap();
        writer.write(&smooth(32, 32, 0)).unwrap();
        drop(writer);
        assert!(
            names(folder.path()).is_empty(),
            "{name}: {:?}",
            names(folder.path())
        );

        let writer = VideoWriter::create(&path, 32, 32, 24.0, Quality::default()).unwrap();
        assert!(
            writer
                .finish()
                .unwrap_err()
                .to_string()
                .contains("no frames")
        );
        assert!(
            names(folder.path()).is_empty(),
            "{name}: {:?}",
            names(folder.path())
        );
    }
}

#[test]
fn replaces_an_older_video_only_when_complete() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.gif");
    std::fs::write(&path, "older").unwrap();
    let mut writer = VideoWriter::create(&path, 16, 16, 24.0, Quality::default()).unwrap();
    writer.write(&smooth(16, 16, 0)).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"older");
    writer.finish().unwrap();
    assert_eq!(read(&path).1.len(), 1);
    assert_eq!(names(folder.path()), ["a.gif"]);
}

#[test]
fn impossible_targets_are_errors_before_any_work() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("full")).unwrap();
    std::fs::write(at("full/x.txt"), "x").unwrap();
    std::fs::write(at("file"), "x").unwrap();
    let cases = [
        (at("a.avi"), (32, 32), 24.0, ".avi is not a format"),
        (at("a.mp4"), (33, 32), 24.0, "even sizes"),
        (at("a.mp4"), (8, 32), 24.0, "even sizes"),
        (at("a.mp4"), (32, 32), f64::NAN, "frame rate"),
        (at("a.mp4"), (32, 0), 24.0, "no pixels"),
        (at("a.gif"), (32, 32), 60.0, "50 frames"),
        (at("a.gif"), (70000, 32), 24.0, "65535"),
        (at("missing/a.mp4"), (32, 32), 24.0, "missing/a.mp4"),
        (at("file/a.png"), (32, 32), 24.0, "file/a.png"),
        (at("full"), (32, 32), 24.0, "not empty"),
        (
            "/dev/null.mp4/a.gif".into(),
            (32, 32),
            24.0,
            "/dev/null.mp4/a.gif",
        ),
    ];
    for (path, (width, height), fps, part) in cases {
        let result = VideoWriter::create(&path, width, height, fps, Quality::default());
        let error = result
            .err()
            .unwrap_or_else(|| panic!("{} was accepted", path.display()));
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(names(folder.path()), ["file", "full"]);
}

#[test]
#[cfg(target_os = "linux")]
fn devices_are_not_replaced() {
    let error = VideoWriter::create(Path::new("/dev/full"), 32, 32, 24.0, Quality::default());
    assert!(error.is_err());
    let folder = TempDir::new().unwrap();
    let link = folder.path().join("a.gif");
    std::os::unix::fs::symlink("/dev/full", &link).unwrap();
    let error = VideoWriter::create(&link, 32, 32, 24.0, Quality::default())
        .err()
        .unwrap();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}
