//! Samples: held-out clips beside their reconstructions.

use std::{fs, path::Path};

use burn::tensor::{Device, Tensor};
use burn_hunyuan_vae::{DiagonalGaussian, Vae};
use image::RgbImage;
use serde::{Deserialize, Serialize};

use crate::{
    contact_sheet,
    data::{ClipRequest, Clips},
    error::{Error, Result},
};

/// Section `[samples]` of a configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SamplesConfig {
    /// Write a contact sheet every so many steps. 0: never.
    pub every: u64,
    /// Held-out clips on it.
    pub clips: usize,
}

impl Default for SamplesConfig {
    fn default() -> Self {
        Self {
            every: 500,
            clips: 4,
        }
    }
}

/// Writes `sheet.png` to `folder`, which is created: the first `count` clips of the kind that
/// `request` asks for, each above its reconstruction without noise.
///
/// # Errors
/// Those of the clips; a file that cannot be written.
pub fn samples(
    vae: &Vae,
    clips: &mut dyn Clips,
    request: &ClipRequest,
    count: usize,
    device: &Device,
    folder: &Path,
) -> Result<()> {
    let mut rows = Vec::with_capacity(2 * count);
    for first in 0..count as u64 {
        let request = ClipRequest {
            first,
            count: 1,
            ..*request
        };
        let video = clips.batch(&request, device)?;
        let DiagonalGaussian { mean, .. } = vae.encode(video.clone());
        rows.push(frames(video));
        rows.push(frames(vae.decode(mean)));
    }
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    contact_sheet::write(&folder.join("sheet.png"), &rows)
}

/// The frames of a clip, `[1, 3, frames, height, width]` in [−1, 1].
fn frames(clip: Tensor<5>) -> Vec<RgbImage> {
    let [_, channels, frames, height, width] = clip.dims();
    let byte = |value: f32| (value.clamp(-1.0, 1.0) * 127.5 + 127.5).round() as u8;
    let by_pixel = clip.permute([0, 2, 3, 4, 1]).into_data();
    let bytes: Vec<u8> = by_pixel.iter::<f32>().map(byte).collect();
    let frame = |bytes: &[u8]| RgbImage::from_raw(width as u32, height as u32, bytes.to_vec());
    let frames = bytes.chunks(channels * height * width).take(frames);
    frames.filter_map(frame).collect()
}
