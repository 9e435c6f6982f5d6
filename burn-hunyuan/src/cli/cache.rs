//! `burn-hunyuan cache`.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Tensor, TensorData};
use burn_hunyuan_train::{
    data::{Caption, ClipSizes, Entry, list},
    dit::{CachedCaption, ShardWriter},
    synth::{captions, render, structured_caption, training_scene},
};
use clap::Args;
use image::{RgbImage, imageops};
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::{
    options::{ModelOptions, RunOptions, Size},
    print,
};
use crate::{
    error::{Error, Result},
    pipeline::{Pipeline, video_tensor},
    video,
};

#[derive(Debug, Args)]
pub(super) struct Cache {
    /// A folder of clips with captions beside them, or a list of lines {"file": …, "caption": …}
    #[arg(long, value_name = "DIR|FILE", required_unless_present = "synth")]
    dataset: Option<PathBuf>,
    /// Draw so many procedural clips instead, of each of the --frames in turn
    #[arg(long, value_name = "CLIPS", conflicts_with = "dataset")]
    synth: Option<u64>,
    /// Decides the procedural clips, and how structured captions are told
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder for the shards
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Height and width of the clips; the aspect ratio follows each clip's own
    #[arg(long, value_name = "HxW", default_value = "544x960")]
    size: Size,
    /// Crop every clip to exactly --size
    #[arg(long)]
    one_size: bool,
    /// Frames of the clips, 4k+1; a clip is cut to the most of these that it has
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "1,129"
    )]
    frames: Vec<usize>,
    /// In how many ways a structured caption is told
    #[arg(long, value_name = "N", default_value_t = 4)]
    variants: usize,
    /// How often a field of a structured caption is left out
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
        let size = [self.size.height, self.size.width];
        let sizes = ClipSizes::new(size, &self.frames, !self.one_size);
        // Every clip needs all three encoders.
        let mut pipeline = self.run.pipeline(&self.model, &[])?.with_keep_loaded(true);
        let empty = encode_caption(&mut pipeline, String::new())?;
        let mut writer = ShardWriter::create(&self.output, &empty)?;
        let clips = match &self.dataset {
            Some(path) => self.cache_dataset(path, &sizes, &mut pipeline, writer)?,
            None => {
                let count = self.synth.unwrap_or_default();
                for index in 0..count {
                    let (video, texts) = self.draw(index, &pipeline);
                    add(&mut pipeline, &mut writer, video, texts)?;
                    self.report(index + 1, count);
                }
                writer.finish()?
            }
        };
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
        } else {
            return Ok(());
        };
        Err(Error::Request(message.into()))
    }

    /// Caches a folder or list. A clip that cannot be used is named and passed over; it is a
    /// failure when they are more than half.
    fn cache_dataset(
        &self,
        path: &Path,
        sizes: &ClipSizes,
        pipeline: &mut Pipeline,
        mut writer: ShardWriter,
    ) -> Result<usize> {
        let dataset = list(path)?;
        let count = dataset.entries.len();
        let mut skipped = dataset.skipped;
        for (index, entry) in dataset.entries.into_iter().enumerate() {
            match self.read(&entry, sizes, pipeline) {
                Ok(video) => {
                    let texts = self.tell(&entry.caption, index as u64);
                    add(pipeline, &mut writer, video, texts)?;
                }
                Err(why) => skipped.push((entry.path, why)),
            }
            self.report(index as u64 + 1, count as u64);
        }
        for (path, why) in &skipped {
            tracing::warn!("skipped {}: {why}", path.display());
        }
        let clips = writer.finish()?;
        if skipped.len() > clips {
            return Err(Error::Unusable(format!(
                "{} of {} clips could not be used",
                skipped.len(),
                skipped.len() + clips
            )));
        }
        Ok(clips)
    }

    /// A clip as the VAE takes it, or why there is none.
    fn read(
        &self,
        entry: &Entry,
        sizes: &ClipSizes,
        pipeline: &Pipeline,
    ) -> std::result::Result<Tensor<5>, String> {
        let reader = video::open(&entry.path).map_err(|e| e.to_string())?;
        let size = sizes.size_for(reader.height as usize, reader.width as usize);
        let frames: std::result::Result<Vec<RgbImage>, _> = reader.take(sizes.longest()).collect();
        let mut frames = frames.map_err(|e| e.to_string())?;
        let Some(kept) = sizes.frames_for(frames.len()) else {
            return Err(format!("it has only {} frames", frames.len()));
        };
        frames.truncate(kept);
        let frames = frames.into_iter().map(|frame| Ok(cropped(frame, size)));
        video_tensor::<video::Error>(frames, pipeline.device()).map_err(|e| e.to_string())
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
    fn draw(&self, index: u64, pipeline: &Pipeline) -> (Tensor<5>, Vec<String>) {
        let scene = training_scene(self.seed, index);
        let frames = self.frames[index as usize % self.frames.len()];
        let Size { height, width } = self.size;
        let values = render(&scene, frames, height, width);
        let data = TensorData::new(values, [1, frames, height, width, 3]);
        let video = Tensor::<5>::from_data(data, (pipeline.device(), DType::F32));
        let mut rng = ChaCha12Rng::seed_from_u64(self.seed);
        rng.set_stream(index);
        let mut texts = captions(&scene, &mut rng);
        texts.push(structured_caption(&scene).tell(self.field_dropout, &mut rng));
        (video.permute([0, 4, 1, 2, 3]), texts)
    }

    fn report(&self, done: u64, of: u64) {
        if !self.run.quiet && done.is_multiple_of(100) {
            eprintln!("{done} of {of} clips");
        }
    }
}

/// Encodes a clip, f32 `[1, 3, frames, height, width]` in [0, 1], and its captions.
fn add(
    pipeline: &mut Pipeline,
    writer: &mut ShardWriter,
    video: Tensor<5>,
    texts: Vec<String>,
) -> Result<()> {
    let latents = pipeline.encode(video)?.mode() * pipeline.scaling_factor()?;
    let latents = latents.squeeze_dim::<4>(0).cast(DType::F32).into_data();
    let captions = texts.into_iter().map(|text| encode_caption(pipeline, text));
    let captions = captions.collect::<Result<Vec<_>>>()?;
    Ok(writer.add(latents, &captions)?)
}

fn encode_caption(pipeline: &mut Pipeline, text: String) -> Result<CachedCaption> {
    let condition = pipeline.encode_prompt(&text)?;
    let states = condition.states.squeeze_dim::<2>(0);
    Ok(CachedCaption {
        text,
        states: states.narrow(0, 0, condition.length).into_data(),
        pooled: condition.pooled.squeeze_dim::<1>(0).into_data(),
    })
}

/// The middle of a frame, scaled to `height` by `width`.
fn cropped(frame: RgbImage, [height, width]: [usize; 2]) -> RgbImage {
    let (height, width) = (height as u32, width as u32);
    let (h, w) = (f64::from(frame.height()), f64::from(frame.width()));
    let scale = (f64::from(height) / h).max(f64::from(width) / w);
    let scaled = [(h * scale).round(), (w * scale).round()].map(|x| x as u32);
    let [h, w] = [scaled[0].max(height), scaled[1].max(width)];
    let frame = match (h, w) == (frame.height(), frame.width()) {
        true => frame,
        false => imageops::resize(&frame, w, h, imageops::FilterType::CatmullRom),
    };
    imageops::crop_imm(&frame, (w - width) / 2, (h - height) / 2, width, height).to_image()
}
