//! A video from a prompt, with a model given on the command line or the one inside the library.
//!
//! cargo run --release --example generate -- [PROMPT [OUTPUT [MODEL]]]

use std::ops::ControlFlow;

use burn_hunyuan::{Pipeline, Request, checkpoint::Model, device, pipeline::TINY_FPS};

fn main() -> burn_hunyuan::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let prompt = arguments
        .next()
        .unwrap_or("a red circle moves left over a blue background".into());
    let output = arguments.next().unwrap_or("video.mp4".into());

    let device = device::open("auto")?;
    let model = match arguments.next() {
        Some(path) => Model::open(&[path])?,
        None => Model::tiny(&device)?,
    };
    let mut pipeline = Pipeline::new(model, device)?.with_observer(|progress| {
        println!(
            "{}: {} of {}",
            progress.stage.label(),
            progress.done,
            progress.total
        );
        ControlFlow::Continue(())
    });
    let request = Request::tiny(prompt);
    pipeline.generate(&request)?.save(output.as_ref(), TINY_FPS)
}
