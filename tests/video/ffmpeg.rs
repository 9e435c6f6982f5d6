//! Against ffmpeg, in both directions.

use std::{path::Path, process::Command};

use burn_hunyuan::video::RgbImage;
use tempfile::TempDir;

use crate::pictures::{patch_difference, patches, psnr, read, smooth, write};

/// Whether to run what needs ffmpeg; says so when not.
fn has_ffmpeg() -> bool {
    let found = Command::new("ffmpeg")
        .arg("-version")
        .output()
        .is_ok_and(|o| o.status.success());
    if !found {
        println!("skipped: ffmpeg is not on the PATH");
    }
    found
}

fn ffmpeg(args: &[&str]) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-y"])
        .args(args)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

/// The frames as ffmpeg decodes them.
fn ffmpeg_frames(path: &Path, width: u32, height: u32) -> Vec<RgbImage> {
    let path = path.to_str().unwrap();
    let bytes = ffmpeg(&["-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]);
    let size = (3 * width * height) as usize;
    assert_eq!(bytes.len() % size, 0);
    bytes
        .chunks(size)
        .map(|c| RgbImage::from_raw(width, height, c.to_vec()).unwrap())
        .collect()
}

#[test]
fn ffmpeg_decodes_our_mp4() {
    if !has_ffmpeg() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("a.mp4");
    let frames: Vec<_> = (0..50).map(|i| smooth(320, 192, i)).collect();
    write(&path, &frames, 24.0);
    let decoded = ffmpeg_frames(&path, 320, 192);
    assert_eq!(decoded.len(), 50);
    for (a, b) in frames.iter().zip(&decoded) {
        let psnr = psnr(a, b);
        assert!(psnr >= 35.0, "{psnr:.1} dB");
    }

    write(&folder.path().join("p.mp4"), &[patches()], 24.0);
    let decoded = ffmpeg_frames(&folder.path().join("p.mp4"), 256, 64);
    let difference = patch_difference(&patches(), &decoded[0]);
    assert!(difference <= 3, "{difference}");

    let shown = "stream=codec_name,codec_tag_string,avg_frame_rate,nb_frames,duration,\
                 color_range,color_space,color_primaries,color_transfer";
    let probe = Command::new("ffprobe")
        .args(["-v", "error", "-show_entries", shown, "-of", "default=nw=1"])
        .arg(&path)
        .output()
        .unwrap();
    let probe = String::from_utf8(probe.stdout).unwrap();
    for line in [
        "codec_name=h264",
        "codec_tag_string=avc1",
        "color_range=tv",
        "color_space=bt709",
        "color_primaries=bt709",
        "color_transfer=bt709",
        "avg_frame_rate=24/1",
        "nb_frames=50",
        "duration=2.083333",
    ] {
        assert!(probe.lines().any(|l| l == line), "{line} missing:\n{probe}");
    }
    let probe = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-show_entries",
            "packet=flags",
            "-of",
            "csv=p=0",
        ])
        .arg(&path)
        .output()
        .unwrap();
    let probe = String::from_utf8(probe.stdout).unwrap();
    let keyframes: Vec<_> = probe
        .lines()
        .enumerate()
        .filter(|(_, l)| l.starts_with('K'))
        .map(|(i, _)| i)
        .collect();
    assert_eq!(keyframes, [0, 24, 48]);
}

#[test]
fn reads_mp4_of_other_programs_like_ffmpeg() {
    if !has_ffmpeg() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let source = "testsrc2=size=324x178:rate=30:duration=2,format=yuv420p";
    let bt709 = [
        "-colorspace",
        "bt709",
        "-color_primaries",
        "bt709",
        "-color_trc",
        "bt709",
    ];
    let cases: [(&str, &[&str]); 6] = [
        (
            "b-frames",
            &["-profile:v", "high", "-bf", "3", "-b_strategy", "0"],
        ),
        (
            "b-pyramid",
            &[
                "-bf",
                "5",
                "-x264-params",
                "b-pyramid=normal:ref=4:weightp=2",
            ],
        ),
        ("baseline", &["-profile:v", "baseline"]),
        (
            "open-gop",
            &["-x264-params", "open-gop=1:keyint=12:bframes=3"],
        ),
        ("bt709", &bt709),
        (
            "full-range",
            &["-color_range", "pc", "-vf", "scale=out_range=full"],
        ),
    ];
    for (name, options) in cases {
        let path = folder.path().join(format!("{name}.mp4"));
        let mut args = vec![
            "-f", "lavfi", "-i", source, "-c:v", "libx264", "-pix_fmt", "yuv420p",
        ];
        args.extend(options);
        args.push(path.to_str().unwrap());
        ffmpeg(&args);
        let (fps, ours) = read(&path);
        let theirs = ffmpeg_frames(&path, 324, 178);
        assert_eq!((fps, ours.len()), (30.0, theirs.len()), "{name}");
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            // Its conversion to RGB rounds coarsely; neighbouring frames are 30 dB apart.
            let psnr = psnr(a, b);
            assert!(psnr >= 45.0, "{name}, frame {i}: {psnr:.1} dB");
        }
    }
}

#[test]
fn leaves_other_video_to_ffmpeg() {
    if !has_ffmpeg() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let source = "testsrc2=size=96x64:rate=24000/1001:duration=1";
    let cases: [(&str, &[&str]); 4] = [
        (
            "10-bit.mp4",
            &["-c:v", "libx264", "-pix_fmt", "yuv420p10le"],
        ),
        (
            "fragmented.mp4",
            &["-c:v", "libx264", "-movflags", "frag_keyframe+empty_moov"],
        ),
        (
            "interlaced.mp4",
            &["-c:v", "libx264", "-pix_fmt", "yuv420p", "-flags", "+ildct"],
        ),
        ("a.mkv", &["-c:v", "ffv1", "-pix_fmt", "bgr0"]),
    ];
    for (name, options) in cases {
        let path = folder.path().join(name);
        let mut args = vec!["-f", "lavfi", "-i", source];
        args.extend(options);
        args.push(path.to_str().unwrap());
        ffmpeg(&args);
        let (fps, ours) = read(&path);
        let theirs = ffmpeg_frames(&path, 96, 64);
        assert!((fps - 24000.0 / 1001.0).abs() < 1e-3, "{name}: {fps}");
        assert!(ours == theirs, "{name}");
    }
}

#[test]
fn honours_edit_lists_and_rotation() {
    if !has_ffmpeg() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let [whole, cut, rotated] =
        ["whole", "cut", "rotated"].map(|n| folder.path().join(format!("{n}.mp4")));
    let [whole, cut, rotated] = [&whole, &cut, &rotated].map(|p| p.to_str().unwrap());
    let source = "testsrc2=size=96x64:rate=24:duration=2";
    let coded = [
        "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "24", "-bf", "2",
    ];
    ffmpeg(&[&["-f", "lavfi", "-i", source], &coded[..], &[whole]].concat());
    // From within a group of pictures: the file keeps the frames before, its edit list hides them.
    ffmpeg(&["-ss", "0.5", "-i", whole, "-t", "1", "-c", "copy", cut]);
    ffmpeg(&[
        "-i",
        whole,
        "-c",
        "copy",
        "-metadata:s:v",
        "rotate=90",
        rotated,
    ]);

    let ours = read(Path::new(cut)).1;
    let theirs = ffmpeg_frames(Path::new(cut), 96, 64);
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert!(psnr(a, b) >= 45.0);
    }
    assert_eq!(read(Path::new(rotated)).1[0].dimensions(), (64, 96));
}
