//! From text to token ids, as the reference's tokenizers do it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tokenizers::{PaddingParams, PaddingStrategy, TruncationParams};

use crate::Error;

/// A tokenizer with its padding token.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    pad_token: String,
    pad_id: u32,
}

/// A text as a fixed number of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoding {
    /// Token ids, padded on the right.
    pub ids: Vec<u32>,
    /// Tokens before the padding.
    pub length: usize,
    /// Where the part of the text begins that had no room, in bytes; `None` if all is there.
    pub dropped_from: Option<usize>,
}

impl Tokenizer {
    /// Opens the tokenizer in `folder`: `tokenizer.json`, or CLIP's `vocab.json` and `merges.txt`;
    /// and the special tokens from `tokenizer_config.json` or `special_tokens_map.json`.
    ///
    /// # Errors
    /// Files that are missing, cannot be read, or describe no tokenizer.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let special = SpecialTokens::open(folder)?;
        let path = folder.join("tokenizer.json");
        match read(&path)? {
            Some(json) => Self::new(&path.display().to_string(), &json, &special),
            None => Self::open_vocabulary(folder, &special),
        }
    }

    /// Opens CLIP's tokenizer in a `folder` that may hold another text encoder's as well: its
    /// `vocab.json` and `merges.txt` where they are there, else as [`open`](Self::open).
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_clip(folder: &Path) -> Result<Self, Error> {
        let has = |name| folder.join(name).is_file();
        match (
            has("vocab.json") && has("merges.txt"),
            has("tokenizer.json"),
        ) {
            (false, _) => Self::open(folder),
            (true, false) => Self::open_vocabulary(folder, &SpecialTokens::open(folder)?),
            // Whose special tokens the folder has is not known; CLIP's own are.
            (true, true) => Self::open_vocabulary(folder, &SpecialTokens::default()),
        }
    }

    /// CLIP's tokenizer by its `vocab.json` and `merges.txt`.
    fn open_vocabulary(folder: &Path, special: &SpecialTokens) -> Result<Self, Error> {
        let (vocab, merges) = (folder.join("vocab.json"), folder.join("merges.txt"));
        let missing = || Error::MissingTokenizer {
            folder: folder.into(),
        };
        let merges = String::from_utf8_lossy(&read(&merges)?.ok_or_else(missing)?).into_owned();
        let file = vocab.display().to_string();
        let vocab = parse(&file, &read(&vocab)?.ok_or_else(missing)?)?;
        let json = clip_tokenizer(&file, vocab, &merges, special)?.to_string();
        Self::new(&file, json.as_bytes(), special)
    }

    /// A tokenizer from the contents of its `tokenizer.json` and `tokenizer_config.json`.
    ///
    /// # Errors
    /// Contents that describe no tokenizer.
    pub fn from_bytes(tokenizer: &[u8], config: &[u8]) -> Result<Self, Error> {
        let sources = vec![parse("tokenizer_config.json", config)?];
        Self::new("tokenizer.json", tokenizer, &SpecialTokens { sources })
    }

    fn new(file: &str, json: &[u8], special: &SpecialTokens) -> Result<Self, Error> {
        let inner = tokenizers::Tokenizer::from_bytes(json).map_err(|e| Error::Unusable {
            file: file.into(),
            reason: e.to_string(),
        })?;
        let pad_token = special
            .get("pad_token")
            .or_else(|| inner.get_padding().map(|padding| padding.pad_token.clone()))
            .or_else(|| inner.token_to_id(CLIP_END).map(|_| CLIP_END.into()))
            .ok_or(Error::NoPaddingToken)?;
        let pad_id = inner
            .token_to_id(&pad_token)
            .ok_or_else(|| Error::UnknownToken {
                role: "pad_token",
                token: pad_token.clone(),
            })?;
        Ok(Self {
            inner,
            pad_token,
            pad_id,
        })
    }

    /// Whether it is CLIP's, which begins every text with a token of its own.
    pub fn is_clip(&self) -> bool {
        self.inner.token_to_id(CLIP_START).is_some()
    }

    /// The highest id that the tokenizer gives.
    pub fn highest_id(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0)
    }

    /// Pads and truncates to `tokens`, the special tokens included, on the right.
    ///
    /// # Errors
    /// A length that the special tokens alone exceed.
    pub fn with_length(mut self, tokens: usize) -> Result<Self, Error> {
        let truncation = TruncationParams {
            max_length: tokens,
            ..Default::default()
        };
        let padding = PaddingParams {
            strategy: PaddingStrategy::Fixed(tokens),
            pad_id: self.pad_id,
            pad_token: self.pad_token.clone(),
            ..Default::default()
        };
        self.inner.with_padding(Some(padding));
        self.inner
            .with_truncation(Some(truncation))
            .map_err(prompt_error)?;
        Ok(self)
    }

    /// The tokens of `text`; special tokens that are written in it become those tokens.
    ///
    /// # Errors
    /// A text that the tokenizer has no tokens for.
    pub fn encode(&self, text: &str) -> Result<Encoding, Error> {
        let encoding = self.inner.encode(text, true).map_err(prompt_error)?;
        // What has no room comes back as further sequences, with the special tokens again.
        let dropped_from = encoding.get_overflowing().first().and_then(|rest| {
            let from_text = rest
                .get_special_tokens_mask()
                .iter()
                .position(|&special| special == 0);
            from_text.map(|index| rest.get_offsets()[index].0)
        });
        Ok(Encoding {
            ids: encoding.get_ids().to_vec(),
            length: encoding.get_attention_mask().iter().sum::<u32>() as usize,
            dropped_from,
        })
    }
}

fn prompt_error(error: tokenizers::Error) -> Error {
    Error::Prompt(error.to_string())
}

/// The file's bytes, or `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Read {
            path: PathBuf::from(path),
            source,
        }),
    }
}

fn parse(file: &str, bytes: &[u8]) -> Result<Value, Error> {
    serde_json::from_slice(bytes).map_err(|e| Error::Unusable {
        file: file.into(),
        reason: e.to_string(),
    })
}

/// The special tokens as the configuration files name them, the first file first.
#[derive(Default)]
struct SpecialTokens {
    sources: Vec<Value>,
}

impl SpecialTokens {
    /// Those of the tokenizer in `folder`.
    fn open(folder: &Path) -> Result<Self, Error> {
        let mut special = Self::default();
        for name in ["tokenizer_config.json", "special_tokens_map.json"] {
            let path = folder.join(name);
            if let Some(bytes) = read(&path)? {
                let source = parse(&path.display().to_string(), &bytes)?;
                special.sources.push(source);
            }
        }
        Ok(special)
    }

    /// The token of a role such as `pad_token`: a string, or an object that holds it as `content`.
    fn get(&self, role: &str) -> Option<String> {
        self.sources
            .iter()
            .map(|source| &source[role])
            .find_map(|token| {
                token
                    .as_str()
                    .or_else(|| token["content"].as_str())
                    .map(String::from)
            })
    }
}

/// CLIP's tokens around each text.
const CLIP_START: &str = "<|startoftext|>";
const CLIP_END: &str = "<|endoftext|>";

/// CLIP's words: contractions, letters, single digits, and runs of anything else but spaces.
const CLIP_WORDS: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The `tokenizer.json` of CLIP with this vocabulary and these merges: byte-level pair encoding
/// of lower-cased words, whose last token ends in `</w>`.
///
/// Source: `CLIPTokenizer` of transformers.
fn clip_tokenizer(
    file: &str,
    vocab: Value,
    merges: &str,
    special: &SpecialTokens,
) -> Result<Value, Error> {
    if !vocab
        .as_object()
        .is_some_and(|vocab| vocab.keys().any(|token| token.ends_with("</w>")))
    {
        let reason = "it is no vocabulary of CLIP; any other tokenizer needs tokenizer.json".into();
        return Err(Error::Unusable {
            file: file.into(),
            reason,
        });
    }
    let find = |role, default: &str| {
        let token = special.get(role).unwrap_or_else(|| default.into());
        match vocab[&token].as_u64() {
            Some(id) => Ok((token, id)),
            None => Err(Error::UnknownToken { role, token }),
        }
    };
    let start = find("bos_token", CLIP_START)?;
    let end = find("eos_token", CLIP_END)?;
    let unknown = find("unk_token", CLIP_END)?;
    let pad = find("pad_token", CLIP_END)?;
    let mut added = vec![&start, &end, &unknown, &pad];
    added.sort_by_key(|(_, id)| *id);
    added.dedup();
    let added: Vec<Value> = added
        .into_iter()
        .map(|(token, id)| {
            json!({ "id": id, "content": token, "single_word": false, "lstrip": false,
                    "rstrip": false, "normalized": false, "special": true })
        })
        .collect();
    let merges: Vec<&str> = merges
        .lines()
        .filter(|line| !line.starts_with("#version") && !line.trim().is_empty())
        .collect();
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": { "type": "Sequence", "normalizers": [
            { "type": "NFC" },
            { "type": "Replace", "pattern": { "Regex": r"\s+" }, "content": " " },
            { "type": "Lowercase" },
        ]},
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "Split", "pattern": { "Regex": CLIP_WORDS }, "behavior": "Removed",
              "invert": true },
            { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
              "use_regex": true },
        ]},
        "post_processor": { "type": "RobertaProcessing", "cls": start, "sep": end,
                            "trim_offsets": false, "add_prefix_space": false },
        "model": { "type": "BPE", "vocab": vocab, "merges": merges, "unk_token": unknown.0,
                   "continuing_subword_prefix": "", "end_of_word_suffix": "</w>",
                   "fuse_unk": false, "byte_fallback": false },
    }))
}
