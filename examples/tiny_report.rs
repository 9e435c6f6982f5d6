//! How often the built-in model shows what the prompt says, read from the pixels, over
//! combinations of shape, colour and motion that its training never saw; and how well its VAE
//! reconstructs such clips.
//!
//! cargo run --release --example tiny_report -- [PROMPTS]

use std::{ops::ControlFlow, time::Instant};

use burn::tensor::{Device, FloatDType};
use burn_hunyuan::{
    Pipeline, Request,
    checkpoint::{Model, load_module},
    device,
};
use burn_hunyuan_train::{
    data::{ClipRequest, SynthClips},
    synth::{
        Scene,
        check::{Facts, check},
        held_out_scene, plain_caption,
    },
    vae::evaluate,
};
use image::RgbImage;

/// Decides the scenes; training had another.
const SEED: u64 = 2024;

/// What is counted.
const FACTS: [&str; 5] = ["colour", "motion", "shape", "background", "all four"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prompts = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 256,
    };
    let device = device::open("flex")?;
    let model = Model::tiny(&device)?;
    let psnr = reconstruction(&model, prompts, &device)?;

    let mut pipeline = Pipeline::new(model, device)?.with_keep_loaded(true);
    let (mut right, mut seconds) = ([0.0; FACTS.len()], Vec::new());
    for index in 0..prompts as u64 {
        let scene = held_out_scene(SEED, index);
        let prompt = plain_caption(&scene);
        let request = Request::tiny(&prompt).with_seed(index);
        let start = Instant::now();
        let video = pipeline.generate(&request)?;
        seconds.push(start.elapsed().as_secs_f64());

        let seen = check(&values(&video.frames), request.height, request.width);
        let facts = seen.map_or([false; FACTS.len()], |seen| compare(seen, &scene));
        for (right, fact) in right.iter_mut().zip(facts) {
            *right += f64::from(fact);
        }
        if facts.contains(&false) {
            println!("{prompt} (seed {index}): {seen:?}");
        }
    }

    println!("\n| {prompts} held-out prompts | right |\n| --- | --- |");
    for (fact, right) in FACTS.iter().zip(right) {
        println!("| {fact} | {:.1} % |", 100.0 * right / prompts as f64);
    }
    seconds.sort_by(f64::total_cmp);
    println!("\nVAE, clips of such scenes: {psnr:.2} dB PSNR");
    println!("One video: {:.2} s (median)", seconds[prompts / 2]);
    Ok(())
}

/// Which facts are as the scene has them.
fn compare(seen: Facts, scene: &Scene) -> [bool; FACTS.len()] {
    let colour = seen.colour == scene.colour;
    let motion = seen.motion == scene.motion;
    let shape = seen.shape == scene.shape;
    let background = seen.background == scene.background.colour;
    let all = colour && motion && shape && background;
    [colour, motion, shape, background, all]
}

/// RGB in [0, 1], `[frames, height, width, 3]`.
fn values(frames: &[RgbImage]) -> Vec<f32> {
    let bytes = frames.iter().flat_map(|frame| frame.as_raw());
    bytes.map(|&byte| f32::from(byte) / 255.0).collect()
}

/// The VAE's mean PSNR over `count` clips, in dB.
fn reconstruction(
    model: &Model,
    count: usize,
    device: &Device,
) -> Result<f64, Box<dyn std::error::Error>> {
    let part = model.vae()?;
    let go_on = &mut |_, _| ControlFlow::Continue(());
    let vae = load_module(
        part.config.init(device),
        &part.weights,
        FloatDType::F32,
        go_on,
    )?;
    let request = Request::tiny("");
    let mut clips = SynthClips {
        seed: SEED,
        held_out: true,
        scene_frames: request.frames,
    };
    let request = ClipRequest {
        first: 0,
        count: 1,
        frames: request.frames,
        size: [request.height, request.width],
        frame_interval: 1,
    };
    Ok(evaluate(&vae, &mut clips, &request, count, None, device)?.psnr)
}
