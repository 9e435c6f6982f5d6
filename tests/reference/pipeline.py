"""A whole pipeline of small widths with random weights, saved by the reference, and what it makes of two requests.

Usage: python tests/reference/pipeline.py

Writes tests/fixtures/pipeline/: the diffusers folder, the transformer and the VAE in Tencent's original layout, and
one expected_*.safetensors for each case, whose metadata entry `config` holds the request.
"""

import json
import pathlib
import tempfile

import torch
from diffusers import (AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline,
                       HunyuanVideoTransformer3DModel)
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (CLIPTextConfig, CLIPTextModel, CLIPTokenizer, LlamaConfig, LlamaModel,
                          PreTrainedTokenizerFast)

OUT = pathlib.Path(__file__).parents[1] / "fixtures" / "pipeline"
WORDS = ["a cat walks on the grass, realistic style.", "two boats drift past a lighthouse at dusk",
         "describe the video by detailing the following aspects"]

CASES = {
    # Odd sizes, embedded guidance only.
    "plain": dict(prompt="A cat walks on the grass, realistic style.", negative_prompt=None, cfg=1.0, height=48,
                  width=80, frames=9, steps=3, guidance=6.0, tiling="off"),
    # True guidance with a negative prompt, one frame, other scales.
    "guided": dict(prompt="Two boats drift past a lighthouse at dusk: calm sea, \"film grain\".",
                   negative_prompt="blurry, 模糊", cfg=3.5, height=64, width=32, frames=1, steps=4, guidance=3.5,
                   tiling="off"),
    # The VAE as diffusers runs it by default, in temporal tiles.
    "framewise": dict(prompt="a lighthouse", negative_prompt=None, cfg=1.0, height=32, width=48, frames=33, steps=2,
                      guidance=1.0, tiling="framewise"),
}


def llama_tokenizer():
    special = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<pad>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(WORDS * 20, trainers.BpeTrainer(
        vocab_size=340, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    begin = special[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token=special[1], pad_token="<pad>", padding_side="right")


def clip_tokenizer(folder):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = alphabet + [byte + "</w>" for byte in alphabet] + ["ca", "cat</w>", "on</w>"]
    vocab = {token: i for i, token in enumerate(tokens + ["<|startoftext|>", "<|endoftext|>"])}
    pathlib.Path(folder, "vocab.json").write_text(json.dumps(vocab))
    pathlib.Path(folder, "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\no n</w>\n")
    return CLIPTokenizer.from_pretrained(folder, model_max_length=77), vocab


def build(folder):
    llama_words, (clip_words, vocab) = llama_tokenizer(), clip_tokenizer(folder)
    llama = LlamaModel(LlamaConfig(
        vocab_size=len(llama_words), hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, rope_theta=500000.0,
        pad_token_id=llama_words.pad_token_id))
    clip = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(vocab), hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=77, bos_token_id=vocab["<|startoftext|>"], eos_token_id=vocab["<|endoftext|>"],
        projection_dim=24))
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=1, num_single_layers=2,
        num_refiner_layers=2, mlp_ratio=4.0, patch_size=2, patch_size_t=1, guidance_embeds=True, text_embed_dim=32,
        pooled_projection_dim=24, rope_theta=256.0, rope_axes_dim=(4, 6, 6))
    vae = AutoencoderKLHunyuanVideo(
        latent_channels=4, block_out_channels=(8, 8, 8, 16), layers_per_block=1, norm_num_groups=4)
    # Large enough that a wrong token, position or scale moves the frames.
    for module in (llama, clip):
        for name, parameter in module.named_parameters():
            if parameter.dim() == 2:
                deviation = 1.0 if "embed" in name else 1.5 / parameter.shape[1] ** 0.5
                torch.nn.init.normal_(parameter, std=deviation)
    for module in (llama, clip, transformer, vae):
        for name, parameter in module.eval().named_parameters():
            if parameter.dim() == 1:
                mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
                torch.nn.init.normal_(parameter, mean=mean, std=0.2)
    return HunyuanVideoPipeline(
        text_encoder=llama, tokenizer=llama_words, text_encoder_2=clip, tokenizer_2=clip_words, transformer=transformer,
        vae=vae, scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0))


def tencent_layout(weights):
    """The same transformer under the names of Tencent's code, with its fused projections."""
    def fuse(*names):
        return [torch.cat([weights[f"{name}.{kind}"] for name in names]) for kind in ("weight", "bias")]

    def linear(name):
        return [weights[f"{name}.weight"], weights[f"{name}.bias"]]

    layers = {
        "img_in.proj": linear("x_embedder.proj"),
        "txt_in.input_embedder": linear("context_embedder.proj_in"),
        "final_layer.linear": linear("proj_out"),
    }
    for i in (1, 2):
        old = 2 * (i - 1)
        for name in ("timestep", "guidance"):
            layers[f"{name.replace('timestep', 'time')}_in.mlp.{old}"] = linear(
                f"time_text_embed.{name}_embedder.linear_{i}")
        layers[f"vector_in.{('in', 'out')[i - 1]}_layer"] = linear(f"time_text_embed.text_embedder.linear_{i}")
        text = "context_embedder.time_text_embed"
        layers[f"txt_in.t_embedder.mlp.{old}"] = linear(f"{text}.timestep_embedder.linear_{i}")
        layers[f"txt_in.c_embedder.linear_{i}"] = linear(f"{text}.text_embedder.linear_{i}")
    # Tencent keeps shift before scale.
    layers["final_layer.adaLN_modulation.1"] = [
        torch.cat(t.chunk(2)[::-1]) for t in linear("norm_out.linear")]
    norms = {}
    for n in range(2):
        new, old = f"context_embedder.token_refiner.refiner_blocks.{n}", f"txt_in.individual_token_refiner.blocks.{n}"
        layers[f"{old}.self_attn_qkv"] = fuse(*(f"{new}.attn.to_{x}" for x in "qkv"))
        for a, b in [("self_attn_proj", "attn.to_out.0"), ("mlp.fc1", "ff.net.0.proj"), ("mlp.fc2", "ff.net.2"),
                     ("adaLN_modulation.1", "norm_out.linear"), ("norm1", "norm1"), ("norm2", "norm2")]:
            layers[f"{old}.{a}"] = linear(f"{new}.{b}")
    new, old = "transformer_blocks.0", "double_blocks.0"
    for stream, norm, ff, qkv, out, suffix in [
            ("img", "norm1", "ff", ["to_q", "to_k", "to_v"], "to_out.0", ""),
            ("txt", "norm1_context", "ff_context", ["add_q_proj", "add_k_proj", "add_v_proj"], "to_add_out", "added_")]:
        layers[f"{old}.{stream}_mod.linear"] = linear(f"{new}.{norm}.linear")
        layers[f"{old}.{stream}_attn_qkv"] = fuse(*(f"{new}.attn.{x}" for x in qkv))
        layers[f"{old}.{stream}_attn_proj"] = linear(f"{new}.attn.{out}")
        layers[f"{old}.{stream}_mlp.fc1"] = linear(f"{new}.{ff}.net.0.proj")
        layers[f"{old}.{stream}_mlp.fc2"] = linear(f"{new}.{ff}.net.2")
        for x in "qk":
            norms[f"{old}.{stream}_attn_{x}_norm.weight"] = weights[f"{new}.attn.norm_{suffix}{x}.weight"]
    for n in range(2):
        new, old = f"single_transformer_blocks.{n}", f"single_blocks.{n}"
        layers[f"{old}.linear1"] = fuse(*(f"{new}.attn.to_{x}" for x in "qkv"), f"{new}.proj_mlp")
        layers[f"{old}.linear2"] = linear(f"{new}.proj_out")
        layers[f"{old}.modulation.linear"] = linear(f"{new}.norm.linear")
        for x in "qk":
            norms[f"{old}.{x}_norm.weight"] = weights[f"{new}.attn.norm_{x}.weight"]
    tensors = {f"{name}.{kind}": t for name, pair in layers.items() for kind, t in zip(("weight", "bias"), pair)}
    return tensors | norms


@torch.no_grad()
def expected(pipeline, case, seed):
    generator = torch.Generator().manual_seed(seed)
    frames, height, width = case["frames"], case["height"], case["width"]
    noise = torch.randn(1, 4, (frames - 1) // 4 + 1, height // 8, width // 8, generator=generator)
    framewise = case["tiling"] == "framewise"
    pipeline.vae.use_framewise_encoding = pipeline.vae.use_framewise_decoding = framewise
    request = dict(prompt=case["prompt"], negative_prompt=case["negative_prompt"], true_cfg_scale=case["cfg"],
                   height=height, width=width, num_frames=frames, num_inference_steps=case["steps"],
                   guidance_scale=case["guidance"])
    states, pooled, mask = pipeline.encode_prompt(prompt=case["prompt"])
    latents = pipeline(**request, latents=noise.clone(), output_type="latent").frames
    video = pipeline(**request, latents=noise.clone(), output_type="pt").frames
    return dict(init_latents=noise, prompt_embeds=states, prompt_mask=mask, pooled=pooled, latents=latents,
                frames=video)


def main():
    torch.manual_seed(20241203)
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pipeline = build(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.save_pretrained(OUT / "diffusers")
    transformer = {name: t.clone() for name, t in pipeline.transformer.state_dict().items()}
    torch.save({"module": tencent_layout(transformer)}, OUT / "mp_rank_00_model_states.pt")
    vae = {f"vae.{name}": t.clone() for name, t in pipeline.vae.state_dict().items()}
    torch.save({"state_dict": vae}, OUT / "pytorch_model.pt")

    for seed, (name, case) in enumerate(CASES.items()):
        tensors = expected(pipeline, case, seed)
        if name == "plain":
            half = expected(pipeline.to(torch.bfloat16), case, seed)
            tensors["latents_bf16"] = half["latents"]
            pipeline.to(torch.float32)
            reloaded = HunyuanVideoPipeline.from_pretrained(OUT / "diffusers")
            pipeline = reloaded
            pipeline.set_progress_bar_config(disable=True)
        tensors = {key: t.float().contiguous() for key, t in tensors.items()}
        save_file(tensors, OUT / f"expected_{name}.safetensors", metadata={"config": json.dumps(case)})
        print(name, {key: tuple(t.shape) for key, t in tensors.items()}, "std", tensors["frames"].std().item())


main()
