#![doc = include_str!("../README.md")]
//!
//! | file | what is in it |
//! | --- | --- |
//! | `config` | the sizes of the model |
//! | `encoder`, `decoder` | the two halves: levels of residual blocks |
//! | `mid`, `resnet`, `conv` | what they are built from |
//! | `gaussian` | the distribution that the encoder predicts |
//! | [`quality`] | how close a reconstruction is: PSNR and SSIM |
//! | `tiling`, `tiles` | how a long or large clip is cut, and the pass over the pieces |
//!
//! Parameters have the names of the published checkpoint (diffusers' `AutoencoderKLHunyuanVideo`
//! and Tencent's own code agree on them).

mod config;
mod conv;
mod decoder;
mod encoder;
mod gaussian;
mod mid;
pub mod quality;
mod resnet;
mod tiles;
mod tiling;

pub use config::{SPATIAL_COMPRESSION, TEMPORAL_COMPRESSION, VaeConfig};
pub use conv::{CausalConv3d, CausalConv3dConfig};
pub use decoder::{Decoder, UpBlock, Upsampler};
pub use encoder::{DownBlock, Downsampler, Encoder};
pub use gaussian::DiagonalGaussian;
pub use mid::{FrameCausalAttention, FrameCausalAttentionConfig, MidBlock, MidBlockConfig};
pub use resnet::{ResnetBlock, ResnetBlockConfig};
pub use tiles::Tiles;
pub use tiling::{Tiling, TilingError, TilingMode};

use burn::{
    module::Module,
    nn::conv::{Conv3d, Conv3dConfig},
    tensor::{Device, Tensor},
};
use tiles::Direction;

/// The causal 3D VAE of HunyuanVideo (arXiv 2412.03603, section 4.1).
///
/// Videos are RGB in [−1, 1]. `4 n + 1` frames of `8 h × 8 w` pixels have `n + 1` latent frames of
/// `h × w`. The diffusion model works on latents multiplied by [`scaling_factor`](Self::scaling_factor);
/// every method here is about latents without it.
#[derive(Module, Debug)]
pub struct Vae {
    /// From video to moments.
    pub encoder: Encoder,
    /// From latents to video.
    pub decoder: Decoder,
    /// Mixes the channels of the moments, after the encoder.
    pub quant_conv: Conv3d,
    /// Mixes the channels of the latents, before the decoder.
    pub post_quant_conv: Conv3d,
    /// What latents are multiplied by for the diffusion model, and divided by after it.
    pub scaling_factor: f64,
}

impl Vae {
    pub(crate) fn new(config: &VaeConfig, device: &Device) -> Self {
        let mix = |channels| Conv3dConfig::new([channels, channels], [1; 3]).init(device);
        Self {
            encoder: Encoder::new(config, device),
            decoder: Decoder::new(config, device),
            quant_conv: mix(2 * config.latent_channels),
            post_quant_conv: mix(config.latent_channels),
            scaling_factor: config.scaling_factor,
        }
    }

    /// Encodes a video in one pass.
    ///
    /// # Shapes
    /// - `video`: `[batch, 3, frames, height, width]`, values in [−1, 1]
    /// - mean and logvar: `[batch, latent channels, (frames − 1)/4 + 1, height/8, width/8]`
    pub fn encode(&self, video: Tensor<5>) -> DiagonalGaussian {
        DiagonalGaussian::from_moments(self.moments(video))
    }

    /// Decodes latents in one pass.
    ///
    /// # Shapes
    /// - `latents`: `[batch, latent channels, frames, height, width]`
    /// - output: `[batch, 3, 4 · (frames − 1) + 1, 8 · height, 8 · width]`, values about [−1, 1]
    pub fn decode(&self, latents: Tensor<5>) -> Tensor<5> {
        self.decoder.forward(self.post_quant_conv.forward(latents))
    }

    /// Encodes a video in tiles. The iterator's tensors are stretches of the moments: concatenate
    /// them along axis 2 for [`DiagonalGaussian::from_moments`].
    ///
    /// # Shapes
    /// - `video`: `[batch, 3, frames, height, width]`, values in [−1, 1]
    /// - stretches: `[batch, 2 · latent channels, _, height/8, width/8]`
    pub fn encode_tiles(&self, video: Tensor<5>, tiling: &Tiling) -> Tiles<'_> {
        Tiles::new(|tile| self.moments(tile), video, tiling, Direction::Encode)
    }

    /// Decodes latents in tiles. The iterator's tensors are stretches of the video, in order.
    ///
    /// ```no_run
    /// # use burn::tensor::Tensor;
    /// # use burn_hunyuan_vae::{Tiling, Vae};
    /// # fn decode(vae: Vae, latents: Tensor<5>, write: fn(Tensor<5>)) {
    /// let tiles = vae.decode_tiles(latents, &Tiling::TENCENT);
    /// let total = tiles.len();
    /// for (i, frames) in tiles.enumerate() {
    ///     println!("tile {} of {total}", i + 1);
    ///     if let Some(frames) = frames {
    ///         write(frames);
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Shapes
    /// - `latents`: `[batch, latent channels, frames, height, width]`
    /// - stretches: `[batch, 3, _, 8 · height, 8 · width]`
    pub fn decode_tiles(&self, latents: Tensor<5>, tiling: &Tiling) -> Tiles<'_> {
        Tiles::new(|tile| self.decode(tile), latents, tiling, Direction::Decode)
    }

    fn moments(&self, video: Tensor<5>) -> Tensor<5> {
        self.quant_conv.forward(self.encoder.forward(video))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::{
        module::{ModuleVisitor, Param},
        tensor::DType,
    };
    use burn_store::{ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore};

    #[derive(Default)]
    struct Parameters {
        path: Vec<String>,
        names: Vec<String>,
    }

    impl ModuleVisitor for Parameters {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.to_string());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            assert!(!param.is_initialized(), "{:?} is allocated", self.path);
            self.names.push(self.path.join("."));
        }
    }

    #[test]
    fn the_published_model_is_built_without_allocating_it() {
        let vae = VaeConfig::new().init(&Device::flex());
        let mut parameters = Parameters::default();
        vae.visit(&mut parameters);
        assert_eq!(vae.num_params(), 246_478_803);
        assert_eq!(parameters.names.len(), 248);
        for name in [
            "encoder.conv_in.conv.weight",
            "encoder.down_blocks.1.resnets.0.conv_shortcut.conv.bias",
            "encoder.down_blocks.2.downsamplers.0.conv.conv.weight",
            "decoder.mid_block.attentions.0.to_out.0.weight",
            "decoder.up_blocks.3.resnets.2.norm2.bias",
            "post_quant_conv.weight",
        ] {
            assert!(
                parameters.names.iter().any(|n| n == name),
                "{name} is missing"
            );
        }
    }

    #[test]
    fn first_frame_has_a_latent_of_its_own() {
        let device = Device::flex();
        let vae = VaeConfig::new()
            .with_latent_channels(2)
            .with_block_out_channels([2, 2, 2, 2])
            .with_layers_per_block(1)
            .with_norm_num_groups(1)
            .init(&device);
        for (frames, latent_frames) in [(1, 1), (5, 2), (9, 3)] {
            let video = Tensor::zeros([1, 3, frames, 16, 24], (&device, DType::F32));
            let mean = vae.encode(video).mean;
            assert_eq!(mean.dims(), [1, 2, latent_frames, 2, 3]);
            assert_eq!(vae.decode(mean).dims(), [1, 3, frames, 16, 24]);
        }
    }

    #[test]
    fn burn_store_loads_a_checkpoint_as_it_is() {
        let device = Device::flex();
        let mut vae = VaeConfig::new()
            .with_latent_channels(2)
            .with_block_out_channels([2, 2, 2, 2])
            .with_layers_per_block(1)
            .with_norm_num_groups(1)
            .init(&device);
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../tests/fixtures/vae_presets.safetensors"
        );
        let mut file = SafetensorsStore::from_file(path)
            .with_key_remapping(r"^weights\.", "")
            .with_from_adapter(PyTorchToBurnAdapter);
        let loaded = vae.load_from(&mut file).unwrap();
        assert!(
            loaded.missing.is_empty() && loaded.errors.is_empty(),
            "{loaded:?}"
        );
    }
}
