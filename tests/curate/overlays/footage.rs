//! Footage that ffmpeg synthesises, and its pictures as the stages see them.

use std::{path::Path, process::Command};

use burn_hunyuan_curate::Frame;
use image::RgbImage;

pub const WIDTH: u32 = 640;
pub const HEIGHT: u32 = 360;
/// Pictures a second.
pub const RATE: u32 = 8;

/// What was filmed, as a filter graph that gives pictures of [`WIDTH`] x [`HEIGHT`].
pub struct Footage {
    pub name: &'static str,
    pub graph: String,
    /// Whether the camera stands still.
    pub still: bool,
}

/// Patches of many sizes and some objects on them, 1280x720.
fn scene(seed: u32) -> String {
    let patches = |width: u32, strength: u32, seed: u32| {
        format!(
            "color=gray:s={width}x{}:r={RATE},noise=alls={strength}:all_seed={seed},\
             scale=1280:720:flags=bicubic,format=yuv420p",
            width * 9 / 16
        )
    };
    format!(
        "{}[a];{}[b];{}[c];[a][b]blend=all_mode=grainmerge[d];[d][c]blend=all_mode=grainmerge,\
         drawbox=180:120:150:260:0x806040:fill,drawbox=520:330:240:90:0x203050:fill,\
         drawbox=820:80:60:420:0xb0a890:fill,drawbox=600:150:90:90:0x202020:6,\
         drawbox=60:520:420:70:0x305030:fill",
        patches(32, 100, seed),
        patches(160, 70, seed + 1),
        patches(640, 40, seed + 2),
    )
}

/// A still picture of a fractal, 1280x720.
const FRACTAL: &str = "mandelbrot=s=1280x720:r=8:start_x=-0.745:start_y=0.11:start_scale=0.02:\
                       end_scale=0.02,trim=end_frame=1,loop=-1:1:0,setpts=N/8/TB";

/// All footage. `seed` varies what can vary.
pub fn all(seed: u32) -> Vec<Footage> {
    let footage = |name, still, graph: String| Footage { name, graph, still };
    let scene = |move_by: &str| format!("{},{move_by}", scene(10 * seed));
    let moving = |name, move_by: &str| footage(name, false, scene(move_by));
    let object = "testsrc2=s=120x90:r=8[object]";
    vec![
        moving("pan", "crop=640:360:60*t:100"),
        moving(
            "tilt of a dark scene",
            "crop=640:360:200:50*t,lutyuv=y=16+(val-16)*0.3",
        ),
        moving(
            "pan along a facade",
            "drawgrid=w=56:h=44:t=8:c=0x303030,crop=640:360:50*t:120",
        ),
        moving(
            "camera in the hand",
            "crop=640:360:'300+70*sin(2*t)+12*sin(9*t)':'180+60*cos(1.7*t)+9*cos(11*t)'",
        ),
        moving("roll", "rotate=0.1*t,crop=640:360"),
        moving(
            "zoom",
            "zoompan=z=1.3+0.08*it:x=(iw-iw/zoom)/2:y=(ih-ih/zoom)/2:d=1:fps=8:s=640x360",
        ),
        moving(
            "lens that darkens the edges",
            "crop=640:360:60*t:80,vignette=PI/3.2",
        ),
        footage(
            "pan over a fractal",
            false,
            format!("{FRACTAL},crop=640:360:40+50*t:30*t"),
        ),
        footage(
            "zoom into a fractal",
            false,
            "mandelbrot=s=640x360:r=8:start_scale=0.6:end_scale=0.05:end_pts=32,setpts=N/8/TB"
                .into(),
        ),
        footage(
            "bars that slide",
            false,
            "smptehdbars=s=640x360:r=8,scroll=h=0.02".into(),
        ),
        footage(
            "cells that live",
            false,
            format!(
                "life=s=160x90:r=8:seed={seed}:ratio=0.3:mold=20:life_color=#c0d0a0:\
                 death_color=#605040:mold_color=#202830,scale=640:360:flags=bicubic"
            ),
        ),
        footage(
            "rows that rise",
            false,
            format!("cellauto=s=160x90:r=8:seed={seed}:rule=110,scale=640:360:flags=bicubic"),
        ),
        footage(
            "still camera, moving object",
            true,
            format!(
                "{}[ground];{object};[ground][object]overlay=90*t:140",
                scene("crop=640:360:100:60")
            ),
        ),
        footage(
            "still camera, grain",
            true,
            scene("crop=640:360:300:150,noise=alls=8:allf=t"),
        ),
    ]
}

/// Writes four seconds of footage through a filter, with pictures laid over it, as H.264.
///
/// `filter` takes `[film]`, and `[1:v]`, `[2:v]`, … for the pictures.
pub fn write(graph: &str, pictures: &[&Path], filter: &str, file: &Path) {
    let mut ffmpeg = Command::new("ffmpeg");
    ffmpeg.args(["-nostdin", "-v", "error", "-y", "-f", "lavfi", "-i"]);
    // A graph of several chains has to name its end.
    ffmpeg.arg(format!("{graph},format=yuv420p"));
    for picture in pictures {
        ffmpeg.arg("-i").arg(picture);
    }
    ffmpeg.args(["-filter_complex", filter, "-t", "4", "-c:v", "libx264"]);
    ffmpeg.args([
        "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p", "-threads", "1",
    ]);
    let output = ffmpeg.arg(file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{graph} {filter}: {said}");
}

/// The pictures of a file at the analysis rate and size.
pub fn frames(file: &Path) -> Vec<Frame> {
    let output = Command::new("ffmpeg")
        .args(["-nostdin", "-v", "error", "-i"])
        .arg(file)
        .args([
            "-vf",
            &format!("fps={RATE},scale={WIDTH}:{HEIGHT}:flags=area"),
        ])
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let pictures = output.stdout.chunks_exact((3 * WIDTH * HEIGHT) as usize);
    let frame = |(i, picture): (usize, &[u8])| Frame {
        index: i as u64,
        time: i as f64 / f64::from(RATE),
        picture: RgbImage::from_raw(WIDTH, HEIGHT, picture.to_vec()).unwrap(),
    };
    pictures.enumerate().map(frame).collect()
}
