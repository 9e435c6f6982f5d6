//! `burn-hunyuan cache`.

use std::{collections::BTreeMap, path::PathBuf};

use burn::tensor::{DType, Tensor, TensorData};
use burn_hunyuan_train::{
    data::{Caption, ClipSizes, Entry, checksum, list},
    dit::{CachedCaption, ShardWriter, Shards},
    synth::{captions, render, structured_caption, training_scene},
};
use burn_hunyuan_vae::{SPATIAL_COMPRESSION, TEMPORAL_COMPRESSION};
use clap::Args;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use super::{
    clips::{self, cropped},
    options::{ModelOptions, RunOptions, Size},
    print, watch,
};
use crate::{
    error::{Error, Result},
    pipeline::{Pipeline, video_tensor},
};

#[derive(Debug, Args)]
pub(super) struct Cache {
    /// A folder of clips with captions beside them, a list of lines {"file": …, "caption": …}, or
    /// what `curate` wrote
    #[arg(long, value_name = "DIR|FILE", required_unless_present = "synth")]
    dataset: Option<PathBuf>,
    /// Generate this many procedural clips instead, cycling through --frames
    #[arg(long, value_name = "CLIPS", conflicts_with = "dataset")]
    synth: Option<usize>,
    /// Seed of the procedural clips and of the wording of structured captions
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder for the shards
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Continue the shards in the folder
    #[arg(long)]
    resume: bool,
    /// Height and width of the clips; the aspect ratio follows each clip's own
    #[arg(long, value_name = "HxW", default_value = "544x960")]
    size: Size,
    /// Crop every clip to exactly --size
    #[arg(long)]
    one_size: bool,
    /// Frames of the clips, 4k+1: 1 for images; a video is cut to the longest of the others that it
    /// has frames for, and skipped if it is shorter
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,129"
    )]
    frames: Vec<usize>,
    /// Resample videos to this frame rate, taking the frames nearest in time; the model's rate is 24
    /// [default: each video's own]
    #[arg(long, value_name = "RATE")]
    fps: Option<f64>,
    /// Number of wordings of each structured caption
    #[arg(long, value_name = "N", default_value_t = 4)]
    variants: usize,
    /// Probability of leaving out a field of a structured caption
    #[arg(long, value_name = "SHARE", default_value_t = 0.3)]
    field_dropout: f64,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    run: RunOptions,
}

impl Cache {
    pub fn run(self) -> Result<()> {
        self.check()?;
        if self.dataset.is_some() && self.model.is_tiny() {
            tracing::warn!(
                "without --model the small built-in model encodes the clips, which was made for \
                 64x64 drawings; only a transformer of its sizes can be trained on these shards"
            );
        }
        watch::catch_interrupts();
        let dataset = self.dataset.as_deref().map(list).transpose()?;
        let count = match &dataset {
            Some(entries) => entries.len(),
            None => self.synth.unwrap_or(0),
        };
        // Every clip needs all three encoders.
        let pipeline = self.run.pipeline(&self.model, &[])?.with_keep_loaded(true);
        let mut pipeline = pipeline.with_observer(|_| watch::interrupted());
        let empty = encode_caption(&mut pipeline, String::new())?;
        let start = match self.resume {
            true => ShardWriter::resume,
            false => ShardWriter::create,
        };
        let settings = self.settings(count, dataset.as_deref());
        let mut writer = start(&self.output, &settings, &empty)?;
        let added = self.add_all(&mut pipeline, &mut writer, dataset.as_deref(), count);
        if let Err(Error::Cancelled) = added {
            let done = writer.done();
            let message = format!("stopped at clip {done} of {count}; give --resume to go on");
            return Err(Error::Unusable(message));
        }
        added?;
        let (clips, skipped) = writer.finish()?;
        self.conclude(clips, skipped)
    }

    /// Encodes the clips that are not in the shards yet, until an interrupt.
    fn add_all(
        &self,
        pipeline: &mut Pipeline,
        writer: &mut ShardWriter,
        dataset: Option<&[Entry]>,
        count: usize,
    ) -> Result<()> {
        let size = [self.size.height, self.size.width];
        let sizes = ClipSizes::new(size, &self.frames, !self.one_size);
        for index in writer.done()..count {
            if watch::interrupted().is_break() {
                return Err(Error::Cancelled);
            }
            match dataset {
                None => {
                    let (video, texts) = self.draw(index, pipeline);
                    let drawn = format!("scene {index} of seed {}", self.seed);
                    add(pipeline, writer, video, texts, 1.0, &drawn)?;
                }
                Some(entries) => {
                    let entry = &entries[index];
                    match self.read(entry, index as u64, &sizes, pipeline) {
                        Ok((video, texts)) => {
                            let file = entry.path.to_string_lossy();
                            add(pipeline, writer, video, texts, entry.weight, &file)?;
                        }
                        Err(why) => {
                            tracing::warn!("skipped {}: {why}", entry.path.display());
                            writer.skip(&entry.path, &why);
                        }
                    }
                }
            }
            self.report(index + 1, count);
        }
        Ok(())
    }

    /// Prints how many clips there are, of each size and in all.
    fn conclude(&self, clips: usize, skipped: usize) -> Result<()> {
        for ([frames, height, width], count) in sizes(&Shards::open(&self.output)?) {
            print(format_args!("{count} of {frames}x{height}x{width}"))?;
        }
        if skipped > 0 {
            let list = self.output.join("skipped.txt");
            print(format_args!("{skipped} passed over: {}", list.display()))?;
        }
        print(format_args!(
            "{clips} clips cached in {}",
            self.output.display()
        ))
    }

    fn check(&self) -> Result<()> {
        let fits = |extent: usize| extent > 0 && extent.is_multiple_of(16);
        let message = if !fits(self.size.height) || !fits(self.size.width) {
            "--size has to be multiples of 16"
        } else if self.frames.iter().any(|n| n % 4 != 1) {
            "--frames have to be of the form 4k+1, as 1, 33, 129"
        } else if self.variants == 0 || !(0.0..=1.0).contains(&self.field_dropout) {
            "--variants has to be above 0 and --field-dropout from 0 to 1"
        } else if self.fps.is_some_and(|fps| !(fps > 0.0 && fps.is_finite())) {
            "--fps has to be above 0"
        } else {
            return Ok(());
        };
        Err(Error::Request(message.into()))
    }

    /// All that the shards follow from. A resumed cache has to have the same.
    fn settings(&self, clips: usize, dataset: Option<&[Entry]>) -> Value {
        json!({
            "dataset": self.dataset.as_ref().map(|path| path.display().to_string()),
            "clips": clips,
            "clips_checksum": dataset.map(|entries| format!("{:08x}", checksum(entries))),
            "seed": self.seed,
            "size": [self.size.height, self.size.width],
            "one_size": self.one_size,
            "frames": self.frames,
            "fps": self.fps,
            "variants": self.variants,
            "field_dropout": self.field_dropout,
            "model": self.model.names(),
            "dtype": self.run.dtype.map(|dtype| format!("{dtype:?}")),
        })
    }

    /// A clip as the VAE takes it, brought to one of the sizes, and its captions; or why it cannot
    /// be used.
    fn read(
        &self,
        entry: &Entry,
        index: u64,
        sizes: &ClipSizes,
        pipeline: &Pipeline,
    ) -> std::result::Result<(Tensor<5>, Vec<String>), String> {
        let caption = entry.caption.as_ref().map_err(String::clone)?;
        let clip = clips::open(entry, self.fps)?;
        let size = sizes.size_for(clip.height, clip.width);
        let frames = clip.frames.take(sizes.longest());
        let mut frames = frames.collect::<std::result::Result<Vec<_>, _>>()?;
        frames.truncate(sizes.frames_for(frames.len(), entry.is_image())?);
        let frames = frames.into_iter().map(|frame| Ok(cropped(frame, size)));
        let video = video_tensor::<String>(frames, pipeline.device())?;
        Ok((video, self.tell(caption, index)))
    }

    /// The texts of a caption: its own, and its fields told in several ways.
    fn tell(&self, caption: &Caption, index: u64) -> Vec<String> {
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        let mut texts = caption.texts.clone();
        if let Some(fields) = &caption.fields {
            let tell = |_| fields.tell(self.field_dropout, &mut rng);
            texts.extend((0..self.variants).map(tell));
        }
        texts
    }

    /// A procedural clip and its captions.
    fn draw(&self, index: usize, pipeline: &Pipeline) -> (Tensor<5>, Vec<String>) {
        let scene = training_scene(self.seed, index as u64);
        let frames = self.frames[index % self.frames.len()];
        let Size { height, width } = self.size;
        let values = render(&scene, frames, height, width);
        let data = TensorData::new(values, [1, frames, height, width, 3]);
        let video = Tensor::<5>::from_data(data, (pipeline.device(), DType::F32));
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        rng.set_stream(index as u64);
        let mut texts = captions(&scene, &mut rng);
        texts.push(structured_caption(&scene).tell(self.field_dropout, &mut rng));
        (video.permute([0, 4, 1, 2, 3]), texts)
    }

    fn report(&self, done: usize, of: usize) {
        if !self.run.quiet && done.is_multiple_of(100) {
            eprintln!("{done} of {of} clips");
        }
    }
}

/// How many clips there are of each size: frames, height and width of the clips themselves.
fn sizes(shards: &Shards) -> BTreeMap<[usize; 3], usize> {
    let mut sizes = BTreeMap::new();
    for clip in shards.numbers() {
        let [_, frames, height, width] = shards.latent_shape(clip);
        let frames = (frames - 1) * TEMPORAL_COMPRESSION + 1;
        let size = [
            frames,
            height * SPATIAL_COMPRESSION,
            width * SPATIAL_COMPRESSION,
        ];
        *sizes.entry(size).or_default() += 1;
    }
    sizes
}

/// Encodes a clip, f32 `[1, 3, frames, height, width]` in [0, 1], and its captions.
fn add(
    pipeline: &mut Pipeline,
    writer: &mut ShardWriter,
    video: Tensor<5>,
    texts: Vec<String>,
    weight: f64,
    file: &str,
) -> Result<()> {
    let latents = pipeline.encode(video)?.mode() * pipeline.scaling_factor()?;
    let latents = latents.squeeze_dim::<4>(0).cast(DType::F32).into_data();
    let captions = texts.into_iter().map(|text| encode_caption(pipeline, text));
    let captions = captions.collect::<Result<Vec<_>>>()?;
    Ok(writer.add(latents, &captions, weight, file)?)
}

fn encode_caption(pipeline: &mut Pipeline, text: String) -> Result<CachedCaption> {
    let condition = pipeline.encode_prompt(&text)?;
    Ok(CachedCaption {
        text,
        states: condition.states.squeeze_dim::<2>(0).into_data(),
        pooled: condition.pooled.squeeze_dim::<1>(0).into_data(),
    })
}
