//! Steps that reuse what the blocks did at an earlier one.

use burn::tensor::{DType, Tensor};

use crate::{Block, Sequence, block::Tokens, place};

/// First-block cache: at neighbouring sampling steps the blocks change the tokens by nearly the
/// same, and how nearly shows in the first block, which costs little.
///
/// A step runs the first block. If that changes the image tokens as it did at the last step that
/// was run whole, but for a relative mean difference of at most a threshold, the rest of the blocks
/// is not run: what they added then is added again. Zero reuses nothing but the exact repetition.
///
/// ParaAttention's "first block cache"; diffusers `FirstBlockCacheConfig`. One cache serves one
/// sequence of steps under one condition.
#[derive(Clone, Debug)]
pub struct FirstBlockCache {
    threshold: f64,
    kept: Option<Kept>,
    reused: usize,
}

/// Of the last step that was run whole.
#[derive(Clone, Debug)]
struct Kept {
    /// What the first block added to the image tokens, `[batch, tokens, width]`.
    first: Tensor<3>,
    /// What the other blocks added.
    rest: Tensor<3>,
}

impl FirstBlockCache {
    /// An empty cache. Usual thresholds are 0.05 to 0.2.
    pub fn new(threshold: f64) -> Self {
        Self {
            threshold,
            kept: None,
            reused: 0,
        }
    }

    /// The number of steps that were not run whole.
    pub fn reused(&self) -> usize {
        self.reused
    }

    /// What the other blocks will add where the first adds `first`, if that is known.
    fn recall(&mut self, first: &Tensor<3>) -> Option<Tensor<3>> {
        let kept = self.kept.as_ref()?;
        let mean = |x: Tensor<3>| x.abs().cast(DType::F32).mean().into_scalar::<f32>();
        let change = mean(first.clone() - kept.first.clone()) / mean(kept.first.clone());
        // A change that is no number is none that is small.
        (f64::from(change) <= self.threshold).then(|| {
            self.reused += 1;
            kept.rest.clone()
        })
    }

    /// The image tokens, on their device, after the first block and the others, or what these added at
    /// an earlier step.
    pub(crate) fn through<'a, E>(
        &mut self,
        mut blocks: impl Iterator<Item = Result<Block<'a>, E>>,
        image: Tensor<3>,
        text: Tensor<3>,
        vec: &Tensor<2>,
        sequence: &Sequence,
    ) -> Result<Tensor<3>, E> {
        let home = image.device();
        let tokens = Tokens::Apart(image.clone(), text);
        let tokens = tokens.through(blocks.by_ref().take(1), vec, sequence)?;
        let after_first = place(tokens.image(sequence), &home);
        let first = after_first.clone() - image;
        if let Some(rest) = self.recall(&first) {
            return Ok(after_first + rest);
        }
        self.kept = None; // makes room for the blocks
        let tokens = tokens.through(blocks, vec, sequence)?;
        // Not the sum of the parts, which would be rounded once more.
        let image = place(tokens.image(sequence), &home);
        let rest = image.clone() - after_first;
        self.kept = Some(Kept { first, rest });
        Ok(image)
    }
}
