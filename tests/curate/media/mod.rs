//! Probing and decoding, with good files and bad ones.

mod cut;

use std::{fs, os::unix::ffi::OsStrExt};

use burn_hunyuan_curate::{
    Error, Result,
    media::{DecodeOptions, Decoder, Limits, Picture, Probe, probe, still},
};
use tempfile::TempDir;

use crate::footage::{ffmpeg, probed, shots};

fn decode(probe: &Probe) -> (Vec<Picture>, Option<Error>) {
    let mut pictures = Vec::new();
    for picture in Decoder::open(probe, &DecodeOptions::default()).unwrap() {
        match picture {
            Ok(picture) => pictures.push(picture),
            Err(error) => return (pictures, Some(error)),
        }
    }
    (pictures, None)
}

fn problem<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn a_constant_rate() {
    let source = probed(&shots("shots.mp4"));
    let video = source.video().unwrap();
    assert_eq!((video.width, video.height, video.rotation), (400, 226, 0));
    assert_eq!(
        (video.codec.as_str(), video.pixel_format.as_str()),
        ("h264", "yuv420p")
    );
    assert_eq!(video.rate.to_string(), "24/1");
    assert!(!video.variable_rate && source.audio.is_none());
    assert_eq!(source.expected_frames(), Some(332));
    let (pictures, error) = decode(&source);
    assert!(error.is_none());
    assert_eq!(pictures.len(), 332);
    for (i, picture) in pictures.iter().enumerate() {
        assert_eq!(picture.index, i as u64);
        assert!((picture.time - i as f64 / 24.0).abs() < 1e-6);
    }
}

/// The true times: those that ffprobe lists, counted from the first.
#[test]
fn a_variable_rate() {
    let source = probed(&shots("variable.mkv"));
    let listed = std::process::Command::new("ffprobe")
        .args("-v error -select_streams v -show_entries frame=pts_time -of csv=p=0".split(' '))
        .arg(shots("variable.mkv"))
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let times: Vec<f64> = listed
        .split_ascii_whitespace()
        .map(|line| line.trim_end_matches(',').parse().unwrap())
        .collect();
    let (pictures, error) = decode(&source);
    assert!(error.is_none());
    assert_eq!(pictures.len(), times.len());
    for (picture, time) in pictures.iter().zip(&times) {
        assert!(
            (picture.time - (time - times[0])).abs() < 1e-9,
            "{} {time}",
            picture.time
        );
    }
    let steps: Vec<_> = times
        .windows(2)
        .map(|w| ((w[1] - w[0]) * 30.0).round() as u32)
        .collect();
    assert!(steps.contains(&1) && steps.contains(&4), "{steps:?}");
}

#[test]
fn a_turned_picture() {
    let source = probed(&shots("rotated.mp4"));
    let video = source.video().unwrap();
    assert_eq!((video.width, video.height, video.rotation), (120, 200, 90));
    let (pictures, _) = decode(&source);
    assert_eq!((pictures[0].width(), pictures[0].height()), (120, 200));
}

/// Four squares, black, red, white and blue: every reduction shows them, at odd sizes too.
#[test]
fn reductions() {
    let folder = TempDir::new().unwrap();
    let squares = "color=black:s=160x120,format=gbrp[a];color=red:s=161x120,format=gbrp[b];color=white:s=160x121,format=gbrp[c];\
                   color=blue:s=161x121,format=gbrp[d];[a][b]hstack[x];[c][d]hstack[y];[x][y]vstack[v]"
        .replace(char::is_whitespace, "");
    ffmpeg(
        &folder,
        &format!(
            "-filter_complex {squares} -map [v] -frames:v 2 -pix_fmt yuv420p -c:v ffv1 odd.mkv"
        ),
    );
    let (pictures, error) = decode(&probed(&folder.path().join("odd.mkv")));
    assert!(error.is_none());
    assert_eq!(pictures.len(), 2);
    let picture = &pictures[0];
    assert_eq!((picture.width(), picture.height()), (321, 241));
    let colours = [[0, 0, 0], [254, 0, 0], [255, 255, 255], [0, 0, 254]];
    let corners = |w: u32, h: u32| {
        [
            (w / 4, h / 4),
            (3 * w / 4, h / 4),
            (w / 4, 3 * h / 4),
            (3 * w / 4, 3 * h / 4),
        ]
    };
    for image in [
        picture.downscaled(256, 192),
        picture.reduced(64, 48),
        picture.reduced(321, 241),
    ] {
        let (w, h) = image.dimensions();
        for ((x, y), colour) in corners(w, h).into_iter().zip(colours) {
            let pixel = image.get_pixel(x, y).0;
            let near = pixel
                .iter()
                .zip(colour)
                .all(|(&a, b)| i32::from(a).abs_diff(b) <= 2);
            assert!(near, "{w}x{h} at {x},{y}: {pixel:?} for {colour:?}");
        }
    }
    let luma = picture.luma();
    assert_eq!(luma.dimensions(), (321, 241));
    let levels = corners(321, 241).map(|(x, y)| luma.get_pixel(x, y).0[0]);
    assert_eq!(levels[0], 0);
    assert_eq!(levels[2], 255);
    // BT.601: 76 for red, 29 for blue.
    assert!(
        levels[1].abs_diff(76) <= 1 && levels[3].abs_diff(29) <= 1,
        "{levels:?}"
    );
}

/// Area averages keep the mean of the picture.
#[test]
fn area_averages() {
    let (pictures, _) = decode(&probed(&shots("shots.mp4")));
    let mean = |bytes: &[u8]| bytes.iter().map(|&b| f64::from(b)).sum::<f64>() / bytes.len() as f64;
    for picture in pictures.iter().step_by(50) {
        let whole = mean(picture.reduced(400, 226).as_raw());
        let reduced = mean(picture.reduced(123, 77).as_raw());
        assert!((whole - reduced).abs() < 1.0, "{whole} {reduced}");
    }
}

#[test]
fn no_video() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    ffmpeg(&folder, "-f lavfi -i sine=d=0.5 sound.m4a");
    let sound = probed(&path("sound.m4a"));
    assert_eq!(sound.audio.as_ref().unwrap().codec, "aac");
    assert!(problem(sound.video().map(|_| ())).contains("audio but no video"));

    fs::write(path("empty.mp4"), "").unwrap();
    fs::write(path("text.mp4"), "not a film").unwrap();
    for name in ["empty.mp4", "text.mp4"] {
        let said = problem(probe(&path(name), &Limits::default()));
        assert!(
            said.contains(name) && said.contains("ffprobe says: "),
            "{said}"
        );
    }
    let said = problem(probe(&path("absent.mp4"), &Limits::default()));
    assert!(said.contains("absent.mp4"), "{said}");
    assert!(problem(probe(folder.path(), &Limits::default())).contains("not a file"));
}

/// A truncated file gives its pictures up to there, and then ffmpeg's words.
#[test]
fn a_truncated_file() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("half.mkv");
    let whole = fs::read(shots("variable.mkv")).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let (pictures, _) = decode(&probed(&path));
    assert!((50..237).contains(&pictures.len()), "{}", pictures.len());

    let mut damaged = whole;
    let middle = damaged.len() / 2;
    damaged[middle..middle + 20_000].fill(0x55);
    fs::write(&path, &damaged).unwrap();
    let (pictures, error) = decode(&probed(&path));
    assert!(pictures.len() > 50, "{}", pictures.len());
    let said = error.unwrap().to_string();
    assert!(
        said.contains("half.mkv: ffmpeg decoded") && said.len() < 4000,
        "{said}"
    );
}

/// A playlist is no video: it would make ffmpeg read other files.
#[test]
fn a_file_that_names_others() {
    let folder = TempDir::new().unwrap();
    let victim = shots("shots.mp4");
    let victim = victim.canonicalize().unwrap();
    let victim = victim.display();
    let texts = [
        (
            "list.m3u8",
            format!("#EXTM3U\n#EXTINF:1,\nfile://{victim}\n#EXT-X-ENDLIST\n"),
        ),
        (
            "list.ffconcat",
            format!("ffconcat version 1.0\nfile '{victim}'\n"),
        ),
        (
            "list.mp4",
            format!("ffconcat version 1.0\nfile '{victim}'\n"),
        ),
    ];
    for (name, text) in texts {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        assert!(probe(&path, &Limits::default()).is_err(), "{name}");
    }
}

#[test]
fn hostile_names() {
    let folder = TempDir::new().unwrap();
    let names: [&[u8]; 7] = [
        b"-i.mp4",
        b"http:x.mp4",
        b"pipe:0",
        b"a b'c\"d;e$(f).mp4",
        b"%03d.mp4",
        b"line\nbreak.mp4",
        b"not\xffutf8.mp4",
    ];
    for name in names {
        let path = folder.path().join(std::ffi::OsStr::from_bytes(name));
        fs::copy(shots("rotated.mp4"), &path).unwrap();
        let (pictures, error) = decode(&probed(&path));
        assert!(
            error.is_none() && pictures.len() == 349,
            "{path:?} {error:?}"
        );
    }
}

#[test]
fn limits() {
    let source = probed(&shots("shots.mp4"));
    let open = |limits: Limits| Decoder::open(&source, &DecodeOptions { threads: 1, limits });
    let few = Limits {
        pixels: 400 * 226 - 1,
        ..Limits::default()
    };
    assert!(problem(probe(&source.path, &few)).contains("400x226"));
    assert!(open(few).is_err());

    let no_time = Limits {
        seconds: 0,
        ..Limits::default()
    };
    let mut decoder = open(no_time).unwrap();
    // The watchdog needs a moment; a pipe holds a few pictures.
    let said = decoder.find_map(|picture| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        picture.err()
    });
    assert!(said.unwrap().to_string().contains("took too long"));

    let no_memory = Limits {
        memory: 1 << 20,
        ..Limits::default()
    };
    assert!(open(no_memory).unwrap().any(|picture| picture.is_err()));
}

#[test]
fn stills() {
    let folder = TempDir::new().unwrap();
    ffmpeg(
        &folder,
        "-f lavfi -i color=red:s=33x21,format=rgb24 -frames:v 1 a.png",
    );
    ffmpeg(
        &folder,
        "-f lavfi -i color=red:s=33x21,format=rgb24 -frames:v 1 -q:v 1 a.jpg",
    );
    fs::rename(folder.path().join("a.png"), folder.path().join("b.jpg")).unwrap();
    for name in ["a.jpg", "b.jpg"] {
        let image = still(&folder.path().join(name), &Limits::default()).unwrap();
        assert_eq!(image.dimensions(), (33, 21));
        let [r, g, b] = image.get_pixel(16, 10).0;
        assert!(r > 250 && g < 5 && b < 5, "{name}: {r} {g} {b}");
    }
    let limits = Limits {
        pixels: 600,
        ..Limits::default()
    };
    assert!(problem(still(&folder.path().join("a.jpg"), &limits)).contains("33x21"));
    fs::write(folder.path().join("c.png"), "no image").unwrap();
    assert!(still(&folder.path().join("c.png"), &Limits::default()).is_err());
}
