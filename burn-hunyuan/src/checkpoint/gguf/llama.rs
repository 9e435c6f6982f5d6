//! llama.cpp's LLaMA under the names of transformers.

use std::collections::HashMap;

use super::{
    super::{Error, StoredTensor, Weights},
    reader::Value,
};

/// llama.cpp's names within a layer, and transformers'.
const LAYER: [(&str, &str); 9] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// The names elsewhere.
const OUTSIDE: [(&str, &str); 3] = [
    ("token_embd", "embed_tokens"),
    ("output_norm", "norm"),
    ("output", "lm_head"),
];

/// Renames the tensors of a LLaMA, and leaves those of any other model alone.
///
/// llama.cpp rotates pairs of neighbours where transformers rotates the two halves of a head, so
/// the rows of its queries and keys are in another order.
pub(super) fn translate(
    weights: Weights,
    values: &HashMap<String, Value>,
) -> Result<Weights, Error> {
    if weights.get("blk.0.attn_q.weight").is_none() {
        return Ok(weights);
    }
    let heads = |key: &str, of_the_8b: usize| {
        let value = values.get(&format!("llama.attention.{key}"));
        value
            .and_then(Value::number)
            .map_or(of_the_8b, |n| n as usize)
    };
    let (heads, kv_heads) = (heads("head_count", 32), heads("head_count_kv", 8));
    let mut renamed = weights.renamed(|name| swap(name, |(theirs, ours)| (ours, theirs)));
    for (name, tensor) in weights.iter() {
        let ours = swap(name, |pair| pair);
        let heads = match ours.as_str() {
            name if name.contains(".q_proj.") => Some(heads),
            name if name.contains(".k_proj.") => Some(kv_heads),
            _ => None,
        };
        let tensor = match heads {
            None => Some(tensor.clone()),
            Some(heads) => halves_together(tensor, heads),
        };
        let tensor = tensor.ok_or_else(|| Error::Malformed {
            path: weights.origin().to_path_buf(),
            format: "GGUF",
            reason: format!("`{name}` does not divide into its attention heads"),
        })?;
        // A table for long contexts, which follows from the configuration.
        if name != "rope_freqs.weight" {
            renamed.insert(ours, tensor);
        }
    }
    Ok(renamed)
}

/// Exchanges one spelling of a name for the other; `direct` turns a pair into (from, to).
fn swap<'a>(
    name: &'a str,
    direct: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) -> String {
    let (blk, layers) = direct(("blk.", "layers."));
    let Some((layer, leaf)) = name.rsplit_once('.') else {
        return name.to_string();
    };
    let exchange = |table: &[(&'static str, &'static str)], layer: &'a str| {
        let pair = table
            .iter()
            .copied()
            .map(&direct)
            .find(|(from, _)| *from == layer);
        pair.map_or(layer, |(_, to)| to)
    };
    match layer
        .strip_prefix(blk)
        .and_then(|rest| rest.split_once('.'))
    {
        Some((number, rest)) => format!("{layers}{number}.{}.{leaf}", exchange(&LAYER, rest)),
        None => format!("{}.{leaf}", exchange(&OUTSIDE, layer)),
    }
}

/// Orders the rows of each head as first halves, then second halves of the pairs that are rotated.
fn halves_together(tensor: &StoredTensor, heads: usize) -> Option<StoredTensor> {
    let rows = *tensor.shape().first()?;
    let head = rows
        .checked_div(heads)
        .filter(|head| head * heads == rows && head % 2 == 0)?;
    let order = (0..heads).flat_map(|h| {
        let row = move |half: usize, pair: usize| h * head + 2 * pair + half;
        (0..2).flat_map(move |half| (0..head / 2).map(move |pair| row(half, pair)))
    });
    order
        .map(|row| tensor.rows(row..row + 1))
        .reduce(|all, row| all?.then(row?))?
}
