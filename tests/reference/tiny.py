"""Writes the tokenizers and text encoder configurations of the model that ships inside the binary.

Usage: python tests/reference/tiny.py

The tokenizers are of the same kinds as the published model's (byte-level BPE with LLaMA-3's special
tokens; CLIP's BPE with end-of-word suffixes), trained on captions of the kind that the small model
is for, so that such captions are few tokens; any other text still encodes, byte by byte.
"""

import itertools
import json
import pathlib
import tempfile

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import CLIPTokenizer, PreTrainedTokenizerFast

OUT = pathlib.Path(__file__).parents[2] / "burn-hunyuan" / "src" / "checkpoint" / "tiny"

SHAPES = ["circle", "square", "triangle", "star"]
COLOURS = ["red", "green", "blue", "yellow", "orange", "purple", "white", "black", "cyan", "pink"]
MOTIONS = ["moves left", "moves right", "moves up", "moves down", "grows", "shrinks", "spins", "stays still"]
SYNONYMS = ["moves to the left", "moves to the right", "moves upwards", "moves downwards", "becomes larger",
            "becomes smaller", "turns around", "does not move"]
TEXTURES = ["plain", "shaded", "striped", "checkered"]
CAPTIONS = [
    f"a {colour} {shape} {motion} over a {background} background"
    for colour, shape, motion, background in itertools.product(COLOURS, SHAPES, MOTIONS, COLOURS)
] + [
    # How else train/src/synth/caption.rs says the same.
    f"a video of an {colour} {shape} that {motion} in front of a {texture} {colour} background, the camera is still"
    for colour, shape, motion, texture in itertools.product(COLOURS, SHAPES, SYNONYMS, TEXTURES)
] + ["A cat walks on the grass, realistic style.", "flat computer graphics. static shot. even. lively. calm."] * 200

CONFIGS = {
    "text_encoder": dict(
        hidden_size=128, intermediate_size=256, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=2,
        head_dim=32, rms_norm_eps=1e-5, rope_theta=500000.0, vocab_size=640),
    "text_encoder_2": dict(
        hidden_size=64, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        max_position_embeddings=77, hidden_act="quick_gelu", vocab_size=896),
}


def llama_tokenizer():
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<pad>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CAPTIONS, trainers.BpeTrainer(
        vocab_size=CONFIGS["text_encoder"]["vocab_size"], special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    begin = special[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token=special[1], pad_token="<pad>", padding_side="right")


def clip_tokenizer(folder):
    """CLIP's vocabulary: bytes, bytes at the end of a word, merged pieces, start and end."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False)
    words = (word.lower() for caption in CAPTIONS for word in caption.split())
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(words, trainers.BpeTrainer(
        vocab_size=CONFIGS["text_encoder_2"]["vocab_size"], end_of_word_suffix="</w>",
        initial_alphabet=alphabet, show_progress=False))
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    tokens = alphabet + [byte + "</w>" for byte in alphabet] + ["".join(pair) for pair in merges]
    limit = CONFIGS["text_encoder_2"]["vocab_size"] - 2
    tokens = list(dict.fromkeys(tokens))[:limit] + ["<|startoftext|>", "<|endoftext|>"]
    merges = [pair for pair in merges if "".join(pair) in tokens]
    vocab = {token: i for i, token in enumerate(tokens)}
    pathlib.Path(folder, "vocab.json").write_text(json.dumps(vocab))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    pathlib.Path(folder, "merges.txt").write_text("\n".join(lines) + "\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77), vocab


def main():
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        clip, vocab = clip_tokenizer(folder)
        CONFIGS["text_encoder_2"]["eos_token_id"] = vocab["<|endoftext|>"]
        for name, tokenizer in [("tokenizer", llama_tokenizer()), ("tokenizer_2", clip)]:
            tokenizer.save_pretrained(folder)
            saved = json.loads(pathlib.Path(folder, "tokenizer.json").read_text())
            (OUT / f"{name}.json").write_text(json.dumps(saved, separators=(",", ":")) + "\n")
            config = json.loads(pathlib.Path(folder, "tokenizer_config.json").read_text())
            keep = ["bos_token", "eos_token", "pad_token", "unk_token"]
            config = {key: config[key] for key in keep if key in config}
            (OUT / f"{name}_config.json").write_text(json.dumps(config, indent=1) + "\n")
            print(name, len(tokenizer), tokenizer(CAPTIONS[0]).input_ids)
    for name, config in CONFIGS.items():
        (OUT / f"{name}.json").write_text(json.dumps(config, indent=1) + "\n")


main()
