//! The sizes of a VAE.

use burn::{config::Config, tensor::Device};

use crate::{Tiling, Vae};

/// Frames for one latent frame; the first latent frame stands for the first frame alone.
pub const TEMPORAL_COMPRESSION: usize = 4;

/// Pixels for one latent, in height and in width.
pub const SPATIAL_COMPRESSION: usize = 8;

/// What one latent spans, in frames, height and width.
pub(crate) const COMPRESSION: [usize; 3] = [
    TEMPORAL_COMPRESSION,
    SPATIAL_COMPRESSION,
    SPATIAL_COMPRESSION,
];

/// Colour channels of a frame.
pub(crate) const RGB: usize = 3;

/// Resolution levels of either half.
pub(crate) const LEVELS: usize = 4;

/// Between level `i` and the next: what divides (encoder) or multiplies (decoder) frames, height
/// and width. `None` after the last level.
pub(crate) fn level_factor(i: usize) -> Option<[usize; 3]> {
    [[1, 2, 2], [2, 2, 2], [2, 2, 2]].get(i).copied()
}

/// Copies of the largest activation at the peak of a pass: the residual, the normalised input, its
/// padded copy and what the convolution makes of it. Measured on the CPU backend.
const PEAK_COPIES: usize = 5;

/// Configuration of a [`Vae`]. The defaults are the published model's; the names are those of the
/// reference's `config.json`.
#[derive(Config, Debug)]
pub struct VaeConfig {
    /// Channels of the latents.
    #[config(default = 16)]
    pub latent_channels: usize,
    /// Channels of the four resolution levels, finest first; each a multiple of
    /// `norm_num_groups`.
    #[config(default = "[128, 256, 512, 512]")]
    pub block_out_channels: [usize; LEVELS],
    /// Residual blocks in a level of the encoder; the decoder has one more.
    #[config(default = 2)]
    pub layers_per_block: usize,
    /// Groups of the group norms.
    #[config(default = 32)]
    pub norm_num_groups: usize,
    /// What latents are multiplied by before the diffusion model sees them.
    #[config(default = 0.476986)]
    pub scaling_factor: f64,
}

impl VaeConfig {
    /// Creates the model; nothing is allocated before its weights are loaded or used.
    pub fn init(&self, device: &Device) -> Vae {
        Vae::new(self, device)
    }

    /// An estimate of the memory that decoding a clip of `size` frames, height and width takes at
    /// its peak beside the weights, in bytes; encoding takes about half.
    ///
    /// The peak is in the first block after the last up-sampling, where the second level's channels
    /// meet the full resolution: five copies of that activation in f32, and two stretches of
    /// finished frames that are still to be blended.
    pub fn peak_bytes(&self, size: [usize; 3], tiling: &Tiling) -> u64 {
        let tile = tiling.tile();
        // In time a tile takes one frame more.
        let one_pass =
            size[0].min(tile[0].saturating_add(1)) * size[1].min(tile[1]) * size[2].min(tile[2]);
        let stretch = size[0].min(tile[0].saturating_add(1)) * size[1] * size[2];
        let values = PEAK_COPIES * self.block_out_channels[1] * one_pass + 2 * RGB * stretch;
        (values * size_of::<f32>()) as u64
    }
}
