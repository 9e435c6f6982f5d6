//! The blocks of either kind as one sequence.

use std::borrow::Cow;

use burn::tensor::{Device, Tensor};

use crate::{Dit, DitConfig, DualBlock, Sequence, SingleBlock, place};

/// A block of either kind, as it runs at a step.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    layers: Layers<'a>,
    /// Where it was computed before.
    modulation: Option<Tensor<2>>,
}

/// The model's own block, or one that was made to run once.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "one is there at a time")]
enum Layers<'a> {
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

    /// The names of the layers that modulate block `index`: their outputs, joined along the last axis,
    /// are its modulation.
    pub fn modulation_names(&self, index: usize) -> Vec<String> {
        let block = self.block_name(index);
        match index < self.dual_blocks {
            true => ["image", "text"]
                .map(|stream| format!("{block}.{stream}.modulation"))
                .to_vec(),
            false => vec![format!("{block}.modulation")],
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
        duals.map(Block::dual).chain(singles.map(Block::single))
    }

    /// The same model without the layers that modulate its blocks, a quarter of all weights: their
    /// outputs depend on the timestep and the condition alone, and a sampler can
    /// [compute](crate::modulation()) them for all its steps at once.
    pub fn without_modulation(mut self) -> Self {
        let duals = self.dual_blocks.into_iter();
        self.dual_blocks = duals.map(DualBlock::without_modulation).collect();
        let singles = self.single_blocks.into_iter();
        self.single_blocks = singles.map(SingleBlock::without_modulation).collect();
        self
    }

    /// The modulation of every block for each of the vectors: `[vectors, width]` to
    /// `[vectors, modulation]`.
    pub fn modulations(&self, vec: &Tensor<2>) -> Vec<Tensor<2>> {
        let duals = self.dual_blocks.iter().map(|block| block.modulation(vec));
        let singles = self.single_blocks.iter().map(|block| block.modulation(vec));
        duals.chain(singles).collect()
    }
}

impl<'a> Block<'a> {
    /// A dual-stream block.
    pub fn dual(block: Cow<'a, DualBlock>) -> Self {
        let layers = Layers::Dual(block);
        Self {
            layers,
            modulation: None,
        }
    }

    /// A single-stream block.
    pub fn single(block: Cow<'a, SingleBlock>) -> Self {
        let layers = Layers::Single(block);
        Self {
            layers,
            modulation: None,
        }
    }

    /// With its modulation at this step, `[batch, vectors * width]`, computed before.
    pub fn modulated(mut self, modulation: Tensor<2>) -> Self {
        self.modulation = Some(modulation);
        self
    }

    /// Where its weights are.
    fn device(&self) -> Device {
        match &self.layers {
            Layers::Dual(block) => block.device(),
            Layers::Single(block) => block.device(),
        }
    }

    /// The updated tokens.
    fn forward(self, tokens: Tokens, vec: &Tensor<2>, sequence: &Sequence) -> Tokens {
        let Sequence { rope, lengths, .. } = sequence;
        let device = self.device();
        let computed = self.modulation.map(|modulation| place(modulation, &device));
        match &self.layers {
            Layers::Dual(block) => {
                let (image, text) = tokens.apart();
                let modulation = computed.unwrap_or_else(|| block.modulation(vec));
                let (image, text) = block.forward_modulated(image, text, modulation, rope, lengths);
                Tokens::Apart(image, text)
            }
            Layers::Single(block) => {
                let modulation = computed.unwrap_or_else(|| block.modulation(vec));
                let tokens = tokens.joined();
                Tokens::Joined(block.forward_modulated(tokens, modulation, rope, lengths))
            }
        }
    }
}

impl Tokens {
    /// Through `blocks`, each where its weights are; stops at the first that there is none of.
    ///
    /// # Errors
    /// The first error of `blocks`.
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

    /// # Panics
    /// After a single-stream block.
    fn apart(self) -> (Tensor<3>, Tensor<3>) {
        match self {
            Self::Apart(image, text) => (image, text),
            Self::Joined(_) => panic!("dual-stream blocks run before single-stream ones"),
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
