//! How much arithmetic a pass takes: two operations for each multiply-add of the matrix products
//! and convolutions. Norms and activations, some parts in a thousand, are not counted.

use burn_hunyuan_dit::DitConfig;
use burn_hunyuan_text::{ClipConfig, LlamaConfig};
use burn_hunyuan_vae::VaeConfig;

/// One pass of the transformer over latents of `size` frames, height and width, with `text` tokens.
pub fn dit(config: &DitConfig, size: [usize; 3], text: usize) -> u64 {
    let [frames, height, width] = size;
    let [pt, ph, pw] = config.patch;
    let image = frames / pt * (height / ph) * (width / pw);
    let tokens = image + text;
    let (dim, mlp) = (config.width(), config.mlp_width());
    let patch = pt * ph * pw;

    // Queries, keys, values and the projection; the two halves of the MLP; the modulation.
    let block = tokens * (4 * dim * dim + 2 * dim * mlp) + 2 * tokens * tokens * dim;
    let dual = config.dual_blocks * (block + 2 * 6 * dim * dim);
    let single = config.single_blocks * (block + 3 * dim * dim);
    let refiner = config.refiner_blocks
        * (text * (4 * dim * dim + 2 * dim * mlp) + 2 * text * text * dim + 2 * dim * dim);
    let ends = image * patch * dim * (config.in_channels + config.out_channels)
        + text * config.text_dim * dim;
    2 * (dual + single + refiner + ends) as u64
}

/// One pass of LLaMA over `tokens` tokens.
pub fn llama(config: &LlamaConfig, tokens: usize) -> u64 {
    let dim = config.hidden;
    let keys = dim / config.heads * config.kv_heads;
    let weights = 2 * dim * dim + 2 * dim * keys + 3 * dim * config.intermediate;
    2 * (config.layers * (tokens * weights + 2 * tokens * tokens * dim)) as u64
}

/// One pass of CLIP over `tokens` tokens.
pub fn clip(config: &ClipConfig, tokens: usize) -> u64 {
    let dim = config.hidden;
    let weights = 4 * dim * dim + 2 * dim * config.intermediate;
    2 * (config.layers * (tokens * weights + 2 * tokens * tokens * dim)) as u64
}

/// Frames, height and width of a level's activations.
#[derive(Clone, Copy)]
struct Grid([usize; 3]);

impl Grid {
    fn points(self) -> usize {
        self.0.iter().product()
    }

    /// Twice as high and wide, and twice as long but for the first frame if `in_time`.
    fn doubled(self, in_time: bool) -> Self {
        let [t, h, w] = self.0;
        Self([if in_time { 2 * (t - 1) + 1 } else { t }, 2 * h, 2 * w])
    }
}

/// Multiply-adds of a 3 × 3 × 3 convolution.
fn conv(grid: Grid, inputs: usize, outputs: usize) -> usize {
    27 * grid.points() * inputs * outputs
}

fn resnet(grid: Grid, inputs: usize, outputs: usize) -> usize {
    let shortcut = if inputs == outputs {
        0
    } else {
        grid.points() * inputs * outputs
    };
    conv(grid, inputs, outputs) + conv(grid, outputs, outputs) + shortcut
}

/// Two residual blocks and the frame-causal attention between them.
fn middle(grid: Grid, channels: usize) -> usize {
    let [frames, height, width] = grid.0;
    let tokens = grid.points();
    let pairs = height * width * height * width * frames * (frames + 1) / 2;
    2 * resnet(grid, channels, channels) + 4 * tokens * channels * channels + 2 * pairs * channels
}

/// The grids of the four levels, finest first. `in_time` says which steps between them, finest
/// first, double the frames.
fn levels(latents: [usize; 3], in_time: [bool; 3]) -> [Grid; 4] {
    let fourth = Grid(latents);
    let third = fourth.doubled(in_time[2]);
    let second = third.doubled(in_time[1]);
    [second.doubled(in_time[0]), second, third, fourth]
}

/// One pass of the VAE's encoder over a clip of `size` frames, height and width.
pub fn vae_encode(config: &VaeConfig, size: [usize; 3]) -> u64 {
    let [frames, height, width] = size;
    let latents = [(frames - 1) / 4 + 1, height / 8, width / 8];
    let grids = levels(latents, [false, true, true]);
    let channels = config.block_out_channels;
    let mut sum = conv(grids[0], 3, channels[0]);
    let mut inputs = channels[0];
    for level in 0..4 {
        for _ in 0..config.layers_per_block {
            sum += resnet(grids[level], inputs, channels[level]);
            inputs = channels[level];
        }
        if level < 3 {
            sum += conv(grids[level + 1], inputs, inputs);
        }
    }
    sum += middle(grids[3], inputs) + conv(grids[3], inputs, 2 * config.latent_channels);
    2 * sum as u64
}

/// One pass of the VAE's decoder over latents of `size` frames, height and width.
pub fn vae_decode(config: &VaeConfig, size: [usize; 3]) -> u64 {
    let grids = levels(size, [true, true, false]);
    let channels = config.block_out_channels;
    let mut sum =
        conv(grids[3], config.latent_channels, channels[3]) + middle(grids[3], channels[3]);
    let mut inputs = channels[3];
    for level in (0..4).rev() {
        for _ in 0..=config.layers_per_block {
            sum += resnet(grids[level], inputs, channels[level]);
            inputs = channels[level];
        }
        if level > 0 {
            sum += conv(grids[level - 1], inputs, inputs);
        }
    }
    2 * (sum + conv(grids[0], inputs, 3)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::parameters, device};
    use burn::module::Module;

    /// Two operations for each weight of a module's linear layers and convolutions whose name
    /// passes, and each token.
    fn matrices(module: &impl Module, tokens: usize, passes: fn(&str) -> bool) -> u64 {
        let weights = parameters(module).into_iter();
        let weights = weights.filter(|p| p.shape.len() > 1 && passes(&p.name));
        weights
            .map(|p| 2 * (tokens * p.shape.iter().product::<usize>()) as u64)
            .sum()
    }

    #[test]
    fn the_transformer_costs_its_weights_and_its_attention() {
        let config = DitConfig::new().with_heads(2).with_text_dim(64);
        let dit = config.init(&device::open("flex").unwrap());
        let (image, text, dim) = (3 * 4 * 5, 7, config.width());
        let on = |tokens, passes| matrices(&dit, tokens, passes);
        let blocks = on(image, |n| {
            n.contains(".image.") && !n.contains("modulation")
        }) + on(text, |n| n.contains(".text.") && !n.contains("modulation"))
            + on(image + text, |n| {
                n.starts_with("single") && !n.contains("modulation")
            })
            + on(text, |n| {
                n.starts_with("text_in.blocks") && !n.contains("modulation")
            });
        let modulations = on(1, |n| n.contains("modulation") && !n.starts_with("final"));
        let ends = on(image, |n| {
            n == "image_in.weight" || n == "final_layer.proj.weight"
        }) + on(text, |n| n == "text_in.proj.weight");
        let pairs = 60 * (image + text).pow(2) + 2 * text.pow(2);
        let attention = 4 * (pairs * dim) as u64;
        let expected = blocks + modulations + ends + attention;
        assert_eq!(super::dit(&config, [3, 8, 10], text), expected);
    }

    #[test]
    fn llama_costs_its_weights_and_its_attention() {
        let config = LlamaConfig::new();
        let module = config.init(&device::open("flex").unwrap());
        let expected = matrices(&module, 9, |name| name.starts_with("layers"))
            + 4 * (config.layers * 9 * 9 * config.hidden) as u64;
        assert_eq!(llama(&config, 9), expected);
    }

    #[test]
    fn clip_costs_its_weights_and_its_attention() {
        let config = ClipConfig::new();
        let module = config.init(&device::open("flex").unwrap());
        let expected = matrices(&module, 77, |name| name.starts_with("encoder.layers"))
            + 4 * (config.layers * 77 * 77 * config.hidden) as u64;
        assert_eq!(clip(&config, 77), expected);
    }

    /// On a single frame of 8 × 8 pixels every level is a known grid.
    #[test]
    fn the_vae_costs_its_weights_at_every_level() {
        let config = VaeConfig::new();
        let vae = config.init(&device::open("flex").unwrap());
        let on = |points, passes| matrices(&vae, points, passes);
        let levels = on(64, |n| {
            n.starts_with("decoder.up_blocks.3") || n.starts_with("decoder.conv_out")
        }) + on(16, |n| n.starts_with("decoder.up_blocks.2.resnets"))
            + on(64, |n| n.starts_with("decoder.up_blocks.2.upsamplers"))
            + on(4, |n| n.starts_with("decoder.up_blocks.1.resnets"))
            + on(16, |n| n.starts_with("decoder.up_blocks.1.upsamplers"))
            + on(1, |n| n.starts_with("decoder.up_blocks.0.resnets"))
            + on(4, |n| n.starts_with("decoder.up_blocks.0.upsamplers"))
            + on(1, |n| {
                n.starts_with("decoder.conv_in") || n.starts_with("decoder.mid_block")
            });
        let attention = 4 * config.block_out_channels[3] as u64;
        assert_eq!(vae_decode(&config, [1, 1, 1]), levels + attention);
    }
}
