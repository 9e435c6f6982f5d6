//! The diffusion transformer's layers in the published files.

use super::{Component, Part, Recognised, Section, layer_in_file, lookup, rename, split_leaf};
use crate::checkpoint::Weights;

/// The columns of [`TABLE`].
pub const COLUMNS: [&str; 4] = ["burn-hunyuan", "diffusers", "Tencent", "ComfyUI"];
/// diffusers' column.
pub const DIFFUSERS: usize = 1;
/// Tencent's column.
pub const TENCENT: usize = 2;

/// What may stand before every name.
const PREFIXES: [&str; 5] = [
    "",
    "model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
];

/// Recognises a diffusion transformer by the column that fits most of the names.
pub(super) fn recognise(weights: &Weights) -> Option<Recognised> {
    let mut best = (0, None);
    for weights in PREFIXES.map(|prefix| weights.under(prefix)) {
        for column in 0..COLUMNS.len() {
            let known = |name: &&str| !lookup(TABLE, column, split_leaf(name).0, '.').is_empty();
            let score = weights.names().filter(known).count();
            if score > best.0 && 2 * score > weights.len() {
                best = (score, Some((column, weights.clone())));
            }
        }
    }
    let (column, weights) = best.1?;
    let first = TABLE[0].layers[0][column];
    let rows = |leaf| {
        weights
            .get(&format!("{first}.{leaf}"))?
            .shape()
            .first()
            .copied()
    };
    let width = rows("bias").or_else(|| rows("weight")).unwrap_or(0);
    Some(Recognised {
        component: Component::Transformer,
        layout: COLUMNS[column],
        weights: rename(&weights, TABLE, column, width),
    })
}

/// Our layers that make up the layer of a file, in the order of its rows, and the part each takes.
///
/// `separator` stands where the layout has dots.
pub fn our_layers(column: usize, layer: &str, separator: char) -> Vec<(String, Part)> {
    lookup(TABLE, column, layer, separator)
}

/// The layer of a file that one of our layers is, or is a part of.
pub fn layer_in(column: usize, layer: &str) -> Option<(String, Part)> {
    layer_in_file(TABLE, column, layer)
}

/// Our name of a layer, and its name in each layout.
///
/// `*` is the block's number. `[0]` to `[2]` are the rows of a fused layer, in multiples of the
/// model's width, and `[3..]` the rows after those; `[swapped]` exchanges the halves of the rows
/// (diffusers stores scale before shift).
///
/// Sources: the state dicts of diffusers' `HunyuanVideoTransformer3DModel` and of the published
/// `mp_rank_00_model_states.pt`, and of the files repackaged for ComfyUI.
#[rustfmt::skip]
const TABLE: &[Section<4>] = &[
    Section {
        prefixes: ["", "", "", ""],
        layers: &[
            ["image_in", "x_embedder.proj", "img_in.proj", "img_in.proj"],
        ],
    },
    Section {
        prefixes: ["time_in.", "time_text_embed.timestep_embedder.", "time_in.", "time_in."],
        layers: &[
            ["fc1", "linear_1", "mlp.0", "in_layer"],
            ["fc2", "linear_2", "mlp.2", "out_layer"],
        ],
    },
    Section {
        prefixes: ["guidance_in.", "time_text_embed.guidance_embedder.", "guidance_in.", "guidance_in."],
        layers: &[
            ["fc1", "linear_1", "mlp.0", "in_layer"],
            ["fc2", "linear_2", "mlp.2", "out_layer"],
        ],
    },
    Section {
        prefixes: ["pooled_in.", "time_text_embed.text_embedder.", "vector_in.", "vector_in."],
        layers: &[
            ["fc1", "linear_1", "in_layer", "in_layer"],
            ["fc2", "linear_2", "out_layer", "out_layer"],
        ],
    },
    Section {
        prefixes: ["text_in.", "context_embedder.", "txt_in.", "txt_in."],
        layers: &[
            ["proj", "proj_in", "input_embedder", "input_embedder"],
            ["time_in.fc1", "time_text_embed.timestep_embedder.linear_1", "t_embedder.mlp.0", "t_embedder.in_layer"],
            ["time_in.fc2", "time_text_embed.timestep_embedder.linear_2", "t_embedder.mlp.2", "t_embedder.out_layer"],
            ["context_in.fc1", "time_text_embed.text_embedder.linear_1", "c_embedder.linear_1", "c_embedder.in_layer"],
            ["context_in.fc2", "time_text_embed.text_embedder.linear_2", "c_embedder.linear_2", "c_embedder.out_layer"],
        ],
    },
    Section {
        prefixes: [
            "text_in.blocks.*.",
            "context_embedder.token_refiner.refiner_blocks.*.",
            "txt_in.individual_token_refiner.blocks.*.",
            "txt_in.individual_token_refiner.blocks.*.",
        ],
        layers: &[
            ["modulation", "norm_out.linear", "adaLN_modulation.1", "adaLN_modulation.1"],
            ["norm1", "norm1", "norm1", "norm1"],
            ["q", "attn.to_q", "self_attn_qkv[0]", "self_attn.qkv[0]"],
            ["k", "attn.to_k", "self_attn_qkv[1]", "self_attn.qkv[1]"],
            ["v", "attn.to_v", "self_attn_qkv[2]", "self_attn.qkv[2]"],
            ["proj", "attn.to_out.0", "self_attn_proj", "self_attn.proj"],
            ["norm2", "norm2", "norm2", "norm2"],
            ["mlp.fc1", "ff.net.0.proj", "mlp.fc1", "mlp.0"],
            ["mlp.fc2", "ff.net.2", "mlp.fc2", "mlp.2"],
        ],
    },
    Section {
        prefixes: ["dual_blocks.*.image.", "transformer_blocks.*.", "double_blocks.*.", "double_blocks.*."],
        layers: &[
            ["modulation", "norm1.linear", "img_mod.linear", "img_mod.lin"],
            ["q", "attn.to_q", "img_attn_qkv[0]", "img_attn.qkv[0]"],
            ["k", "attn.to_k", "img_attn_qkv[1]", "img_attn.qkv[1]"],
            ["v", "attn.to_v", "img_attn_qkv[2]", "img_attn.qkv[2]"],
            ["q_norm", "attn.norm_q", "img_attn_q_norm", "img_attn.norm.query_norm"],
            ["k_norm", "attn.norm_k", "img_attn_k_norm", "img_attn.norm.key_norm"],
            ["proj", "attn.to_out.0", "img_attn_proj", "img_attn.proj"],
            ["mlp.fc1", "ff.net.0.proj", "img_mlp.fc1", "img_mlp.0"],
            ["mlp.fc2", "ff.net.2", "img_mlp.fc2", "img_mlp.2"],
        ],
    },
    Section {
        prefixes: ["dual_blocks.*.text.", "transformer_blocks.*.", "double_blocks.*.", "double_blocks.*."],
        layers: &[
            ["modulation", "norm1_context.linear", "txt_mod.linear", "txt_mod.lin"],
            ["q", "attn.add_q_proj", "txt_attn_qkv[0]", "txt_attn.qkv[0]"],
            ["k", "attn.add_k_proj", "txt_attn_qkv[1]", "txt_attn.qkv[1]"],
            ["v", "attn.add_v_proj", "txt_attn_qkv[2]", "txt_attn.qkv[2]"],
            ["q_norm", "attn.norm_added_q", "txt_attn_q_norm", "txt_attn.norm.query_norm"],
            ["k_norm", "attn.norm_added_k", "txt_attn_k_norm", "txt_attn.norm.key_norm"],
            ["proj", "attn.to_add_out", "txt_attn_proj", "txt_attn.proj"],
            ["mlp.fc1", "ff_context.net.0.proj", "txt_mlp.fc1", "txt_mlp.0"],
            ["mlp.fc2", "ff_context.net.2", "txt_mlp.fc2", "txt_mlp.2"],
        ],
    },
    Section {
        prefixes: ["single_blocks.*.", "single_transformer_blocks.*.", "single_blocks.*.", "single_blocks.*."],
        layers: &[
            ["modulation", "norm.linear", "modulation.linear", "modulation.lin"],
            ["q", "attn.to_q", "linear1[0]", "linear1[0]"],
            ["k", "attn.to_k", "linear1[1]", "linear1[1]"],
            ["v", "attn.to_v", "linear1[2]", "linear1[2]"],
            ["mlp", "proj_mlp", "linear1[3..]", "linear1[3..]"],
            ["q_norm", "attn.norm_q", "q_norm", "norm.query_norm"],
            ["k_norm", "attn.norm_k", "k_norm", "norm.key_norm"],
            ["proj", "proj_out", "linear2", "linear2"],
        ],
    },
    Section {
        prefixes: ["final_layer.", "", "final_layer.", "final_layer."],
        layers: &[
            ["modulation", "norm_out.linear[swapped]", "adaLN_modulation.1", "adaLN_modulation.1"],
            ["proj", "proj_out", "linear", "linear"],
        ],
    },
];
