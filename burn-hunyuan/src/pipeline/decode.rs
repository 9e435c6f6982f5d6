//! Latents to frames and back.

use burn::tensor::{DType, Device, Tensor, TensorData};
use burn_hunyuan_vae::{DiagonalGaussian, Tiling, VaeConfig};
use image::RgbImage;

use super::{Pipeline, Stage, ensure_finite};
use crate::{device, tensors::to_f32, video::frame_from_planar};

impl Pipeline {
    /// Decodes latents as [`denoise`](Self::denoise) gives them.
    ///
    /// `sink` receives stretches of frames in order, each f32 `[1, 3, frames, height, width]` in
    /// [0, 1]; with tiling in time no more than a stretch is ever in memory. The VAE stays
    /// loaded until it is [freed](Self::free).
    ///
    /// # Errors
    /// A VAE that cannot be loaded, frames that are not finite, what `sink` returns,
    /// [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn decode(
        &mut self,
        latents: Tensor<5>,
        sink: &mut dyn FnMut(Tensor<5>) -> crate::Result<()>,
    ) -> crate::Result<()> {
        let vae = self.vae()?;
        let [_, _, frames, height, width] = latents.dims();
        let tiling = self.tiling([4 * (frames - 1) + 1, 8 * height, 8 * width])?;
        let latents = (latents / vae.scaling_factor).cast(self.dtype);
        let tiles = vae.decode_tiles(latents, &tiling);
        let total = tiles.len() as u64;
        self.report(Stage::Decode, 0, total)?;
        for (done, stretch) in (1..).zip(tiles) {
            if let Some(stretch) = stretch {
                let stretch = stretch.cast(DType::F32);
                ensure_finite(&stretch, || "frames".into())?;
                sink((stretch / 2.0 + 0.5).clamp(0.0, 1.0))?;
            }
            self.wait();
            self.report(Stage::Decode, done, total)?;
        }
        Ok(())
    }

    /// Encodes a video: f32 `[1, 3, frames, height, width]` in [0, 1], 4 k + 1 frames, height and
    /// width multiples of 8.
    ///
    /// # Errors
    /// A VAE that cannot be loaded, [`Error::Cancelled`](crate::Error::Cancelled).
    pub fn encode(&mut self, video: Tensor<5>) -> crate::Result<DiagonalGaussian> {
        let vae = self.vae()?;
        let [_, _, frames, height, width] = video.dims();
        let tiling = self.tiling([frames, height, width])?;
        let video = (video * 2.0 - 1.0).cast(self.dtype);
        let tiles = vae.encode_tiles(video, &tiling);
        let total = tiles.len() as u64;
        self.report(Stage::Encode, 0, total)?;
        let mut moments = Vec::new();
        for (done, stretch) in (1..).zip(tiles) {
            moments.extend(stretch);
            self.wait();
            self.report(Stage::Encode, done, total)?;
        }
        Ok(DiagonalGaussian::from_moments(Tensor::cat(moments, 2)))
    }

    /// What latents are multiplied by for the transformer.
    ///
    /// # Errors
    /// A model without a VAE.
    pub fn scaling_factor(&self) -> crate::Result<f64> {
        Ok(self.model.vae()?.config.scaling_factor)
    }

    /// The tiling for a clip of `size` frames, height and width.
    fn tiling(&self, size: [usize; 3]) -> crate::Result<Tiling> {
        let config: VaeConfig = self.model.vae()?.config;
        let budget = device::working_memory(&self.device);
        let mode = match (&self.plan, self.memory_limit) {
            (Some(plan), Some(_)) => plan.settings.vae_tiling,
            _ => self.vae_tiling,
        };
        Ok(mode.resolve(&config, size, budget))
    }
}

/// A stretch of frames, `[1, 3, frames, height, width]` in [0, 1], as images.
pub fn frame_images(stretch: Tensor<5>) -> impl Iterator<Item = RgbImage> {
    let [_, _, frames, height, width] = stretch.dims();
    (0..frames).filter_map(move |i| {
        let planes = to_f32(stretch.clone().narrow(2, i, 1));
        frame_from_planar(&planes, width as u32, height as u32)
    })
}

/// Images of one size as a video, f32 `[1, 3, frames, height, width]` in [0, 1]. Each image is
/// dropped when it has been converted.
///
/// # Errors
/// The first of the images' own.
pub fn video_tensor<E>(
    frames: impl IntoIterator<Item = Result<RgbImage, E>>,
    device: &Device,
) -> Result<Tensor<5>, E> {
    let (mut count, mut size, mut values) = (0, (0, 0), Vec::new());
    for frame in frames {
        let frame = frame?;
        size = frame.dimensions();
        count += 1;
        values.extend(frame.as_raw().iter().map(|&byte| f32::from(byte) / 255.0));
    }
    let data = TensorData::new(values, [1, count, size.1 as usize, size.0 as usize, 3]);
    let video = Tensor::<5>::from_data(data, (device, DType::F32));
    Ok(video.permute([0, 4, 1, 2, 3]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    #[test]
    fn images_survive_the_way_through_a_tensor() {
        let device = device::open("flex").unwrap();
        let images: Vec<RgbImage> = (0..3_u8)
            .map(|i| RgbImage::from_fn(5, 4, |x, y| [i * 80, x as u8 * 50, y as u8 * 60].into()))
            .collect();
        let frames = images.iter().cloned().map(Ok::<_, Infallible>);
        let video = video_tensor(frames, &device).unwrap();
        assert_eq!(video.dims(), [1, 3, 3, 4, 5]);
        assert_eq!(frame_images(video).collect::<Vec<_>>(), images);
    }
}
