//! Optical flow against OpenCV (`tests/reference/flow.py`), and the motion of drawn footage.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_hunyuan_curate::{
    Frame, config,
    motion::{Config, Farneback, FarnebackConfig, Motion, measure},
};
use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use crate::{
    common::{Fixture, device, fixture_path, values},
    drawn::{Texture, film},
};

/// OpenCV's parameters by their names there.
fn parameters(values: &serde_json::Value) -> FarnebackConfig {
    let number = |key: &str| values[key].as_f64().unwrap();
    FarnebackConfig {
        pyr_scale: number("pyr_scale"),
        levels: number("levels") as usize,
        winsize: number("winsize") as usize,
        iterations: number("iterations") as usize,
        poly_n: number("poly_n") as usize,
        poly_sigma: number("poly_sigma"),
        gaussian: number("flags") != 0.0,
    }
}

/// Pictures of a scene, f32 `[n, height, width]`.
fn pictures(luma: &[u8], shape: [usize; 3], device: &Device) -> Tensor<3> {
    let values: Vec<f32> = luma.iter().map(|v| f32::from(*v)).collect();
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}

/// Compares every scene of a fixture by every set of parameters.
fn check(name: &str) {
    let Some(device) = device() else { return };
    let fixture = Fixture::open(&format!("{name}.safetensors"));
    let column = image::open(fixture_path(&format!("{name}.png"))).unwrap();
    let mut column = column.to_luma8().into_raw();
    let config = fixture.config();
    let step = config["step"].as_u64().unwrap() as usize;
    for scene in config["scenes"].as_array().unwrap() {
        let shape = [1, 2, 3].map(|i| scene[i].as_u64().unwrap() as usize);
        let [_, height, width] = shape;
        let rest = column.split_off(shape.iter().product());
        let pictures = pictures(&column, shape, &device);
        column = rest;
        for (key, described) in config["parameters"].as_object().unwrap() {
            let farneback = Farneback::new(&parameters(described), [height, width], &device);
            let flow = farneback.unwrap().flow(pictures.clone());
            let flow = every(every(flow, 2, step), 3, step);
            let key = format!("{}.{key}", scene[0].as_str().unwrap());
            let expected = fixture.tensor::<4>(&key, &device);
            assert_eq!(flow.dims(), expected.dims());
            let distance = (flow - expected.clone()).powi_scalar(2).sum_dim(1).sqrt();
            let length = expected.powi_scalar(2).sum_dim(1).sqrt();
            let mean = |x: &Tensor<4>| values(&x.clone().mean())[0];
            let (error, flow) = (mean(&distance), mean(&length));
            println!(
                "{name} {key}: mean flow {flow:.2} px, mean end-point difference {error:.1e} px"
            );
            assert!(error <= 1e-3, "{name} {key}: {error} px");
        }
    }
}

/// Every `step`-th position along an axis, from the middle of the first step.
fn every(x: Tensor<4>, axis: usize, step: usize) -> Tensor<4> {
    let device = x.device();
    let last = x.dims()[axis];
    let index: Vec<i32> = (step / 2..last).step_by(step).map(|i| i as i32).collect();
    x.select(axis, Tensor::from_data(&index[..], &device))
}

#[test]
fn flow_is_opencv_s() {
    check("flow");
}

#[test]
#[ignore = "needs the fixture that `python tests/reference/flow.py compare VIDEO…` writes"]
fn flow_of_real_videos_is_opencv_s() {
    check("flow_compared");
}

#[test]
fn odd_parameters() {
    let Some(device) = device() else { return };
    let refused = |change: fn(&mut FarnebackConfig), problem: &str| {
        let mut config = FarnebackConfig::default();
        change(&mut config);
        let error = Farneback::new(&config, [64, 64], &device).unwrap_err();
        assert!(error.to_string().contains(problem), "{error}");
    };
    // Of a single row there is nothing to see, and no harm done.
    let row = Farneback::new(&FarnebackConfig::default(), [1, 64], &device).unwrap();
    let flow = row.flow(Tensor::ones([2, 1, 64], (&device, DType::F32)));
    assert_eq!(values(&flow), vec![0.0; 128]);
    refused(|c| c.pyr_scale = 1.0, "pyr_scale");
    refused(|c| c.pyr_scale = f64::NAN, "pyr_scale");
    refused(|c| c.winsize = 1, "winsize");
    refused(|c| c.poly_n = 0, "poly_n");
    refused(|c| c.poly_sigma = -1.0, "poly_sigma");
    assert!(Farneback::new(&FarnebackConfig::default(), [0, 64], &device).is_err());
}

/// The motion of drawn footage at the analysis size.
fn motion(frames: &[Frame], device: &Device) -> Motion {
    measure(frames, &Config::default(), device).unwrap()
}

#[track_caller]
fn assert_near(what: &str, ours: f64, truth: f64, bound: f64) {
    println!("{what}: {ours:.4}, true {truth:.4}");
    assert!(
        (ours - truth).abs() <= bound,
        "{what}: {ours}, true {truth}"
    );
}

/// The surface moves by 0.08 and -0.03 diagonals a second, whatever its size or rate.
#[test]
fn speed_is_independent_of_resolution_and_frame_rate() {
    let Some(device) = device() else { return };
    let texture = Texture::new(1, 0.02);
    let truth = 0.08f64.hypot(0.03);
    for (size, rate) in [
        ([256, 144], 8.0),
        ([512, 288], 8.0),
        ([192, 108], 8.0),
        ([144, 256], 8.0),
        ([256, 144], 4.0),
        ([256, 144], 12.0),
    ] {
        let frames = film(size, rate, 1.5, |t, x, y| {
            texture.at(x - 0.08 * t, y + 0.03 * t)
        });
        let what = format!("speed at {size:?}, {rate} a second");
        assert_near(&what, motion(&frames, &device).speed, truth, 0.05 * truth);
    }
}

/// Growing and turning about a place beside the centre, which therefore moves.
#[test]
fn camera_movements_are_told_apart() {
    let Some(device) = device() else { return };
    let texture = Texture::new(2, 0.02);
    let (zoom, roll, [fixed_x, fixed_y]) = (0.12, -0.10, [-0.3, 0.2]);
    let frames = film([256, 144], 8.0, 1.0, |t, x, y| {
        let (sin, cos) = f64::sin_cos(roll * t);
        let scale = f64::exp(zoom * t);
        let (x, y) = (x - fixed_x, y - fixed_y);
        let across = fixed_x + (cos * x + sin * y) / scale;
        let down = fixed_y + (cos * y - sin * x) / scale;
        texture.at(across, down)
    });
    let motion = motion(&frames, &device);
    assert_near(
        "pan",
        motion.camera.pan,
        zoom * fixed_x - roll * fixed_y,
        0.002,
    );
    assert_near(
        "tilt",
        motion.camera.tilt,
        -zoom * fixed_y - roll * fixed_x,
        0.002,
    );
    assert_near("zoom", motion.camera.zoom, zoom, 0.004);
    assert_near("roll", motion.camera.roll, roll, 0.004);
    assert!(motion.camera.jitter < 0.005, "{motion:?}");
    assert!(motion.subject < 0.1 * motion.camera.speed, "{motion:?}");
}

/// A disc on moving ground: the ground is the camera's, the disc the subject's.
#[test]
fn subjects_are_told_from_the_camera() {
    let Some(device) = device() else { return };
    let (ground, disc) = (Texture::new(3, 0.02), Texture::new(4, 0.02));
    // Speeds of the ground and of the disc, to the left.
    let scene = |camera: f64, subject: f64| {
        let frames = film([256, 144], 8.0, 1.0, |t, x, y| {
            let of_disc = x + subject * t;
            match of_disc.hypot(y) < 0.15 {
                true => disc.at(of_disc, y),
                false => ground.at(x + camera * t, y),
            }
        });
        motion(&frames, &device)
    };
    let follows = scene(0.1, 0.0);
    assert_near("pan behind a subject", follows.camera.pan, 0.1, 0.003);
    let stands = scene(0.0, 0.1);
    assert_near("pan of a still camera", stands.camera.pan, 0.0, 0.003);
    // The disc covers a sixth of the picture.
    for motion in [&follows, &stands] {
        assert!((0.008..0.03).contains(&motion.subject), "{motion:?}");
        assert_eq!(motion.still, 0.0);
    }
    assert!(scene(0.1, 0.1).subject < 0.003);
}

/// A camera that shakes by 0.01 diagonals from picture to picture.
#[test]
fn shake_is_jitter() {
    let Some(device) = device() else { return };
    let texture = Texture::new(5, 0.02);
    let frames = film([256, 144], 8.0, 1.625, |t, x, y| {
        let side = if (t * 8.0).round() as i32 % 2 == 0 {
            0.01
        } else {
            0.0
        };
        texture.at(x + side, y)
    });
    // The speed goes from 0.08 to -0.08 and back: 0.16 off the mean of its neighbours.
    let motion = motion(&frames, &device);
    assert_near("jitter", motion.camera.jitter, 0.16, 0.01);
    assert_near("pan", motion.camera.pan, 0.0, 0.01);
}

/// Nothing moves but the noise of the camera, at the most that footage passes with.
#[test]
fn static_footage_is_static() {
    let Some(device) = device() else { return };
    for (seed, sigma) in [(6, 0.0), (7, 2.0), (8, 6.0)] {
        let texture = Texture::new(seed, 0.03);
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let mut frames = film([512, 288], 8.0, 1.0, |_, x, y| texture.at(x, y));
        for frame in &mut frames {
            for Rgb(pixel) in frame.picture.pixels_mut() {
                // Close to Gaussian: the sum of four uniform values has a variance of 1/3.
                let sum: f64 = (0..4).map(|_| random.random::<f64>() - 0.5).sum();
                let noise = sum * sigma * 3f64.sqrt();
                *pixel = [(f64::from(pixel[0]) + noise).round().clamp(0.0, 255.0) as u8; 3];
            }
        }
        let motion = motion(&frames, &device);
        println!("noise {sigma}: {motion:?}");
        assert_eq!(motion.still, 1.0);
        assert!(motion.speed < limit("motion_speed"));
        assert!(!motion.dynamic);
        assert_eq!(motion.repeated, if sigma == 0.0 { 1.0 } else { 0.0 });
    }
}

/// The bound that the first tier of the default configuration sets on a column.
fn limit(column: &str) -> f64 {
    let tier = &config::Config::default().tiers[0];
    let rule = tier.rules.iter().find(|rule| rule.column == column);
    rule.and_then(|rule| rule.min.or(rule.max)).unwrap()
}

/// Runs ffmpeg on an input.
fn ffmpeg(arguments: &str, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(arguments.split(' '))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        // It stops reading when it has enough.
        scope.spawn(move || stdin.write_all(input).ok());
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success());
    output.stdout
}

/// A clip at 24 a second, encoded and slowed by ffmpeg's `filter`, decoded at 8 a second.
fn slowed(frames: &[Frame], filter: &str) -> Vec<Frame> {
    let raw: Vec<u8> = frames
        .iter()
        .flat_map(|f| f.picture.as_raw().clone())
        .collect();
    let format = "-f rawvideo -pix_fmt rgb24 -s 256x144";
    let mkv = ffmpeg(
        &format!(
            "{format} -r 24 -i - -vf {filter} -r 24 -t 2 -c:v libx264 -crf 20 -pix_fmt yuv420p \
             -f matroska -"
        ),
        &raw,
    );
    let decoded = ffmpeg("-f matroska -i - -f rawvideo -pix_fmt rgb24 -", &mkv);
    let pictures = decoded.chunks_exact(256 * 144 * 3).enumerate().step_by(3);
    pictures
        .map(|(i, rgb)| Frame {
            index: i as u64,
            time: i as f64 / 24.0,
            picture: RgbImage::from_raw(256, 144, rgb.to_vec()).unwrap(),
        })
        .collect()
}

/// Footage slowed to a quarter: by repeating pictures it repeats, by mixing them it is slow.
#[test]
fn slow_motion_is_slow() {
    let Some(device) = device() else { return };
    let texture = Texture::new(9, 0.05);
    let frames = film([256, 144], 24.0, 2.0, |t, x, y| {
        texture.at(x + 0.018 * t, y)
    });
    let [original, repeating, mixing] = [
        "null",
        "setpts=4*PTS,fps=24",
        "setpts=4*PTS,minterpolate=fps=24:mi_mode=blend",
    ]
    .map(|filter| motion(&slowed(&frames, filter), &device));
    println!("{original:?}\n{repeating:?}\n{mixing:?}");
    let slowest = limit("motion_speed");
    assert!(original.speed > slowest && original.repeated == 0.0);
    assert!(repeating.speed < slowest && mixing.speed < slowest);
    assert!(repeating.repeated > limit("motion_repeated"));
}

/// By VBench's rule a pan of a tenth of the diagonal a second is dynamic, a slow one is not, at
/// every size.
#[test]
fn dynamic_degree() {
    let Some(device) = device() else { return };
    let texture = Texture::new(10, 0.05);
    // 6/256 of the shorter side from one eighth of a second to the next is 0.092 diagonals a second.
    for size in [[256, 144], [512, 288]] {
        let dynamic = |speed: f64| {
            let frames = film(size, 8.0, 2.0, |t, x, y| texture.at(x + speed * t, y));
            motion(&frames, &device).dynamic
        };
        assert!(dynamic(0.11));
        assert!(!dynamic(0.07));
    }
}

#[test]
fn pictures_of_different_sizes_are_refused() {
    let Some(device) = device() else { return };
    let mut frames = film([64, 48], 8.0, 0.5, |_, x, _| 300.0 * x);
    frames[2].picture = RgbImage::new(60, 48);
    let error = measure(&frames, &Config::default(), &device).unwrap_err();
    assert!(error.to_string().contains("(60, 48)"), "{error}");
}

/// Pictures without time between them, and too few, do no harm.
#[test]
fn broken_times() {
    let Some(device) = device() else { return };
    let texture = Texture::new(11, 0.05);
    let mut frames = film([128, 72], 8.0, 1.0, |t, x, y| texture.at(x + 0.1 * t, y));
    let whole = motion(&frames, &device);
    frames.insert(3, frames[2].clone());
    let doubled = motion(&frames, &device);
    assert_near("speed", doubled.speed, whole.speed, 1e-9);
    frames.truncate(1);
    assert_eq!(motion(&frames, &device).still, 1.0);
    frames.push(frames[0].clone());
    assert_eq!(motion(&frames, &device).still, 1.0);
}
