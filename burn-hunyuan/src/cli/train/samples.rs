//! Samples of a transformer in training.

use std::path::Path;

use burn::tensor::Device;
use burn_hunyuan_dit::{Dit, DitConfig};
use burn_hunyuan_train::{
    contact_sheet,
    dit::{Sampler, SamplesConfig},
};

use crate::{
    checkpoint::{Component, Model},
    cli::options::ModelOptions,
    error::{Error, Result},
    pipeline::{Pipeline, PromptCondition, Request, TINY_FPS, frame_images},
    video::{DEFAULT_FPS, Quality, VideoWriter},
};

/// What generates the samples that `config` asks for; `None` where it asks for none.
///
/// The prompts are encoded here, once, so that no text encoder is in memory during training.
///
/// # Errors
/// A model that does not go with a transformer of `sizes`, or cannot be loaded; a size that cannot
/// be generated.
pub(super) fn sampler(
    config: &SamplesConfig,
    sizes: &DitConfig,
    device: &Device,
) -> Result<Option<Sampler>> {
    if config.prompts.is_empty() {
        return Ok(None);
    }
    let options = ModelOptions {
        model: config.model.clone(),
        vae: config.vae.clone(),
        ..ModelOptions::default()
    };
    let model = options.open(device, false)?;
    check(&model, sizes)?;
    let requests: Vec<Request> = (0..)
        .zip(&config.prompts)
        .map(|(i, prompt)| request(config, i, prompt))
        .collect();
    requests.iter().try_for_each(Request::validate)?;

    let mut pipeline = Pipeline::new(model, device.clone())?;
    let encode = |pipeline: &mut Pipeline, prompt: &str| pipeline.encode_prompt(prompt);
    let conditions: Vec<_> = requests
        .iter()
        .map(|request| encode(&mut pipeline, &request.prompt))
        .collect::<Result<_>>()?;
    let empty = match config.cfg > 1.0 {
        true => Some(encode(&mut pipeline, "")?),
        false => None,
    };
    pipeline.free(Component::TextEncoder);
    pipeline.free(Component::TextEncoder2);
    let told: Vec<_> = requests.into_iter().zip(conditions).collect();
    let fps = match options.is_tiny() {
        true => TINY_FPS,
        false => DEFAULT_FPS,
    };
    Ok(Some(Box::new(move |transformer, folder| {
        let empty = empty.as_ref();
        let written = write(&mut pipeline, transformer, &told, empty, fps, folder);
        // Training goes on after a failure too, and needs the memory.
        pipeline.free(Component::Transformer);
        pipeline.free(Component::Vae);
        Ok(written?)
    })))
}

/// A clip of each prompt as `prompt-0.mp4`, …, and all of them on `sheet.png`.
fn write(
    pipeline: &mut Pipeline,
    transformer: Dit,
    prompts: &[(Request, PromptCondition)],
    empty: Option<&PromptCondition>,
    fps: f64,
    folder: &Path,
) -> Result<()> {
    let mut rows = Vec::with_capacity(prompts.len());
    pipeline.set_transformer(transformer);
    let mut clips = Vec::with_capacity(prompts.len());
    for (request, condition) in prompts {
        clips.push(pipeline.denoise(request, condition, empty)?);
    }
    pipeline.free(Component::Transformer);
    for (i, latents) in clips.into_iter().enumerate() {
        let mut frames = Vec::new();
        pipeline.decode(latents, &mut |stretch| {
            frames.extend(frame_images(stretch));
            Ok(())
        })?;
        if let Some(first) = frames.first() {
            let path = folder.join(format!("prompt-{i}.mp4"));
            let (width, height) = first.dimensions();
            let quality = Quality::default();
            let mut video = VideoWriter::create(&path, width, height, fps, quality)?;
            frames.iter().try_for_each(|frame| video.write(frame))?;
            video.finish()?;
        }
        rows.push(frames);
    }
    Ok(contact_sheet::write(&folder.join("sheet.png"), &rows)?)
}

/// Each prompt has noise of its own, the same at every step.
fn request(config: &SamplesConfig, index: u64, prompt: &str) -> Request {
    let [height, width] = config.size;
    Request {
        guidance: config.guidance,
        cfg: config.cfg,
        ..Request::new(prompt)
            .with_size(height, width)
            .with_frames(config.frames)
            .with_steps(config.steps)
            .with_seed(config.seed.wrapping_add(index))
    }
}

/// Refuses encoders and a VAE that are not of the transformer's model.
fn check(model: &Model, sizes: &DitConfig) -> Result<()> {
    let parts = [
        (
            "latent channels",
            model.vae()?.config.latent_channels,
            sizes.in_channels,
        ),
        (
            "text channels",
            model.text_encoder()?.config.hidden,
            sizes.text_dim,
        ),
        (
            "pooled channels",
            model.text_encoder_2()?.config.hidden,
            sizes.pooled_dim,
        ),
    ];
    match parts.iter().find(|(_, found, needed)| found != needed) {
        None => Ok(()),
        Some((what, found, needed)) => Err(Error::Unusable(format!(
            "samples.model has {found} {what}, but the transformer takes {needed}; name the model \
             that the shards were cached with, or give no samples.prompts"
        ))),
    }
}
