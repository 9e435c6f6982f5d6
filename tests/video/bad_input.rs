//! Files and frames that make no video: errors that name them.

use burn_hunyuan::video::{self, Error, Quality, VideoWriter};
use tempfile::TempDir;

use crate::pictures::{smooth, write};

#[test]
fn damaged_mp4_is_an_error() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.mp4");
    let frames: Vec<_> = (0..6).map(|i| smooth(64, 48, i)).collect();
    write(&path, &frames, 24.0);
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 7, 40, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        let result = video::open(&path).and_then(|v| v.collect::<video::Result<Vec<_>>>());
        let error = result
            .err()
            .unwrap_or_else(|| panic!("{length} bytes were enough"));
        assert!(error.to_string().contains("a.mp4"), "{error}");
    }
}

#[test]
fn frames_of_another_size_are_errors() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.gif");
    let mut writer = VideoWriter::create(&path, 16, 16, 24.0, Quality::default()).unwrap();
    writer.write(&smooth(16, 16, 0)).unwrap();
    assert!(matches!(
        writer.write(&smooth(16, 17, 0)),
        Err(Error::FrameSize { index: 1, .. })
    ));

    smooth(16, 16, 0).save(folder.path().join("0.png")).unwrap();
    smooth(18, 16, 0).save(folder.path().join("1.png")).unwrap();
    let mut reader = video::open(folder.path()).unwrap();
    assert!(reader.next().unwrap().is_ok());
    assert!(matches!(
        reader.next(),
        Some(Err(Error::FrameSize { index: 1, .. }))
    ));
    assert!(reader.next().is_none());
}

#[test]
fn unreadable_input_names_the_path() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("empty")).unwrap();
    for name in ["a.gif", "a.png", "a.mp4", "a.unknown"] {
        std::fs::write(at(name), "this is not a video").unwrap();
    }
    for name in [
        "nothing.mp4",
        "empty",
        "a.gif",
        "a.png",
        "a.mp4",
        "a.unknown",
    ] {
        let error = video::open(&at(name))
            .err()
            .unwrap_or_else(|| panic!("{name} was read"));
        assert!(error.to_string().contains(name), "{error}");
        println!("{error}");
    }
}
