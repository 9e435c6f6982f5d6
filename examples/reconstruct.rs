//! The VAE alone, as an ordinary burn module: a clip to latents and back.
//!
//! cargo run --release --example reconstruct -- clip.mp4 out.mp4 [MODEL]

use std::path::Path;

use burn_hunyuan::{
    Result, Video,
    checkpoint::Model,
    device,
    pipeline::{frame_images, video_tensor},
    video,
};

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(input), Some(output)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: reconstruct INPUT OUTPUT [MODEL]");
        std::process::exit(2);
    };
    let device = device::open("auto")?;
    let model = match arguments.next() {
        Some(path) => Model::open(&[path])?,
        None => Model::tiny(&device)?,
    };
    let vae = model.vae()?.load(&device)?;

    // 4k+1 frames in height and width that are multiples of 8.
    let reader = video::open(Path::new(&input))?;
    let fps = reader.fps;
    let clip = video_tensor(reader.take(17), &device)?;
    let [_, _, frames, height, width] = clip.dims();
    let clip = clip.narrow(2, 0, (frames - 1) / 4 * 4 + 1);
    let clip = clip
        .narrow(3, 0, height / 8 * 8)
        .narrow(4, 0, width / 8 * 8);

    let latents = vae.encode(clip * 2.0 - 1.0).mode();
    println!("latents {:?}", latents.dims());
    let decoded = (vae.decode(latents) / 2.0 + 0.5).clamp(0.0, 1.0);
    let frames = frame_images(decoded).collect();
    Video { frames }.save(Path::new(&output), fps)
}
