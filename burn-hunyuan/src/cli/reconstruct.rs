//! `burn-hunyuan reconstruct`.

use std::path::PathBuf;

use burn::tensor::Tensor;
use clap::Args;

use super::{
    options::{ModelOptions, RunOptions},
    print,
    watch::Watch,
};
use crate::{
    checkpoint::Component,
    error::{Error, Result},
    pipeline::{Pipeline, frame_images, video_tensor},
    quality::{psnr, ssim},
    tensors::{TensorFile, load_tensor, to_f32},
    video::{self, Quality, VideoWriter},
};

#[derive(Debug, Args)]
pub(super) struct Reconstruct {
    /// A video file, a folder of images, or a safetensors file with `frames` [1, N, 3, H, W] in
    /// [0, 1]
    input: PathBuf,
    /// The file to write, as `generate` takes it
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Quality of an mp4, from 0 (smallest file) to 100 (nearly lossless)
    #[arg(long, default_value_t = Quality::default().0, value_parser = clap::value_parser!(u8).range(..=100))]
    quality: u8,
    /// Write latent_mean, latent_logvar and frames to this safetensors file
    #[arg(long, value_name = "FILE")]
    save_tensors: Option<PathBuf>,
    #[command(flatten)]
    model: ModelOptions,
    #[command(flatten)]
    run: RunOptions,
}

impl Reconstruct {
    pub fn run(self) -> Result<()> {
        let pipeline = self.run.pipeline(&self.model, &[])?;
        let (original, fps) = self.read(&pipeline)?;
        let original = crop(original)?;
        let [_, _, _, height, width] = original.dims();
        let (mut pipeline, watch) = Watch::attach(pipeline, self.run.quiet);
        let mut writer = match &self.output {
            Some(path) => {
                let (width, height) = (width as u32, height as u32);
                let quality = Quality(self.quality);
                Some(VideoWriter::create(path, width, height, fps, quality)?)
            }
            None => None,
        };
        let tensors = self.save_tensors.as_deref().map(TensorFile::create);
        let mut tensors = tensors.transpose()?;

        let latents = pipeline.encode(original.clone())?;
        if let Some(tensors) = &mut tensors {
            tensors.insert("latent_mean", latents.mean.clone());
            tensors.insert("latent_logvar", latents.logvar.clone());
        }
        let mut likeness = Likeness::default();
        let scaled = latents.mode() * pipeline.scaling_factor()?;
        pipeline.decode(scaled, &mut |stretch| {
            if let Some(tensors) = &mut tensors {
                tensors.append("frames", stretch.clone().swap_dims(1, 2), 1);
            }
            likeness.compare(&original, &stretch);
            if let Some(writer) = &mut writer {
                for frame in frame_images(stretch) {
                    writer.write(&frame)?;
                }
            }
            Ok(())
        })?;
        pipeline.free(Component::Vae);
        if let Some(tensors) = tensors {
            tensors.save()?;
        }
        if let Some(writer) = writer {
            writer.finish()?;
        }
        watch.summarise();
        let (psnr, ssim) = (likeness.psnr(), likeness.ssim());
        print(format_args!("PSNR {psnr:.2} dB, SSIM {ssim:.4}"))
    }

    /// The input as f32 `[1, 3, frames, height, width]` in [0, 1], and its frame rate.
    fn read(&self, pipeline: &Pipeline) -> Result<(Tensor<5>, f64)> {
        if self
            .input
            .extension()
            .is_some_and(|extension| extension == "safetensors")
        {
            let frames = load_tensor::<5>(&self.input, "frames", pipeline.device())?;
            return Ok((frames.swap_dims(1, 2), video::DEFAULT_FPS));
        }
        let reader = video::open(&self.input)?;
        let fps = reader.fps;
        Ok((video_tensor(reader, pipeline.device())?, fps))
    }
}

/// Cuts a video to what the VAE takes: 4k+1 frames, height and width multiples of 8.
fn crop(video: Tensor<5>) -> Result<Tensor<5>> {
    let [videos, channels, frames, height, width] = video.dims();
    let kept = [
        frames.saturating_sub(1) / 4 * 4 + 1,
        height / 8 * 8,
        width / 8 * 8,
    ];
    if videos != 1 || channels != 3 || frames == 0 || kept[1] == 0 || kept[2] == 0 {
        return Err(Error::Request(format!(
            "{videos} video(s) of {frames} frames of {height}x{width} with {channels} channels \
             cannot be encoded; one video of at least one RGB frame of 8x8 is needed"
        )));
    }
    if kept != [frames, height, width] {
        tracing::warn!(
            "cropped from {frames} frames of {height}x{width} to {} frames of {}x{}, as the VAE \
             takes 4k+1 frames and multiples of 8",
            kept[0],
            kept[1],
            kept[2]
        );
    }
    let video = video.narrow(2, 0, kept[0]);
    let video = video.narrow(3, (height - kept[1]) / 2, kept[1]);
    Ok(video.narrow(4, (width - kept[2]) / 2, kept[2]))
}

/// How close a video that arrives in stretches is to its original.
#[derive(Default)]
struct Likeness {
    frames: usize,
    /// Sum over frames of the mean squared error.
    squares: f64,
    /// Sum over frames of the mean SSIM of the three planes.
    ssim: f64,
}

impl Likeness {
    /// Compares the next frames, both f32 `[1, 3, _, height, width]` in [0, 1].
    fn compare(&mut self, original: &Tensor<5>, stretch: &Tensor<5>) {
        let [_, _, count, height, width] = stretch.dims();
        for i in 0..count {
            let a = to_f32(original.clone().narrow(2, self.frames, 1));
            let b = to_f32(stretch.clone().narrow(2, i, 1));
            self.squares += 10.0_f64.powf(-psnr(&a, &b) / 10.0);
            let planes = a.chunks(height * width).zip(b.chunks(height * width));
            self.ssim += planes.map(|(a, b)| ssim(a, b, height, width)).sum::<f64>() / 3.0;
            self.frames += 1;
        }
    }

    /// Of the whole video in dB, by the mean squared error over all frames.
    fn psnr(&self) -> f64 {
        -10.0 * (self.squares / self.frames as f64).log10()
    }

    /// Mean over frames and planes.
    fn ssim(&self) -> f64 {
        self.ssim / self.frames as f64
    }
}
