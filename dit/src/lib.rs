#![doc = include_str!("../README.md")]

mod attention;
mod block;
mod config;
mod dual_block;
mod embed;
mod final_layer;
mod first_block_cache;
mod mlp;
mod modulation;
mod refiner;
mod rope;
mod single_block;
mod split;

use std::convert::Infallible;

use burn::{module::Module, nn::conv::Conv3d, tensor::Tensor};
use burn_hunyuan_kernels::silu;

use block::Tokens;
use embed::sinusoid;

pub use block::Block;
pub use config::DitConfig;
pub use dual_block::{DualBlock, Stream};
pub use final_layer::FinalLayer;
pub use first_block_cache::FirstBlockCache;
pub use mlp::Mlp;
pub use modulation::modulation;
pub use refiner::{RefinerBlock, TextRefiner};
pub use rope::Rope;
pub use single_block::SingleBlock;
pub use split::place;

/// Added to the variance by every layer norm.
const NORM_EPS: f64 = 1e-6;

/// What the video is to show.
#[derive(Clone, Debug)]
pub struct Condition {
    /// States of the language model, padded at the end: `[batch, tokens, text_dim]`.
    pub text: Tensor<3>,
    /// Number of real tokens of each sample, at least one.
    pub text_lengths: Vec<usize>,
    /// Pooled state of CLIP: `[batch, pooled_dim]`.
    pub pooled: Tensor<2>,
    /// Guidance scale times 1000: `[batch]`. Models without guidance embedding ignore it.
    pub guidance: Option<Tensor<1>>,
}

/// What attention has to know of the tokens of a batch, image tokens first.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Where each token is.
    pub rope: Rope,
    /// The tokens of each sample, image and real text.
    pub lengths: Vec<usize>,
    /// Image tokens along time, height and width.
    pub grid: [usize; 3],
}

/// A [`Condition`] as the model holds it, for latents of one size: all that does not change from step
/// to step. See [`Dit::conditioning`].
#[derive(Clone, Debug)]
pub struct Conditioning {
    /// Text tokens before the refiner's blocks: `[batch, text tokens, width]`.
    text: Tensor<3>,
    /// The mean text state's part of the refiner's vector: `[batch, width]`.
    context: Tensor<2>,
    /// The guidance scale's part of the vector that modulates every block: `[batch, width]`.
    guidance: Option<Tensor<2>>,
    /// The pooled text's part.
    pooled: Tensor<2>,
    /// Numbers of real text tokens.
    text_lengths: Vec<usize>,
    /// What attention has to know.
    pub sequence: Sequence,
}

impl Sequence {
    /// The tokens that are not text.
    fn image_tokens(&self) -> usize {
        self.grid.iter().product()
    }
}

/// The diffusion transformer: predicts the velocity of noisy latents (arXiv 2412.03603,
/// section 4.2; diffusers `HunyuanVideoTransformer3DModel`).
///
/// Created by [`DitConfig::init`]. Activations are in the weights' dtype.
#[derive(Module, Debug)]
pub struct Dit {
    /// Latents to image tokens.
    pub image_in: Conv3d,
    /// Text states to text tokens.
    pub text_in: TextRefiner,
    /// The timestep's part of the conditioning vector.
    pub time_in: Mlp,
    /// The guidance scale's part of the conditioning vector.
    pub guidance_in: Option<Mlp>,
    /// The pooled text's part of the conditioning vector.
    pub pooled_in: Mlp,
    /// The dual-stream blocks.
    pub dual_blocks: Vec<DualBlock>,
    /// The single-stream blocks.
    pub single_blocks: Vec<SingleBlock>,
    /// Image tokens to velocity.
    pub final_layer: FinalLayer,
    patch: [usize; 3],
    rope_axes: [usize; 3],
    rope_theta: f64,
}

impl Dit {
    /// The velocity, noise minus data, at `latents`, in the weights' dtype.
    ///
    /// # Shapes
    /// - `latents`: `[batch, in_channels, frames, height, width]`, multiples of the patch
    /// - `timestep`: f32 `[batch]`, from 0 (data) to 1000 (noise)
    /// - output: `[batch, out_channels, frames, height, width]`
    ///
    /// # Panics
    /// On shapes that disagree, and without a guidance scale where the model takes one.
    pub fn forward(
        &self,
        latents: Tensor<5>,
        timestep: Tensor<1>,
        condition: &Condition,
    ) -> Tensor<5> {
        let blocks = self.blocks().map(Ok::<_, Infallible>);
        let conditioning = self.conditioning(condition, latents.dims());
        let Ok(velocity) = self.forward_through(blocks, latents, timestep, &conditioning, None);
        velocity
    }

    /// As [`forward`](Self::forward), with what does not change computed before, and through `blocks`
    /// instead of the model's own, so that these need not all be in memory: each is asked for when the
    /// one before has run and is dropped. With a `cache`, the work of an earlier step stands in for all
    /// but the first where it allows.
    ///
    /// # Errors
    /// The first of `blocks`.
    ///
    /// # Panics
    /// As [`forward`](Self::forward), and on a dual-stream block after a single-stream one.
    pub fn forward_through<'a, E>(
        &self,
        blocks: impl IntoIterator<Item = Result<Block<'a>, E>>,
        latents: Tensor<5>,
        timestep: Tensor<1>,
        conditioning: &Conditioning,
        cache: Option<&mut FirstBlockCache>,
    ) -> Result<Tensor<5>, E> {
        let home = latents.device();
        let (image, text, vec) = self.embed(latents, timestep, conditioning);
        let (blocks, sequence) = (blocks.into_iter(), &conditioning.sequence);
        let image = match cache {
            None => {
                let tokens = Tokens::Apart(image, text).through(blocks, &vec, sequence)?;
                tokens.image(sequence)
            }
            Some(cache) => cache.through(blocks, image, text, &vec, sequence)?,
        };
        Ok(self.velocity(place(image, &home), &vec, sequence))
    }

    /// Embeds what does not change from step to step, for latents of the shape that
    /// [`forward`](Self::forward) takes.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn conditioning(&self, condition: &Condition, latents: [usize; 5]) -> Conditioning {
        let dtype = self.image_in.weight.dtype();
        let [batch, _, frames, height, width] = latents;
        let [pt, ph, pw] = self.patch;
        let grid = [frames / pt, height / ph, width / pw];
        let image_tokens = grid.iter().product::<usize>();

        // Padding beyond the longest text takes no part at all; shorter texts end at their length.
        let text_lengths = &condition.text_lengths;
        assert_eq!(text_lengths.len(), batch, "a text length for each sample");
        let text_tokens = text_lengths.iter().copied().max().unwrap_or(0);
        let text = condition.text.clone().narrow(1, 0, text_tokens).cast(dtype);
        let device = text.device();
        let (text, context) = self.text_in.embed(text, text_lengths);

        let guidance = self.guidance_in.as_ref().map(|guidance_in| {
            let guidance = condition.guidance.clone();
            let guidance = guidance.expect("a guidance-distilled model needs a guidance scale");
            // The reference holds the scale in the model's dtype: in bf16, 6000 is 6016.
            guidance_in.forward(sinusoid(guidance.cast(dtype)).cast(dtype), silu)
        });
        let pooled = condition.pooled.clone().cast(dtype);
        Conditioning {
            text,
            context,
            guidance,
            pooled: self.pooled_in.forward(pooled, silu),
            text_lengths: text_lengths.clone(),
            sequence: Sequence {
                rope: Rope::new(self.rope_axes, self.rope_theta, grid, text_tokens, &device),
                lengths: text_lengths.iter().map(|n| image_tokens + n).collect(),
                grid,
            },
        }
    }

    /// All that comes before the blocks: image tokens, text tokens, and the vector that modulates every
    /// block. For what [`forward`](Self::forward) is not enough.
    ///
    /// # Shapes
    /// - `latents`, `timestep`: as [`forward`](Self::forward)
    /// - image: `[batch, image tokens, width]`
    /// - text: `[batch, text tokens, width]`
    /// - vector: `[batch, width]`
    pub fn embed(
        &self,
        latents: Tensor<5>,
        timestep: Tensor<1>,
        conditioning: &Conditioning,
    ) -> (Tensor<3>, Tensor<3>, Tensor<2>) {
        let vec = self.vector(timestep.clone(), conditioning);
        let latents = latents.cast(self.image_in.weight.dtype());
        let image = self.image_in.forward(latents); // [batch, width, t, h, w]
        let image = image.flatten::<3>(2, 4).swap_dims(1, 2); // [batch, image tokens, width]
        let Conditioning {
            text,
            context,
            text_lengths,
            ..
        } = conditioning;
        let (text, context) = (text.clone(), context.clone());
        let text = self.text_in.forward(text, context, timestep, text_lengths);
        (image, text, vec)
    }

    /// All that comes after the blocks: image tokens `[batch, tokens, width]`, which text tokens
    /// may follow, to the velocity `[batch, out_channels, frames, height, width]`.
    pub fn velocity(&self, tokens: Tensor<3>, vec: &Tensor<2>, sequence: &Sequence) -> Tensor<5> {
        let image = tokens.narrow(1, 0, sequence.image_tokens());
        let patches = self.final_layer.forward(image, vec);
        unpatchify(patches, sequence.grid, self.patch)
    }

    /// The vector that modulates every block at a timestep; or for a single sample those of many
    /// timesteps, `[timesteps]` to `[timesteps, width]`.
    pub fn vector(&self, timestep: Tensor<1>, conditioning: &Conditioning) -> Tensor<2> {
        let dtype = self.image_in.weight.dtype();
        let mut vec = self.time_in.forward(sinusoid(timestep).cast(dtype), silu);
        if let Some(guidance) = &conditioning.guidance {
            vec = vec + guidance.clone();
        }
        vec + conditioning.pooled.clone()
    }
}

/// Lays the patches of all tokens out as a video.
///
/// # Shapes
/// - `patches`: `[batch, t h w, channels * patch values]`
/// - output: `[batch, channels, frames, height, width]`
fn unpatchify(patches: Tensor<3>, [t, h, w]: [usize; 3], [pt, ph, pw]: [usize; 3]) -> Tensor<5> {
    let [batch, _, values] = patches.dims();
    let channels = values / (pt * ph * pw);
    // First time, then height and width: some backends know no more than six axes.
    let frames = patches
        .reshape([batch, t, h * w, channels, pt, ph * pw])
        .permute([0, 3, 1, 4, 2, 5]); // [batch, channels, t, pt, h w, ph pw]
    frames
        .reshape([batch * channels * t * pt, h, w, ph, pw])
        .swap_dims(2, 3)
        .reshape([batch, channels, t * pt, h * ph, w * pw])
}
