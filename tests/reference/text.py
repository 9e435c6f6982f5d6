"""Fixtures of the text encoders: small LLaMA and CLIP models and tokenizers, built and run by the reference.

Writes tests/fixtures/text/: llama.safetensors, clip.safetensors, clip_gelu.safetensors (weights, inputs, outputs),
prompts.json (the ids of difficult prompts), and the folders of the tokenizers.
"""

import json
from pathlib import Path

import torch
from diffusers import HunyuanVideoPipeline
from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
)

OUT = Path(__file__).parent.parent / "fixtures" / "text"

START, END = "<|startoftext|>", "<|endoftext|>"
LLAMA_SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<pad>"]
# The word patterns of the LLaMA-3 and CLIP vocabularies.
LLAMA_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

PROMPTS = [
    "A cat walks on the grass, realistic style.",
    "",
    " ",
    "two  spaces,\ttabs\nand\r\n\r\nnew lines \u00a0 \u3000 end ",
    "It's \"quoted\", we'll've 'single' and “curly” ones; DON'T SHOUT!",
    "1234567 frames at 3.14159x, 50% off — №7, ½ and ² and ٣",
    "Ünïcödé cafe\u0301 vs café, ﬁne ligature, İstanbul, ẞ, ΑΣ, Ǆ",
    "一只猫在草地上行走，写实风格。日本語の文章と한국어",
    "emoji 🐈‍⬛ 👩‍👩‍👧 🏳️‍🌈 ❤️ and \U0001f9ff",
    "مرحبا بالعالم שלום नमस्ते ไทย",
    "special <|eot_id|> in <|endoftext|> the <|startoftext|> text <|start_header_id|> <pad> <|ENDOFTEXT|> </w> {} {0}",
    "zero\u200bwidth, bom \ufeff, control \x07, null \x00, combining a\u0308\u0304",
    "grass " * 75,
    "grass " * 76,
    "a very long prompt with the grass, the cat and the camera, " * 40,
    "猫🐈" * 200,
    "x" * 3000,
]


def llama_tokenizer():
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=LLAMA_SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([DEFAULT_PROMPT_TEMPLATE["template"]] * 4 + PROMPTS[:1], trainer)
    begin = LLAMA_SPECIAL[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token=LLAMA_SPECIAL[1], pad_token="<pad>", padding_side="right"
    )


def clip_tokenizer():
    """Writes CLIP's vocab.json and merges.txt with the settings of older files, and opens them."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = normalizers.Lowercase()
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(CLIP_WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=140, end_of_word_suffix="</w>", show_progress=False)
    trained.train_from_iterator([DEFAULT_PROMPT_TEMPLATE["template"]] + PROMPTS[:1] * 4, trainer)
    merges = json.loads(trained.to_str())["model"]["merges"]

    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens += [token + "</w>" for token in tokens] + ["".join(pair) for pair in merges] + [START, END]
    folder = OUT / "clip_vocab"
    folder.mkdir(parents=True, exist_ok=True)
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False) + "\n")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    pad = {"content": END, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": pad}) + "\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77)


def randomise(model):
    """Weights that let every token and position show in the output."""
    for name, p in model.named_parameters():
        if p.dim() == 2:
            torch.nn.init.normal_(p, std=1.0 if "embed" in name else 1.5 / p.shape[1] ** 0.5)
        else:
            torch.nn.init.normal_(p, std=0.2)
            if "norm" in name and name.endswith("weight"):
                p.data.add_(1.0)
    return model.eval()


def weights(model):
    return {f"weights.{name}": p.detach().clone() for name, p in model.named_parameters()}


def save(name, config, tensors):
    tensors = {key: t.float().contiguous() for key, t in tensors.items()}
    save_file(tensors, OUT / name, metadata={"config": json.dumps(config)})


def llama(tokenizer):
    model = randomise(
        LlamaModel(
            LlamaConfig(
                vocab_size=len(tokenizer) + 3,
                hidden_size=32,
                intermediate_size=56,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                rms_norm_eps=1e-5,
                rope_theta=500000.0,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    )
    tokens = torch.randint(0, len(tokenizer), (3, 37))
    lengths = torch.tensor([37, 1, 20])
    mask = (torch.arange(37)[None] < lengths[:, None]).long()

    def states(m, skip):
        return m(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states[-(skip + 1)]

    out = weights(model) | {"tokens": tokens, "lengths": lengths}
    for skip in (1, 2, 4):
        out[f"states.skip{skip}"] = states(model, skip)
    for case, prompt in prompt_cases().items():
        out[f"prompt.{case}"], out[f"mask.{case}"] = pipeline(model, tokenizer, None, None)._get_llama_prompt_embeds(
            prompt, DEFAULT_PROMPT_TEMPLATE, device="cpu"
        )
    out["states.bf16"] = states(model.bfloat16(), 2)
    save("llama.safetensors", model.config.to_dict(), out)


def clip(name, tokenizer, **config):
    model = randomise(
        CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=24,
                intermediate_size=40,
                num_hidden_layers=3,
                num_attention_heads=3,
                max_position_embeddings=77,
                **config,
            )
        )
    )
    end = tokenizer.eos_token_id
    tokens = torch.randint(0, end, (3, 19))
    tokens[0, 18], tokens[1, 4:], tokens[2, 0] = end, end, end
    out = weights(model) | {"tokens": tokens, "pooled": model(tokens).pooler_output}
    for case, prompt in prompt_cases().items():
        out[f"pooled.{case}"] = pipeline(None, None, model, tokenizer)._get_clip_prompt_embeds(prompt, device="cpu")
    out["pooled.bf16"] = model.bfloat16()(tokens).pooler_output
    save(name, model.config.to_dict(), out)


def prompt_cases():
    return {"short": PROMPTS[0], "empty": "", "long": PROMPTS[14]}


def pipeline(llama, tokenizer, clip, tokenizer_2):
    return HunyuanVideoPipeline(
        text_encoder=llama, tokenizer=tokenizer, text_encoder_2=clip, tokenizer_2=tokenizer_2,
        transformer=None, vae=None, scheduler=None,
    )  # fmt: skip


def prompt_ids(llama, clip):
    def encode(tokenizer, text, length):
        out = tokenizer(text, padding="max_length", max_length=length, truncation=True)
        return {"ids": out.input_ids, "length": sum(out.attention_mask)}

    template = DEFAULT_PROMPT_TEMPLATE["template"]
    cases = [
        {
            "prompt": prompt,
            "llama": encode(llama, template.format(prompt), 351),
            "clip": encode(clip, prompt, 77),
        }
        for prompt in PROMPTS
    ]
    (OUT / "prompts.json").write_text(json.dumps(cases) + "\n")
    print("template:", len(llama(template.format("")).input_ids), "tokens")


@torch.no_grad()
def main():
    torch.manual_seed(0)
    OUT.mkdir(parents=True, exist_ok=True)
    llama_tok, clip_tok = llama_tokenizer(), clip_tokenizer()
    llama_tok.save_pretrained(OUT / "llama")
    clip_tok.save_pretrained(OUT / "clip")
    prompt_ids(llama_tok, clip_tok)
    llama(llama_tok)
    end = clip_tok.eos_token_id
    clip("clip.safetensors", clip_tok, hidden_act="quick_gelu", eos_token_id=end)
    clip("clip_gelu.safetensors", clip_tok, hidden_act="gelu", eos_token_id=2)


main()
