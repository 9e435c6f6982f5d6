//! What can be wrong with a tokenizer.

use std::path::PathBuf;

/// A text encoder that cannot be used, or a prompt that it cannot read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A folder without the files of a tokenizer.
    #[error(
        "no tokenizer in {}: it needs tokenizer.json, or vocab.json and merges.txt of CLIP",
        folder.display()
    )]
    MissingTokenizer {
        /// The folder.
        folder: PathBuf,
    },
    /// A file that exists and cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the tokenizer with content that makes no sense.
    #[error("{file} is not usable: {reason}")]
    Unusable {
        /// The file, with its folder where it has one.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No token to fill short prompts with.
    #[error(
        "the tokenizer has no padding token: name one of its tokens as \"pad_token\" in \
         tokenizer_config.json"
    )]
    NoPaddingToken,
    /// A special token that is not in the vocabulary.
    #[error("the tokenizer's {role} is {token:?}, which its vocabulary does not hold")]
    UnknownToken {
        /// Its name in `tokenizer_config.json`.
        role: &'static str,
        /// The token.
        token: String,
    },
    /// A tokenizer of some other model.
    #[error(
        "the tokenizer's ids go up to {highest}, but the text encoder embeds only {embedded} \
         tokens: they do not belong together"
    )]
    Vocabulary {
        /// The highest id that the tokenizer gives.
        highest: u32,
        /// Rows of the embedding.
        embedded: usize,
    },
    /// A model with fewer positions than a prompt is padded to.
    #[error("the text encoder has {positions} positions, but prompts have {tokens} tokens")]
    Positions {
        /// Positions of the model.
        positions: usize,
        /// Tokens of a padded prompt.
        tokens: usize,
    },
    /// A prompt that the tokenizer refuses.
    #[error("cannot tokenize the prompt: {0}")]
    Prompt(String),
}
