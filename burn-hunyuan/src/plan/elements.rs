//! Numbers of parameters, and the bytes that they take.

use super::Settings;
use crate::{
    checkpoint::{Parameter, Quantization, Weights},
    pipeline::Offload,
};

/// In the names of the layers that modulate a block, whose outputs are computed for all steps at once.
const MODULATION: &str = "modulation.";

/// Numbers of parameters.
#[derive(Clone, Debug)]
pub(super) struct Elements {
    /// Of each block or layer, without the layers that modulate it.
    pub blocks: Vec<u64>,
    /// Of the layers that modulate blocks.
    pub modulation: u64,
    /// Outside of them.
    pub rest: u64,
    /// Of the largest.
    pub largest: u64,
    /// Of the matrices that a quantization compresses.
    pub large: u64,
    /// How blocks are compressed in their file.
    pub compressed: Option<Compressed>,
}

/// Compressed weights in blocks or layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Compressed {
    pub elements: u64,
    pub bytes: u64,
    /// Whether accelerators can hold them so.
    pub on_devices: bool,
}

impl Compressed {
    /// What of a file is compressed in the blocks whose names begin so.
    pub fn of(weights: &Weights, blocks: &[String]) -> Option<Self> {
        let tensors = weights.iter().filter(|(name, tensor)| {
            let is_matrix = tensor.shape().len() == 2 && !tensor.encoding().is_computed();
            let in_block = blocks.iter().any(|prefix| name.starts_with(prefix));
            is_matrix && in_block && !name.contains(MODULATION)
        });
        let mut all = Self {
            elements: 0,
            bytes: 0,
            on_devices: weights.is_decoded_by_devices(),
        };
        for (_, tensor) in tensors {
            all.elements += tensor.elements() as u64;
            all.bytes += tensor.byte_len() as u64;
        }
        weights.is_compressed().then_some(all)
    }
}

impl Elements {
    pub fn of(parameters: &[Parameter], blocks: &[String]) -> Self {
        let elements = |p: &Parameter| p.shape.iter().product::<usize>() as u64;
        let count = |keep: &dyn Fn(&Parameter) -> bool| {
            parameters.iter().filter(|p| keep(p)).map(elements).sum()
        };
        let modulates = |p: &Parameter| p.name.contains(MODULATION);
        let counts: Vec<u64> = blocks
            .iter()
            .map(|prefix| count(&|p| p.name.starts_with(prefix) && !modulates(p)))
            .collect();
        let in_block = |p: &Parameter| blocks.iter().any(|prefix| p.name.starts_with(prefix));
        Self {
            modulation: count(&|p| in_block(p) && modulates(p)),
            rest: count(&|p| !in_block(p)),
            largest: parameters.iter().map(elements).max().unwrap_or(0),
            compressed: None,
            large: count(&|p| Quantization::Int8.applies(&p.name, &p.shape)),
            blocks: counts,
        }
    }

    /// The same with matrices compressed to `to`, if they are to be.
    pub fn quantized(&self, to: Option<Quantization>) -> Self {
        let Some(encoding) = to.map(Quantization::encoding) else {
            return self.clone();
        };
        let blocks = self.large / encoding.block_len() as u64;
        let compressed = Some(Compressed {
            elements: self.large,
            bytes: blocks * encoding.block_bytes() as u64,
            on_devices: encoding.is_decoded_by_devices(),
        });
        Self {
            compressed,
            ..self.clone()
        }
    }

    /// The compressed weights that would be there in full if they did not wait outside.
    pub fn would_grow(&self, is_host: bool) -> bool {
        self.compressed.is_some_and(|c| is_host || !c.on_devices)
    }

    /// Those that are on the device at once.
    pub fn resident(&self, offload: Offload, keep_loaded: bool) -> u64 {
        self.rest
            + match offload {
                // One runs, the next one is there.
                Offload::Blocks => {
                    let pairs = self.blocks.windows(2).map(|pair| pair.iter().sum());
                    pairs.max().unwrap_or(0)
                }
                _ => {
                    let modulation = if keep_loaded { self.modulation } else { 0 };
                    self.blocks.iter().sum::<u64>() + modulation
                }
            }
    }

    /// The bytes that they take there, with `bytes` for each that is not compressed.
    pub fn resident_bytes(&self, offload: Offload, bytes: u64, settings: &Settings) -> u64 {
        let all = self.resident(offload, settings.keep_loaded) * bytes;
        match (offload, self.compressed) {
            (Offload::None, Some(compressed)) if !self.would_grow(settings.is_host) => {
                // One is decoded for its product.
                all - compressed.elements * bytes + compressed.bytes + self.largest * bytes
            }
            _ => all,
        }
    }
}
