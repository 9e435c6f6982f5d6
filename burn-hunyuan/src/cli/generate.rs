//! `burn-hunyuan generate`.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Tensor};
use burn_hunyuan_text::PROMPT_TOKENS;
use clap::Args;

use super::{
    memory::MemoryOptions,
    options::{LoraArgument, ModelOptions, RunOptions, Size},
    print,
    watch::Watch,
};
use crate::{
    checkpoint::Component,
    error::{Error, Result},
    pipeline::{Pipeline, PromptCondition, Request, TINY_FPS, frame_images},
    tensors::{TensorFile, load_tensor},
    video::{self, Quality, VideoWriter},
};

#[derive(Debug, Args)]
pub(super) struct Generate {
    /// What the video shows
    #[arg(
        long,
        required_unless_present = "prompt_file",
        conflicts_with = "prompt_file"
    )]
    prompt: Option<String>,
    /// Read the prompts from this file, one on each line
    #[arg(long, value_name = "FILE")]
    prompt_file: Option<PathBuf>,
    /// What to avoid; takes effect with --cfg above 1 [default: none; "" for the
    /// built-in model]
    #[arg(long, value_name = "TEXT")]
    negative_prompt: Option<String>,
    /// Height and width in pixels, multiples of 16 [default: 720x1280; 64x64 for the built-in
    /// model]
    #[arg(long, value_name = "HxW")]
    size: Option<Size>,
    /// Number of frames, 4k+1 [default: 129; 17 for the built-in model]
    #[arg(long)]
    frames: Option<usize>,
    /// Number of denoising steps [default: 50; 20 for the built-in model]
    #[arg(long)]
    steps: Option<usize>,
    /// Embedded guidance scale of guidance-distilled models
    #[arg(long, default_value_t = 6.0)]
    guidance: f64,
    /// True classifier-free guidance scale; above 1 it doubles the work [default: 1; 5 for the
    /// built-in model]
    #[arg(long)]
    cfg: Option<f64>,
    /// Shift of the noise schedule [default: the model's, else 7]
    #[arg(long)]
    flow_shift: Option<f64>,
    /// Reuse the blocks' work of an earlier step where the first block changes by no more than this
    /// part of it: faster and less exact; 0.1 is usual [default: off]
    #[arg(long, value_name = "X")]
    cache_threshold: Option<f64>,
    /// Encode every prompt anew; else prompts that were encoded before are taken from the user's cache
    /// folder, and need no text encoder
    #[arg(long)]
    no_prompt_cache: bool,
    /// Seed of the initial noise [default: random, and printed]
    #[arg(long)]
    seed: Option<u64>,
    /// Number of videos for each prompt, with consecutive seeds
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    num_videos: u16,
    /// Frames per second of the file [default: 24; 8 for the built-in model]
    #[arg(long)]
    fps: Option<f64>,
    /// The file to write: .mp4, .gif or .png; a name without an extension is a folder of PNG files
    #[arg(long, short, value_name = "PATH")]
    output: PathBuf,
    /// Quality of an mp4, from 0 (smallest file) to 100 (nearly lossless)
    #[arg(long, default_value_t = Quality::default().0, value_parser = clap::value_parser!(u8).range(..=100))]
    quality: u8,
    /// Start from the tensor `latents` of this safetensors file instead of noise
    #[arg(long, value_name = "FILE")]
    init_latents: Option<PathBuf>,
    /// Write prompt_embeds, prompt_mask, pooled, latents and frames to this safetensors file
    #[arg(long, value_name = "FILE")]
    save_tensors: Option<PathBuf>,
    /// Add a LoRA to the transformer, with a strength other than 1 if given; repeatable
    #[arg(long, value_name = "FILE[:STRENGTH]", help_heading = "Model")]
    lora: Vec<LoraArgument>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    run: RunOptions,
    #[command(flatten)]
    memory: MemoryOptions,
}

/// One video to be made.
struct Job {
    request: Request,
    output: PathBuf,
}

/// A job and its prompt.
type Prompted = (Job, PromptCondition);

impl Generate {
    pub fn run(self) -> Result<()> {
        let mut requests = self.requests()?;
        if requests.len() > 1 && (self.init_latents.is_some() || self.save_tensors.is_some()) {
            let message = "--init-latents and --save-tensors work with one video at a time";
            return Err(Error::Request(message.into()));
        }
        let without_effect =
            |request: &Request| request.cfg > 1.0 && request.effective_negative_prompt().is_none();
        if requests.iter().any(without_effect) {
            tracing::warn!(
                "--cfg does nothing without --negative-prompt, which may be \"\" (as in the reference)"
            );
        }
        // Everything that can fail for the user's sake fails before a weight is read.
        let pipeline = self.run.pipeline(&self.model, &self.lora)?;
        let mut pipeline = self
            .memory
            .apply(pipeline)?
            .with_prompt_cache(self.prompt_cache());
        if let (Some(path), [request]) = (&self.init_latents, requests.as_mut_slice()) {
            request.init_latents = Some(load_tensor::<5>(path, "latents", pipeline.device())?);
        }
        for request in &requests {
            pipeline.check(request)?;
        }
        // They differ in prompt and seed only.
        if let Some(request) = requests.first()
            && let Some(plan) = pipeline.fit(request)?
            && self.memory.vram_limit.is_some()
            && !self.run.quiet
        {
            eprintln!("{plan}");
        }
        let (mut pipeline, watch) = Watch::attach(pipeline, self.run.quiet);
        let jobs = self.jobs(requests);
        for job in &jobs {
            drop(self.writer(job)?);
        }
        let tensors = self.save_tensors.as_deref().map(TensorFile::create);
        let tensors = tensors.transpose()?;

        let (jobs, negative) = self.encode(&mut pipeline, jobs)?;
        self.make(&mut pipeline, &watch, &jobs, negative.as_ref(), tensors)?;
        watch.summarise();
        Ok(())
    }

    /// Denoises and writes the videos. Denoising takes long: what has come through it is written even
    /// when the rest fails or is interrupted.
    fn make(
        &self,
        pipeline: &mut Pipeline,
        watch: &Watch,
        jobs: &[Prompted],
        negative: Option<&PromptCondition>,
        mut tensors: Option<TensorFile>,
    ) -> Result<()> {
        // Where components do not stay, the transformer is loaded once for all.
        let at_once = match self.run.keep_loaded {
            true => 1,
            false => jobs.len(),
        };
        let mut written = 0;
        for some in jobs.chunks(at_once) {
            let (mut denoised, mut failure) = (Vec::new(), None);
            for (job, prompt) in some {
                match pipeline.denoise(&job.request, prompt, negative) {
                    Ok(latents) => denoised.push(latents),
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
            pipeline.free(Component::Transformer);
            if let Some(Error::Cancelled) = failure {
                watch.go_on();
            }
            if let (Some(error), false) = (&failure, denoised.is_empty()) {
                tracing::warn!("{error}; what is denoised is still written");
            }
            for ((job, prompt), latents) in some.iter().zip(denoised) {
                match self.finish(pipeline, job, prompt, latents, tensors.take()) {
                    Ok(()) => written += 1,
                    // The others may be luckier.
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
            if let Some(source) = failure {
                return Err(match jobs.len() {
                    1 => source,
                    of => Error::Unfinished {
                        written,
                        of,
                        source: Box::new(source),
                    },
                });
            }
        }
        Ok(())
    }

    /// Where encoded prompts are kept. The built-in model's encoders are as quick as the disk.
    fn prompt_cache(&self) -> Option<PathBuf> {
        let wanted = !self.no_prompt_cache && !self.model.is_tiny();
        let folder = wanted.then(dirs::cache_dir).flatten()?;
        Some(folder.join("burn-hunyuan").join("prompts"))
    }

    /// One request for each prompt and seed.
    fn requests(&self) -> Result<Vec<Request>> {
        let prompts = match (&self.prompt, &self.prompt_file) {
            (Some(prompt), _) => vec![prompt.clone()],
            (None, Some(path)) => read_prompts(path)?,
            (None, None) => Vec::new(),
        };
        let tiny = self.model.is_tiny();
        let first_seed = self
            .seed
            .unwrap_or_else(|| u64::from(rand::random::<u32>()));
        let mut requests = Vec::new();
        for prompt in prompts {
            for i in 0..self.num_videos {
                let seed = first_seed.wrapping_add(i.into());
                let defaults = match tiny {
                    true => Request::tiny(&prompt),
                    false => Request::new(&prompt),
                };
                let request = Request {
                    negative_prompt: self.negative_prompt.clone().or(defaults.negative_prompt),
                    height: self.size.map_or(defaults.height, |size| size.height),
                    width: self.size.map_or(defaults.width, |size| size.width),
                    frames: self.frames.unwrap_or(defaults.frames),
                    steps: self.steps.unwrap_or(defaults.steps),
                    cache_threshold: self.cache_threshold,
                    guidance: self.guidance,
                    cfg: self.cfg.unwrap_or(defaults.cfg),
                    flow_shift: self.flow_shift,
                    seed,
                    ..defaults
                };
                request.validate()?;
                requests.push(request);
            }
        }
        Ok(requests)
    }

    /// The requests with the paths of their files.
    fn jobs(&self, requests: Vec<Request>) -> Vec<Job> {
        let many = requests.len() > 1;
        let jobs = requests.into_iter().enumerate().map(|(i, request)| {
            let output = match many {
                true => numbered(&self.output, i + 1),
                false => self.output.clone(),
            };
            Job { request, output }
        });
        jobs.collect()
    }

    /// Opens a job's file. One that cannot be written is known by then.
    fn writer(&self, job: &Job) -> Result<VideoWriter> {
        let fps = self.fps.unwrap_or(match self.model.is_tiny() {
            true => TINY_FPS,
            false => video::DEFAULT_FPS,
        });
        let (width, height) = (job.request.width as u32, job.request.height as u32);
        let quality = Quality(self.quality);
        Ok(VideoWriter::create(
            &job.output,
            width,
            height,
            fps,
            quality,
        )?)
    }

    /// Encodes all prompts and the negative prompt, which they share, and frees the text encoders.
    fn encode(
        &self,
        pipeline: &mut Pipeline,
        jobs: Vec<Job>,
    ) -> Result<(Vec<Prompted>, Option<PromptCondition>)> {
        let mut encode = |prompt: &str, what| {
            let condition = pipeline.encode_prompt(prompt)?;
            warn_of_truncation(&condition, what);
            Ok::<_, Error>(condition)
        };
        let first = jobs.first().map(|job| &job.request);
        let negative = first.and_then(Request::effective_negative_prompt);
        let negative = negative.map(|prompt| encode(prompt, "negative prompt"));
        let negative = negative.transpose()?;
        let mut prompted: Vec<Prompted> = Vec::new();
        for job in jobs {
            // The videos of one prompt follow each other.
            let prompt = match prompted.last() {
                Some((last, prompt)) if last.request.prompt == job.request.prompt => prompt.clone(),
                _ => encode(&job.request.prompt, "prompt")?,
            };
            prompted.push((job, prompt));
        }
        pipeline.free(Component::TextEncoder);
        pipeline.free(Component::TextEncoder2);
        Ok((prompted, negative))
    }

    /// Decodes one video into its file.
    fn finish(
        &self,
        pipeline: &mut Pipeline,
        job: &Job,
        prompt: &PromptCondition,
        latents: Tensor<5>,
        mut tensors: Option<TensorFile>,
    ) -> Result<()> {
        let mut writer = self.writer(job)?;
        if let Some(tensors) = &mut tensors {
            let (states, mask) = padded(prompt.states.clone());
            tensors.insert("prompt_embeds", states);
            tensors.insert("prompt_mask", mask);
            tensors.insert("pooled", prompt.pooled.clone());
            tensors.insert("latents", latents.clone());
        }
        pipeline.decode(latents, &mut |stretch| {
            if let Some(tensors) = &mut tensors {
                tensors.append("frames", stretch.clone().swap_dims(1, 2), 1);
            }
            for frame in frame_images(stretch) {
                writer.write(&frame)?;
            }
            Ok(())
        })?;
        if let Some(tensors) = tensors {
            tensors.save()?;
        }
        writer.finish()?;
        if self.run.quiet {
            return Ok(());
        }
        let (output, seed) = (job.output.display(), job.request.seed);
        print(format_args!("{output} (seed {seed})"))
    }
}

/// The lines of a prompt file that are not empty.
fn read_prompts(path: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
        path: path.to_path_buf(),
        source,
    })?;
    let prompts: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if prompts.is_empty() {
        let path = path.display();
        return Err(Error::Request(format!(
            "{path} has no prompt; write one on each line"
        )));
    }
    Ok(prompts.into_iter().map(String::from).collect())
}

/// `cat.mp4` becomes `cat-2.mp4`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match path.extension() {
        Some(extension) => {
            path.with_file_name(format!("{stem}-{number}.{}", extension.to_string_lossy()))
        }
        None => path.with_file_name(format!("{stem}-{number}")),
    }
}

/// A prompt's states as the reference has them, padded to 256 but with zeros, and their mask.
fn padded(states: Tensor<3>) -> (Tensor<3>, Tensor<2>) {
    let (device, [_, tokens, hidden]) = (states.device(), states.dims());
    let (all, options) = (tokens.max(PROMPT_TOKENS), (&device, DType::F32));
    let real = Tensor::ones([1, tokens], options);
    (
        Tensor::zeros([1, all, hidden], options)
            .slice_assign([0..1, 0..tokens, 0..hidden], states.cast(DType::F32)),
        Tensor::zeros([1, all], options).slice_assign([0..1, 0..tokens], real),
    )
}

/// Tells which part of `what` the encoders had no room for.
fn warn_of_truncation(condition: &PromptCondition, what: &str) {
    let encoders = [
        ("LLaMA", &condition.dropped),
        ("CLIP", &condition.dropped_by_clip),
    ];
    for (encoder, dropped) in encoders {
        if let Some(text) = dropped {
            tracing::warn!("the {what} is too long for {encoder}; it does not see: {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_outputs_are_numbered_before_the_extension() {
        assert_eq!(
            numbered(Path::new("a/cat.mp4"), 2),
            Path::new("a/cat-2.mp4")
        );
        assert_eq!(numbered(Path::new("frames"), 1), Path::new("frames-1"));
    }
}
