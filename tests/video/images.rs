//! Single images, folders of them, and the values they come from.

use burn_hunyuan::video;
use tempfile::TempDir;

use crate::pictures::{names, read, smooth, write};

#[test]
fn png_names_and_order() {
    let folder = TempDir::new().unwrap();
    let frames: Vec<_> = (0..12).map(|i| smooth(33, 17, i)).collect();
    let at = |name: &str| folder.path().join(name);

    write(&at("frames/"), &frames, 24.0);
    assert_eq!(names(&at("frames"))[..2], ["00000.png", "00001.png"]);
    assert!(read(&at("frames")).1 == frames);

    write(&at("one.png"), &frames[..1], 24.0);
    assert!(read(&at("one.png")).1 == frames[..1]);
    write(&at("many.png"), &frames[..2], 24.0);
    write(&at("pattern/f%02d-x.png"), &frames[..2], 24.0);
    assert_eq!(names(&at("pattern")), ["f00-x.png", "f01-x.png"]);
    let expected = [
        "frames",
        "many-00000.png",
        "many-00001.png",
        "one.png",
        "pattern",
    ];
    assert_eq!(names(folder.path()), expected);

    // Numbers without leading zeros.
    std::fs::create_dir(at("natural")).unwrap();
    for (i, frame) in frames.iter().enumerate() {
        frame
            .save(at("natural").join(format!("take2 {i}.png")))
            .unwrap();
    }
    assert!(read(&at("natural")).1 == frames);
}

#[test]
fn transparency_is_blended_over_black() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.png");
    let pixels = vec![200, 100, 50, 255, 200, 100, 50, 0, 200, 100, 50, 51];
    image::RgbaImage::from_raw(3, 1, pixels)
        .unwrap()
        .save(&path)
        .unwrap();
    assert_eq!(
        read(&path).1[0].as_raw()[..],
        [200, 100, 50, 0, 0, 0, 40, 20, 10]
    );
}

#[test]
fn planar_values_become_bytes() {
    let values = [0.0, 1.0, -1.0, 2.0, 0.5 / 255.0, 254.5 / 255.0];
    let frame = video::frame_from_planar(&values, 2, 1).unwrap();
    assert_eq!(frame.as_raw()[..], [0, 0, 1, 255, 255, 255]);
    assert!(video::frame_from_planar(&values, 3, 1).is_none());
}
