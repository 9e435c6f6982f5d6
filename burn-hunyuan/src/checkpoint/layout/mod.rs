//! Names of published files to the names of our modules, by tables.
//!
//! A layout is one column of a table. The weights of a file are renamed, and fused layers split
//! into rows, without reading them.

pub(super) mod dit;
mod text;
mod vae;

use std::{borrow::Cow, fmt, ops::Range};

use super::{Error, StoredTensor, Weights};

/// One of the four models that make up HunyuanVideo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    /// The diffusion transformer.
    Transformer,
    /// The causal 3D VAE.
    Vae,
    /// LLaMA, whose states guide the transformer.
    TextEncoder,
    /// CLIP, whose pooled output guides the transformer.
    TextEncoder2,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Transformer,
        Self::Vae,
        Self::TextEncoder,
        Self::TextEncoder2,
    ];

    /// Its folder in a pipeline.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Transformer => "transformer",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.folder())
    }
}

/// A checkpoint of a known layout, under the names of our modules.
#[derive(Clone, Debug)]
pub struct Recognised {
    /// Which model.
    pub component: Component,
    /// Whose names the file uses.
    pub layout: &'static str,
    /// The tensors under our names. Those that the layout does not know keep their own.
    pub weights: Weights,
}

/// Finds out which model a checkpoint holds, and in which layout.
///
/// # Errors
/// A model of another family, or names that fit no layout.
pub fn recognise(weights: &Weights) -> Result<Recognised, Error> {
    if let Some(family) = other_family(weights) {
        let what = format!("this is {family}, not HunyuanVideo (13B text-to-video)");
        return Err(Error::Unsupported {
            path: weights.origin().to_path_buf(),
            what,
        });
    }
    dit::recognise(weights)
        .or_else(|| vae::recognise(weights))
        .or_else(|| text::recognise(weights))
        .ok_or_else(|| Error::Unsupported {
            path: weights.origin().to_path_buf(),
            what: match weights.names().next() {
                None => "the file holds no tensors".into(),
                Some(name) => format!(
                    "no part of HunyuanVideo is recognised in its {} tensors (`{name}`, …)",
                    weights.len()
                ),
            },
        })
}

/// Models that share names with HunyuanVideo, by a tensor that only they have.
fn other_family(weights: &Weights) -> Option<&'static str> {
    const MARKS: [(&str, &str); 9] = [
        ("vision_in.", "HunyuanVideo 1.5"),
        ("byt5_in.", "HunyuanVideo 1.5"),
        ("context_embedder_2.", "HunyuanVideo 1.5"),
        ("cond_type_embed", "HunyuanVideo 1.5"),
        ("clean_x_embedder.", "FramePack"),
        ("image_projection.", "FramePack"),
        ("txt_in.weight", "FLUX"),
        ("context_embedder.weight", "FLUX or Stable Diffusion 3"),
        ("blocks.0.cross_attn.", "Wan"),
    ];
    let has = |mark| weights.names().any(|name| name.contains(mark));
    MARKS
        .iter()
        .find(|(mark, _)| has(mark))
        .map(|(_, family)| *family)
}

/// Layers whose names begin alike. The first of the `N` columns holds our names.
struct Section<const N: usize> {
    /// Beginning of the names; `*` stands for the number of a block.
    prefixes: [&'static str; N],
    /// Rest of the names, without `.weight` and `.bias`; perhaps with the [`Part`] that it is.
    layers: &'static [[&'static str; N]],
}

/// The part of a stored layer's rows that makes up one of our layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Part {
    /// All of them.
    Whole,
    /// The `n`-th of the rows, in multiples of the model's width.
    Chunk(usize),
    /// The rows after that many multiples of the width.
    After(usize),
    /// Second half, then first half.
    Swapped,
}

impl Part {
    /// Splits an entry of a table, as in `qkv[0]`.
    fn parse(entry: &'static str) -> (&'static str, Self) {
        let Some((name, part)) = entry.split_once('[') else {
            return (entry, Self::Whole);
        };
        let part = match part.trim_end_matches(']') {
            "0" => Self::Chunk(0),
            "1" => Self::Chunk(1),
            "2" => Self::Chunk(2),
            "3.." => Self::After(3),
            "swapped" => Self::Swapped,
            other => unreachable!("`{other}` in a layout table"),
        };
        (name, part)
    }

    /// The part of a tensor, or `None` where it has too few rows.
    pub fn of(self, tensor: &StoredTensor, width: usize) -> Option<StoredTensor> {
        let rows = *tensor.shape().first()?;
        let half = rows / 2;
        let rows = |rows: Range<usize>| tensor.rows(rows);
        match self {
            Self::Whole => Some(tensor.clone()),
            Self::Chunk(n) => rows(n * width..(n + 1) * width),
            Self::After(n) => rows(n * width..tensor.shape()[0]),
            Self::Swapped => rows(half..2 * half)?.then(rows(0..half)?),
        }
    }
}

impl fmt::Display for Part {
    /// As in the tables, where some rows are left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole | Self::Swapped => Ok(()),
            Self::Chunk(n) => write!(f, "[{n}]"),
            Self::After(n) => write!(f, "[{n}..]"),
        }
    }
}

/// The number at the place of `*` and the rest of `name`, if `pattern` begins it.
fn strip_pattern<'a>(name: &'a str, pattern: &str) -> Option<(&'a str, &'a str)> {
    let Some((before, after)) = pattern.split_once('*') else {
        return Some(("", name.strip_prefix(pattern)?));
    };
    let name = name.strip_prefix(before)?;
    let digits = name
        .find(|c: char| !c.is_ascii_digit())
        .filter(|digits| *digits > 0)?;
    let (number, rest) = name.split_at(digits);
    Some((number, rest.strip_prefix(after)?))
}

/// The entries of a table for one layer of a file: our layer names and the part each takes.
///
/// `separator` stands where the table has dots.
fn lookup<const N: usize>(
    table: &[Section<N>],
    column: usize,
    layer: &str,
    separator: char,
) -> Vec<(String, Part)> {
    let spelled = |name: &'static str| match separator {
        '.' => Cow::Borrowed(name),
        other => Cow::Owned(name.replace('.', &other.to_string())),
    };
    let mut found = Vec::new();
    for section in table {
        let prefix = spelled(section.prefixes[column]);
        let Some((number, rest)) = strip_pattern(layer, &prefix) else {
            continue;
        };
        for names in section.layers {
            let (name, part) = Part::parse(names[column]);
            if spelled(name) == rest {
                found.push((section.prefixes[0].replace('*', number) + names[0], part));
            }
        }
    }
    found
}

/// Renames the tensors by a column of a table, where `width` is the model's. Unknown ones keep
/// their names.
fn rename<const N: usize>(
    weights: &Weights,
    table: &'static [Section<N>],
    column: usize,
    width: usize,
) -> Weights {
    let mut renamed = weights.renamed(move |name| name_in_file(table, column, name));
    for (name, tensor) in weights.iter() {
        let (layer, leaf) = split_leaf(name);
        let entries = lookup(table, column, layer, '.');
        let parts: Option<Vec<_>> = entries
            .iter()
            .map(|(ours, part)| Some((format!("{ours}.{leaf}"), part.of(tensor, width)?)))
            .collect();
        match parts {
            Some(parts) if !parts.is_empty() => {
                parts
                    .into_iter()
                    .for_each(|(name, part)| renamed.insert(name, part));
            }
            _ => renamed.insert(name, tensor.clone()),
        }
    }
    renamed
}

/// The name in a file of one of our tensors, with the part that it is of a fused one.
fn name_in_file<const N: usize>(table: &[Section<N>], column: usize, name: &str) -> String {
    let (layer, leaf) = split_leaf(name);
    match layer_in_file(table, column, layer) {
        Some((theirs, part)) => format!("{theirs}.{leaf}{part}"),
        None => name.to_string(),
    }
}

/// The layer of a file that one of our layers is, or is a part of.
fn layer_in_file<const N: usize>(
    table: &[Section<N>],
    column: usize,
    layer: &str,
) -> Option<(String, Part)> {
    table.iter().find_map(|section| {
        let (number, rest) = strip_pattern(layer, section.prefixes[0])?;
        let names = section.layers.iter().find(|names| names[0] == rest)?;
        let (theirs, part) = Part::parse(names[column]);
        Some((section.prefixes[column].replace('*', number) + theirs, part))
    })
}

/// A tensor's layer and its role there; ComfyUI calls the weight of a norm its scale.
fn split_leaf(name: &str) -> (&str, &str) {
    match name.rsplit_once('.') {
        Some((layer, "scale")) => (layer, "weight"),
        Some(split) => split,
        None => (name, ""),
    }
}
