//! A transformer whose blocks are all on the device, or come there one after the other.

use std::{borrow::Cow, sync::Arc};

use burn::tensor::{Device, FloatDType, Tensor};
use burn_hunyuan_dit::{Block, Condition, Dit, DitConfig, DualBlock, FirstBlockCache, SingleBlock};

use super::stored::Stored;
use crate::checkpoint::{Error, Part};

/// The transformer, ready to run.
pub(super) struct Transformer {
    dit: Dit,
    /// The blocks that `dit` lacks.
    stored: Option<Arc<Stored<DitConfig>>>,
}

impl From<Dit> for Transformer {
    fn from(dit: Dit) -> Self {
        Self { dit, stored: None }
    }
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
        let block = stored.load(DualBlock::new(config, device), index)?;
        Block::Dual(Cow::Owned(block))
    } else {
        let block = stored.load(SingleBlock::new(config, device), index)?;
        Block::Single(Cow::Owned(block))
    })
}

impl Transformer {
    /// A transformer with blocks that are not loaded, and `dit` for all else.
    pub fn with_stored_blocks(dit: Dit, blocks: Stored<DitConfig>) -> Self {
        let stored = Some(Arc::new(blocks));
        Self { dit, stored }
    }

    /// The velocity: see [`Dit::forward_through`].
    ///
    /// # Errors
    /// Blocks that cannot be read.
    pub fn velocity(
        &self,
        latents: Tensor<5>,
        timestep: Tensor<1>,
        condition: &Condition,
        cache: Option<&mut FirstBlockCache>,
    ) -> Result<Tensor<5>, Error> {
        let dit = &self.dit;
        match &self.stored {
            None => {
                let blocks = dit.blocks().map(Ok);
                dit.forward_through(blocks, latents, timestep, condition, cache)
            }
            Some(stored) => {
                let blocks = stored.stream(load_block);
                dit.forward_through(blocks, latents, timestep, condition, cache)
            }
        }
    }
}
