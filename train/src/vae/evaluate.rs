//! How well held-out clips are reconstructed.

use burn::tensor::{Device, Tensor};
use burn_hunyuan_vae::{
    DiagonalGaussian, Vae,
    quality::{psnr, ssim},
};

use crate::{
    data::{ClipRequest, Clips},
    error::Result,
    loss::Lpips,
    run::Metrics,
};

/// Means over clips.
#[derive(Clone, Copy, Debug, Default)]
pub struct Evaluation {
    /// Mean absolute error of values in [−1, 1].
    pub l1: f64,
    /// In dB, of each clip as a whole.
    pub psnr: f64,
    /// Of each plane of each frame.
    pub ssim: f64,
    /// Perceptual distance, where there is a network that tells.
    pub lpips: Option<f64>,
    /// Root of the latents' mean square: what the diffusion model's scaling factor divides by.
    pub latent_rms: f64,
}

impl Evaluation {
    /// For the log; the loss is the mean absolute error.
    pub fn metrics(&self) -> Metrics {
        let metrics = Metrics::new(self.l1)
            .with("psnr", self.psnr)
            .with("ssim", self.ssim)
            .with("latent_rms", self.latent_rms);
        match self.lpips {
            Some(lpips) => metrics.with("lpips", lpips),
            None => metrics,
        }
    }
}

/// Encodes and decodes the first `count` clips of the kind that `request` asks for, one at a time,
/// without noise.
///
/// # Errors
/// Those of the clips.
pub fn evaluate(
    vae: &Vae,
    clips: &mut dyn Clips,
    request: &ClipRequest,
    count: usize,
    lpips: Option<&Lpips>,
    device: &Device,
) -> Result<Evaluation> {
    let (mut sums, mut squares) = (Evaluation::default(), 0.0);
    for first in 0..count as u64 {
        let request = ClipRequest {
            first,
            count: 1,
            ..*request
        };
        let video = clips.batch(&request, device)?;
        let DiagonalGaussian { mean, .. } = vae.encode(video.clone());
        squares += scalar(mean.clone().square().mean());
        let reconstruction = vae.decode(mean).clamp(-1.0, 1.0);
        if let Some(lpips) = lpips {
            let distance = lpips.forward_clips(reconstruction.clone(), video.clone());
            sums.lpips = Some(sums.lpips.unwrap_or(0.0) + scalar(distance));
        }
        sums.l1 += scalar(crate::loss::l1(reconstruction.clone(), video.clone()));
        let (psnr, ssim) = likeness(video, reconstruction);
        sums.psnr += psnr;
        sums.ssim += ssim;
    }
    let count = count.max(1) as f64;
    Ok(Evaluation {
        l1: sums.l1 / count,
        psnr: sums.psnr / count,
        ssim: sums.ssim / count,
        lpips: sums.lpips.map(|sum| sum / count),
        latent_rms: (squares / count).sqrt(),
    })
}

/// PSNR and mean SSIM of a clip, `[1, 3, frames, height, width]` in [−1, 1].
fn likeness(video: Tensor<5>, reconstruction: Tensor<5>) -> (f64, f64) {
    let [.., height, width] = video.dims();
    let unit = |x: Tensor<5>| -> Vec<f32> { (x * 0.5 + 0.5).into_data().iter::<f32>().collect() };
    let (a, b) = (unit(video), unit(reconstruction));
    let planes = a.chunks(height * width).zip(b.chunks(height * width));
    let count = planes.len() as f64;
    let similar: f64 = planes.map(|(a, b)| ssim(a, b, height, width)).sum();
    (psnr(&a, &b), similar / count)
}

fn scalar(x: Tensor<1>) -> f64 {
    f64::from(x.into_scalar::<f32>())
}
