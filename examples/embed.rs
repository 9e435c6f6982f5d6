//! HunyuanVideo inside a burn program of one's own: its tensors at every step, on any device.
//!
//! cargo run --release --example embed

use burn::tensor::Tensor;
use burn_hunyuan::{Pipeline, Request, checkpoint::Model, device};

fn main() -> burn_hunyuan::Result<()> {
    let device = device::open("auto")?;
    let mut pipeline = Pipeline::new(Model::tiny(&device)?, device)?;
    let request = Request::new("a red circle")
        .with_size(64, 64)
        .with_frames(9)
        .with_steps(4);

    // What the text encoders make of two prompts: the transformer is shown the tokens of both.
    let left = pipeline.encode_prompt("a red circle moves left")?;
    let mut both = pipeline.encode_prompt("a red circle moves up")?;
    both.states = Tensor::cat(vec![both.states, left.states], 1);
    both.pooled = (both.pooled + left.pooled) / 2.0;

    // Latents are an ordinary tensor between denoising and decoding.
    let latents = pipeline.denoise(&request, &both, None)?;
    println!("latents {:?}", latents.dims());
    let mirrored: Tensor<5> = latents.flip([4]);
    pipeline.decode(mirrored, &mut |frames| {
        let mean = frames.clone().mean().into_scalar::<f32>();
        println!("frames {:?}, mean {mean:.3}", frames.dims());
        Ok(())
    })
}
