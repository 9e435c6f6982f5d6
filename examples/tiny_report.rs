//! How often the built-in model shows what the prompt says, read from the pixels, over
//! combinations of shape, colour and motion that its training never saw; and how well its VAE
//! reconstructs such clips.
//!
//! cargo run --release --example tiny_report
//! cargo run --release --example tiny_report -- --transformer runs/tiny-dit/transformer

use std::{path::PathBuf, time::Instant};

use burn::tensor::{Device, Tensor, TensorData};
use burn_hunyuan::{
    Pipeline, Request,
    checkpoint::{Component, Model},
    device,
};
use burn_hunyuan_train::synth::{
    Scene,
    check::{Facts, check},
    held_out_scene, plain_caption, render,
};
use burn_hunyuan_vae::{Vae, quality::psnr};
use clap::Parser;
use image::RgbImage;

/// What is counted.
const FACTS: [&str; 5] = ["colour", "motion", "shape", "background", "all four"];

/// How often the built-in model shows what the prompt says.
#[derive(Parser)]
struct Options {
    /// Number of prompts, and of clips for the VAE
    #[arg(long, default_value_t = 256)]
    prompts: usize,
    /// Another VAE than the built-in one
    #[arg(long, value_name = "PATH")]
    vae: Option<PathBuf>,
    /// Another transformer than the built-in one
    #[arg(long, value_name = "PATH")]
    transformer: Option<PathBuf>,
    /// Guidance scale [default: the built-in model's]
    #[arg(long)]
    cfg: Option<f64>,
    /// Decides the scenes; training had another
    #[arg(long, default_value_t = 2024)]
    seed: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let prompts = options.prompts;
    let device = device::open("flex")?;
    let mut model = Model::tiny(&device)?;
    if let Some(path) = &options.vae {
        model.replace(Component::Vae, path)?;
    }
    if let Some(path) = &options.transformer {
        model.replace(Component::Transformer, path)?;
    }
    let vae = model.vae()?.load(&device)?;
    let mut pipeline = Pipeline::new(model, device.clone())?.with_keep_loaded(true);

    let (mut generated, mut reconstructed) = ([0.0; FACTS.len()], [0.0; FACTS.len()]);
    let (mut psnrs, mut seconds) = (Vec::new(), Vec::new());
    for index in 0..prompts as u64 {
        let scene = held_out_scene(options.seed, index);
        let prompt = plain_caption(&scene);
        let defaults = Request::tiny(&prompt).with_seed(index);
        let request = Request {
            cfg: options.cfg.unwrap_or(defaults.cfg),
            ..defaults
        };
        let (height, width) = (request.height, request.width);
        let start = Instant::now();
        let video = pipeline.generate(&request)?;
        seconds.push(start.elapsed().as_secs_f64());
        let seen = check(&values(&video.frames), height, width);
        add(&mut generated, seen, &scene);
        if compare(seen, &scene).contains(&false) {
            println!("{prompt} (seed {index}): {seen:?}");
        }

        let clip = render(&scene, request.frames, height, width);
        let copy = reconstruct(&vae, &clip, [request.frames, height, width], &device)?;
        add(&mut reconstructed, check(&copy, height, width), &scene);
        psnrs.push(psnr(&clip, &copy));
    }

    println!("\n| {prompts} held-out prompts | generated | reconstructed by the VAE |");
    println!("| --- | --- | --- |");
    let percent = |right: f64| 100.0 * right / prompts as f64;
    for ((fact, generated), reconstructed) in FACTS.iter().zip(generated).zip(reconstructed) {
        let (generated, reconstructed) = (percent(generated), percent(reconstructed));
        println!("| {fact} | {generated:.1} % | {reconstructed:.1} % |");
    }
    seconds.sort_by(f64::total_cmp);
    let mean = psnrs.iter().sum::<f64>() / prompts as f64;
    println!("\nVAE, clips of such scenes: {mean:.2} dB PSNR");
    println!("One video: {:.2} s (median)", seconds[prompts / 2]);
    Ok(())
}

/// Counts which facts are as the scene has them.
fn add(right: &mut [f64; FACTS.len()], seen: Option<Facts>, scene: &Scene) {
    for (right, fact) in right.iter_mut().zip(compare(seen, scene)) {
        *right += f64::from(fact);
    }
}

/// Which facts are as the scene has them; none, where nothing is seen.
fn compare(seen: Option<Facts>, scene: &Scene) -> [bool; FACTS.len()] {
    let Some(seen) = seen else {
        return [false; FACTS.len()];
    };
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

/// Encodes and decodes a clip, `[frames, height, width, 3]` in [0, 1].
fn reconstruct(
    vae: &Vae,
    clip: &[f32],
    [frames, height, width]: [usize; 3],
    device: &Device,
) -> Result<Vec<f32>, Box<dyn std::error::Error>> {
    let data = TensorData::new(clip.to_vec(), [1, frames, height, width, 3]);
    let video = Tensor::<5>::from_data(data, device).permute([0, 4, 1, 2, 3]);
    let copy = vae.decode(vae.encode(video * 2.0 - 1.0).mean);
    let copy = (copy.permute([0, 2, 3, 4, 1]) + 1.0) / 2.0;
    Ok(copy.clamp(0.0, 1.0).into_data().try_to_vec()?)
}
