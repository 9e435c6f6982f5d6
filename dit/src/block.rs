//! The blocks of either kind as one sequence.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor};

use crate::{Dit, DitConfig, DualBlock, Sequence, SingleBlock, place};

/// A block of either kind: the model's own, or one that was made to run once.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one is there at a time")]
pub enum Block<'a> {
    /// With image and text tokens apart.
    Dual(Cow<'a, DualBlock>),
    /// With all tokens in one sequence.
    Single(Cow<'a, SingleBlock>),
}

/// The tokens between two blocks, each `[batch, tokens, width]`.
#[expect(clippy::large_enum_variant, reason = "one is there at a time")]
pub(crate) enum Tokens {
    /// Image and text.
    Apart(Tensor<3>, Tensor<3>),
    /// Image, then text.
    Joined(Tensor<3>),
}

impl DitConfig {
    /// The name of block `index` of all blocks, dual ones first, as the parameters' names begin.
    pub fn block_name(&self, index: usize) -> String {
        match index.checked_sub(self.dual_blocks) {
            None => format!("dual_blocks.{index}"),
            Some(index) => format!("single_blocks.{index}"),
        }
    }

    /// The number of blocks of both kinds.
    pub fn blocks(&self) -> usize {
        self.dual_blocks + self.single_blocks
    }
}

impl Dit {
    /// All blocks in the order in which they run.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'_>> {
        let duals = self.dual_blocks.iter().map(Cow::Borrowed);
        let singles = self.single_blocks.iter().map(Cow::Borrowed);
        duals.map(Block::Dual).chain(singles.map(Block::Single))
    }
}

impl Block<'_> {
    /// Where its weights are.
    fn device(&self) -> Device {
        match self {
            Self::Dual(block) => block.device(),
            Self::Single(block) => block.device(),
        }
    }

    /// The updated tokens.
    pub(crate) fn forward(&self, tokens: Tokens, vec: &Tensor<2>, sequence: &Sequence) -> Tokens {
        let Sequence { rope, lengths, .. } = sequence;
        match self {
            Self::Dual(block) => {
                let (image, text) = tokens.apart(sequence);
                let (image, text) = block.forward(image, text, vec, rope, lengths);
                Tokens::Apart(image, text)
            }
            Self::Single(block) => {
                Tokens::Joined(block.forward(tokens.joined(), vec, rope, lengths))
            }
        }
    }
}

impl Tokens {
    /// Through `blocks`, each where its weights are; stops at the first that there is none of.
    pub fn through<'a, E>(
        mut self,
        blocks: impl Iterator<Item = Result<Block<'a>, E>>,
        vec: &Tensor<2>,
        sequence: &Sequence,
    ) -> Result<Self, E> {
        // With one device, always there.
        let (mut vec, mut local) = (vec.clone(), sequence.clone());
        for block in blocks {
            let block = block?;
            let device = block.device();
            (vec, local) = (place(vec, &device), local.place(&device));
            self = block.forward(self.place(&device), &vec, &local);
        }
        Ok(self)
    }

    /// The image tokens.
    pub fn image(&self, sequence: &Sequence) -> Tensor<3> {
        match self {
            Self::Apart(image, _) => image.clone(),
            Self::Joined(tokens) => tokens.clone().narrow(1, 0, sequence.image_tokens()),
        }
    }

    fn apart(self, sequence: &Sequence) -> (Tensor<3>, Tensor<3>) {
        match self {
            Self::Apart(image, text) => (image, text),
            Self::Joined(tokens) => {
                let image = sequence.image_tokens();
                let text = tokens.dims()[1] - image;
                (
                    tokens.clone().narrow(1, 0, image),
                    tokens.narrow(1, image, text),
                )
            }
        }
    }

    fn joined(self) -> Tensor<3> {
        match self {
            Self::Apart(image, text) => Tensor::cat(vec![image, text], 1),
            Self::Joined(tokens) => tokens,
        }
    }

    fn place(self, device: &Device) -> Self {
        match self {
            Self::Apart(image, text) => Self::Apart(place(image, device), place(text, device)),
            Self::Joined(tokens) => Self::Joined(place(tokens, device)),
        }
    }
}
