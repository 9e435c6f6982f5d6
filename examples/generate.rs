//! A video from a prompt, with a model given on the command line or the one inside the library.
//!
//! cargo run --release --example generate -- "A cat walks on the grass." cat.mp4 [MODEL]

use std::ops::ControlFlow;

use burn_hunyuan::{Pipeline, Request, checkpoint::Model, device};

fn main() -> burn_hunyuan::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let prompt = arguments
        .next()
        .unwrap_or("A cat walks on the grass.".into());
    let output = arguments.next().unwrap_or("cat.mp4".into());

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
    let request = Request::new(prompt)
        .with_size(128, 128)
        .with_frames(17)
        .with_steps(10);
    pipeline.generate(&request)?.save(output.as_ref(), 24.0)
}
