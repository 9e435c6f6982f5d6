//! The instruction that LLaMA reads around each prompt.

/// A chat in which the system asks for a description and the user's message is the prompt.
///
/// The states of the instruction itself do not go to the diffusion transformer: it was trained on
/// those of the prompt, which the instruction has steered through attention.
///
/// Source: `hyvideo/constants.py` of Tencent, `DEFAULT_PROMPT_TEMPLATE` of diffusers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PromptTemplate {
    /// What comes before the prompt.
    pub prefix: &'static str,
    /// What comes after it.
    pub suffix: &'static str,
    /// Leading tokens whose states are cropped: with the LLaMA-3 vocabulary, the beginning of the
    /// text and the prefix.
    pub crop: usize,
}

impl PromptTemplate {
    /// For clips of any length. Diffusers uses it for single frames too.
    pub const VIDEO: Self = Self {
        prefix: concat!(
            "<|start_header_id|>system<|end_header_id|>\n\n",
            "Describe the video by detailing the following aspects: ",
            "1. The main content and theme of the video.",
            "2. The color, shape, size, texture, quantity, text, and spatial relationships of the ",
            "objects.",
            "3. Actions, events, behaviors temporal relationships, physical movement changes of ",
            "the objects.",
            "4. background environment, light, style and atmosphere.",
            "5. camera angles, movements, and transitions used in the video:<|eot_id|>",
            "<|start_header_id|>user<|end_header_id|>\n\n",
        ),
        suffix: "<|eot_id|>",
        crop: 95,
    };

    /// What Tencent's own script uses for a single frame. A prompt has the room that the
    /// video template leaves, instruction included, so up to 315 states remain.
    pub const IMAGE: Self = Self {
        prefix: concat!(
            "<|start_header_id|>system<|end_header_id|>\n\n",
            "Describe the image by detailing the color, shape, size, texture, quantity, text, ",
            "spatial relationships of the objects and background:<|eot_id|>",
            "<|start_header_id|>user<|end_header_id|>\n\n",
        ),
        suffix: "<|eot_id|>",
        crop: 36,
    };

    /// The text that LLaMA reads for `prompt`.
    pub fn render(&self, prompt: &str) -> String {
        [self.prefix, prompt, self.suffix].concat()
    }
}
