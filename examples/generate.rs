//! A video from a prompt, with a model given on the command line or the one inside the library.
//! After SECONDS, if they are given, it is cancelled. MODEL may be "" for the one inside.
//!
//! cargo run --release --example generate -- [PROMPT [OUTPUT [MODEL [SECONDS]]]]

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use burn_hunyuan::{
    Error, Pipeline, Request, checkpoint::Model, device, pipeline::TINY_FPS, video::DEFAULT_FPS,
};

fn main() -> burn_hunyuan::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let prompt = arguments
        .next()
        .unwrap_or("a red circle moves left over a blue background".into());
    let output = arguments.next().unwrap_or("video.mp4".into());
    let path = arguments.next().filter(|path| !path.is_empty());
    let seconds = arguments.next().and_then(|seconds| seconds.parse().ok());

    let device = device::open("auto")?;
    let (model, request, fps) = match path {
        Some(path) => (Model::open(&[path])?, Request::new(prompt), DEFAULT_FPS),
        None => (Model::tiny(&device)?, Request::tiny(prompt), TINY_FPS),
    };
    let end = seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    let mut pipeline = Pipeline::new(model, device)?.with_observer(move |progress| {
        println!(
            "{}: {} of {}",
            progress.stage.label(),
            progress.done,
            progress.total
        );
        match end {
            Some(end) if Instant::now() > end => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    match pipeline.generate(&request) {
        Err(Error::Cancelled) => println!("the time is up"),
        video => video?.save(output.as_ref(), fps)?,
    }
    Ok(())
}
