//! A transformer whose blocks are all on the device, or come there one after the other.

use std::{borrow::Cow, sync::Arc};

use burn::{
    nn::{Linear, LinearConfig},
    tensor::{DType, Device, FloatDType, Tensor},
};
use burn_hunyuan_dit::{
    Block, Condition, Conditioning, Dit, DitConfig, DualBlock, FirstBlockCache, SingleBlock,
    modulation,
};

use super::stored::Stored;
use crate::checkpoint::{Error, Part};

/// The transformer, ready to run.
pub(super) struct Transformer {
    dit: Dit,
    /// The layers that the blocks lack for their modulation.
    modulation: Option<Arc<Stored<DitConfig>>>,
    /// The blocks that `dit` lacks.
    blocks: Option<Arc<Stored<DitConfig>>>,
}

/// All that a prompt tells the transformer, for some steps of a generation.
pub(super) struct Guide {
    conditioning: Conditioning,
    timesteps: Tensor<1>,
    /// For each block, its modulation at each step: `[steps, vectors * width]`.
    modulations: Vec<Tensor<2>>,
}

impl From<Dit> for Transformer {
    fn from(dit: Dit) -> Self {
        Self {
            dit,
            modulation: None,
            blocks: None,
        }
    }
}

/// Takes the layers that modulate the blocks out of a transformer that is to be loaded: a quarter of
/// its weights, which are used before the first step and then no more.
pub(super) fn take_modulation(
    part: &mut Part<DitConfig>,
    device: &Device,
    dtype: FloatDType,
) -> Stored<DitConfig> {
    let names = (0..part.config.blocks()).flat_map(|i| part.config.modulation_names(i));
    let prefixes: Vec<_> = names.map(|name| format!("{name}.")).collect();
    Stored::take(part, &prefixes, device, dtype)
}

/// Takes the blocks out of a transformer that is to be loaded.
pub(super) fn take_blocks(
    part: &mut Part<DitConfig>,
    device: &Device,
    dtype: FloatDType,
) -> Stored<DitConfig> {
    let name = |i| format!("{}.", part.config.block_name(i));
    let prefixes: Vec<_> = (0..part.config.blocks()).map(name).collect();
    let stored = Stored::take(part, &prefixes, device, dtype);
    (part.config.dual_blocks, part.config.single_blocks) = (0, 0);
    stored
}

fn load_block(stored: &Stored<DitConfig>, index: usize) -> Result<Block<'static>, Error> {
    let (config, device) = (&stored.config, &stored.device);
    Ok(if index < config.dual_blocks {
        let block = DualBlock::new(config, device).without_modulation();
        Block::dual(Cow::Owned(stored.load(block, index)?))
    } else {
        let block = SingleBlock::new(config, device).without_modulation();
        Block::single(Cow::Owned(stored.load(block, index)?))
    })
}

/// Layer `index` of those that [`take_modulation`] took.
fn load_modulation(stored: &Stored<DitConfig>, index: usize) -> Result<Linear, Error> {
    let config = &stored.config;
    // A dual block has two, of six vectors each.
    let vectors = if index < 2 * config.dual_blocks { 6 } else { 3 };
    let layer = LinearConfig::new(config.width(), vectors * config.width());
    stored.load(layer.init(&stored.device), index)
}

impl Transformer {
    /// `dit` with the parts that it lacks.
    pub fn new(
        dit: Dit,
        modulation: Option<Stored<DitConfig>>,
        blocks: Option<Stored<DitConfig>>,
    ) -> Self {
        Self {
            dit,
            modulation: modulation.map(Arc::new),
            blocks: blocks.map(Arc::new),
        }
    }

    /// Computes all that `condition` and the steps' `timesteps` decide without the latents, which
    /// have the shape `latents`.
    ///
    /// # Errors
    /// Layers that cannot be read.
    pub fn guide(
        &self,
        condition: &Condition,
        timesteps: &[f32],
        latents: [usize; 5],
    ) -> Result<Guide, Error> {
        let dit = &self.dit;
        let device = condition.text.device();
        let timesteps = Tensor::from_data(timesteps, (&device, DType::F32));
        let conditioning = dit.conditioning(condition, latents);
        let vec = dit.vector(timesteps.clone(), &conditioning); // [steps, width]
        let modulations = match &self.modulation {
            None => dit.modulations(&vec),
            Some(stored) => {
                let config = &stored.config;
                let mut layers = stored.stream(load_modulation);
                let blocks = (0..config.blocks()).map(|block| {
                    let count = config.modulation_names(block).len();
                    let parts = layers.by_ref().take(count);
                    let parts = parts.map(|layer| Ok(modulation(&layer?, &vec)));
                    Ok(Tensor::cat(parts.collect::<Result<_, Error>>()?, 1))
                });
                blocks.collect::<Result<_, Error>>()?
            }
        };
        Ok(Guide {
            conditioning,
            timesteps,
            modulations,
        })
    }

    /// The velocity at step `step` of those of `guide`: see [`Dit::forward_through`].
    ///
    /// # Errors
    /// Blocks that cannot be read.
    pub fn velocity(
        &self,
        latents: Tensor<5>,
        step: usize,
        guide: &Guide,
        cache: Option<&mut FirstBlockCache>,
    ) -> Result<Tensor<5>, Error> {
        let timestep = guide.timesteps.clone().narrow(0, step, 1);
        let modulations = guide.modulations.iter();
        let modulations = modulations.map(|all| all.clone().narrow(0, step, 1));
        let (dit, conditioning) = (&self.dit, &guide.conditioning);
        match &self.blocks {
            None => {
                let blocks = dit.blocks().zip(modulations);
                let blocks = blocks.map(|(block, modulation)| Ok(block.modulated(modulation)));
                dit.forward_through(blocks, latents, timestep, conditioning, cache)
            }
            Some(stored) => {
                let blocks = stored.stream(load_block).zip(modulations);
                let blocks = blocks.map(|(block, modulation)| Ok(block?.modulated(modulation)));
                dit.forward_through(blocks, latents, timestep, conditioning, cache)
            }
        }
    }
}
