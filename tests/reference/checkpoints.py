"""The same random weights as every kind of published checkpoint holds them.

Writes tests/fixtures/checkpoints/: `diffusers/` by the reference's own `save_pretrained`, `tencent/` as the original
`ckpts` folder, `comfy/` as single files, and `malicious.pt`, a pickle that would create a file if it were run.
"""
import inspect, json, os, shutil
from pathlib import Path

import torch
from diffusers import (AutoencoderKLHunyuanVideo, FlowMatchEulerDiscreteScheduler, HunyuanVideoPipeline,
                       HunyuanVideoTransformer3DModel)
from diffusers.loaders import single_file_utils
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import CLIPTextConfig, CLIPTextModel, LlamaConfig, LlamaModel, PreTrainedTokenizerFast

OUT = Path(__file__).resolve().parent.parent / "fixtures" / "checkpoints"
WIDTH = 16


def build():
    transformer = HunyuanVideoTransformer3DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=WIDTH // 2, num_layers=2,
        num_single_layers=1, num_refiner_layers=2, mlp_ratio=3.0, patch_size=2, patch_size_t=1, text_embed_dim=12,
        pooled_projection_dim=8, rope_theta=128.0, rope_axes_dim=(4, 2, 2))
    vae = AutoencoderKLHunyuanVideo(latent_channels=4, block_out_channels=(4, 4, 8, 8), layers_per_block=1,
                                    norm_num_groups=2, scaling_factor=0.5)
    llama = LlamaModel(LlamaConfig(
        vocab_size=20, hidden_size=12, intermediate_size=24, num_hidden_layers=4, num_attention_heads=6,
        num_key_value_heads=2, rope_theta=250000.0, rms_norm_eps=1e-5))
    clip = CLIPTextModel(CLIPTextConfig(
        vocab_size=24, hidden_size=8, intermediate_size=20, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=77, hidden_act="quick_gelu", bos_token_id=22, eos_token_id=23))
    for model in (transformer, vae, llama, clip):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter)
        model.to(torch.bfloat16)
    return transformer, vae, llama, clip


def tencent_transformer(diffusers, dual=2, single=1):
    """The original names: fused projections, modulation of the last layer in the order shift, scale."""
    state, out = dict(diffusers), {}

    def take(theirs, *ours):
        for leaf in ("weight", "bias"):
            if f"{ours[0]}.{leaf}" in state:
                out[f"{theirs}.{leaf}"] = torch.cat([state.pop(f"{name}.{leaf}") for name in ours])

    take("img_in.proj", "x_embedder.proj")
    for theirs, ours in (("time_in.mlp", "time_text_embed.timestep_embedder"),
                         ("guidance_in.mlp", "time_text_embed.guidance_embedder"),
                         ("txt_in.t_embedder.mlp", "context_embedder.time_text_embed.timestep_embedder")):
        take(f"{theirs}.0", f"{ours}.linear_1")
        take(f"{theirs}.2", f"{ours}.linear_2")
    take("vector_in.in_layer", "time_text_embed.text_embedder.linear_1")
    take("vector_in.out_layer", "time_text_embed.text_embedder.linear_2")
    take("txt_in.input_embedder", "context_embedder.proj_in")
    for n in (1, 2):
        take(f"txt_in.c_embedder.linear_{n}", f"context_embedder.time_text_embed.text_embedder.linear_{n}")
    for n in range(2):
        theirs = f"txt_in.individual_token_refiner.blocks.{n}"
        ours = f"context_embedder.token_refiner.refiner_blocks.{n}"
        take(f"{theirs}.norm1", f"{ours}.norm1")
        take(f"{theirs}.norm2", f"{ours}.norm2")
        take(f"{theirs}.self_attn_qkv", *[f"{ours}.attn.to_{x}" for x in "qkv"])
        take(f"{theirs}.self_attn_proj", f"{ours}.attn.to_out.0")
        take(f"{theirs}.mlp.fc1", f"{ours}.ff.net.0.proj")
        take(f"{theirs}.mlp.fc2", f"{ours}.ff.net.2")
        take(f"{theirs}.adaLN_modulation.1", f"{ours}.norm_out.linear")
    for n in range(dual):
        theirs, ours = f"double_blocks.{n}", f"transformer_blocks.{n}"
        for stream, norm, ff, q, k, v, q_norm, k_norm, proj in (
                ("img", "norm1", "ff", "to_q", "to_k", "to_v", "norm_q", "norm_k", "to_out.0"),
                ("txt", "norm1_context", "ff_context", "add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q",
                 "norm_added_k", "to_add_out")):
            take(f"{theirs}.{stream}_mod.linear", f"{ours}.{norm}.linear")
            take(f"{theirs}.{stream}_attn_qkv", *[f"{ours}.attn.{x}" for x in (q, k, v)])
            take(f"{theirs}.{stream}_attn_q_norm", f"{ours}.attn.{q_norm}")
            take(f"{theirs}.{stream}_attn_k_norm", f"{ours}.attn.{k_norm}")
            take(f"{theirs}.{stream}_attn_proj", f"{ours}.attn.{proj}")
            take(f"{theirs}.{stream}_mlp.fc1", f"{ours}.{ff}.net.0.proj")
            take(f"{theirs}.{stream}_mlp.fc2", f"{ours}.{ff}.net.2")
    for n in range(single):
        theirs, ours = f"single_blocks.{n}", f"single_transformer_blocks.{n}"
        take(f"{theirs}.linear1", f"{ours}.attn.to_q", f"{ours}.attn.to_k", f"{ours}.attn.to_v", f"{ours}.proj_mlp")
        take(f"{theirs}.linear2", f"{ours}.proj_out")
        take(f"{theirs}.q_norm", f"{ours}.attn.norm_q")
        take(f"{theirs}.k_norm", f"{ours}.attn.norm_k")
        take(f"{theirs}.modulation.linear", f"{ours}.norm.linear")
    take("final_layer.linear", "proj_out")
    for leaf in ("weight", "bias"):
        scale, shift = state.pop(f"norm_out.linear.{leaf}").chunk(2)
        out[f"final_layer.adaLN_modulation.1.{leaf}"] = torch.cat([shift, scale])
    assert not state, state.keys()
    return out


def assert_reference_converts_back(tencent, diffusers):
    """The reference's own converter, with its width replaced, agrees with this file's idea of the original names."""
    source = inspect.getsource(single_file_utils.convert_hunyuan_video_transformer_to_diffusers)
    assert "hidden_size = 3072" in source
    scope = {"torch": torch}
    exec(source.replace("hidden_size = 3072", f"hidden_size = {WIDTH}"), scope)
    back = scope["convert_hunyuan_video_transformer_to_diffusers"](dict(tencent))
    assert back.keys() == diffusers.keys()
    assert all(torch.equal(back[name], diffusers[name]) for name in back)


def comfy_transformer(tencent):
    """The names of the repackaged files, which follow FLUX."""
    rules = (("_mod.linear.", "_mod.lin."), (".modulation.linear.", ".modulation.lin."), ("_attn_qkv.", "_attn.qkv."),
             ("_attn_proj.", "_attn.proj."), ("mlp.fc1.", "mlp.0."), ("mlp.fc2.", "mlp.2."),
             ("_attn_q_norm.weight", "_attn.norm.query_norm.scale"), ("_attn_k_norm.weight", "_attn.norm.key_norm.scale"),
             (".q_norm.weight", ".norm.query_norm.scale"), (".k_norm.weight", ".norm.key_norm.scale"))
    embedders = ((".mlp.0.", ".in_layer."), (".mlp.2.", ".out_layer."), (".linear_1.", ".in_layer."),
                 (".linear_2.", ".out_layer."))
    out = {}
    for name, tensor in tencent.items():
        is_embedder = name.startswith(("time_in.", "guidance_in.", "txt_in.t_embedder.", "txt_in.c_embedder."))
        for a, b in embedders if is_embedder else rules:
            name = name.replace(a, b)
        out[f"model.model.{name}"] = tensor
    return out


def ldm_vae(diffusers):
    """Latent diffusion's names, as ComfyUI's `diffusers_convert` makes them."""
    rules = (("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out"), ("mid_block.attentions.0", "mid.attn_1"),
             ("mid_block.resnets.0", "mid.block_1"), ("mid_block.resnets.1", "mid.block_2"), ("resnets", "block"),
             ("down_blocks", "down"), ("downsamplers.0", "downsample"), ("upsamplers.0", "upsample"),
             *((f"up_blocks.{n}", f"up.{3 - n}") for n in range(4)))
    attention = (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"))
    out = {}
    for name, tensor in diffusers.items():
        if ".attentions." in name:
            for a, b in attention:
                name = name.replace(a, b)
            if tensor.dim() == 2:
                tensor = tensor[:, :, None, None, None]
        for a, b in rules:
            name = name.replace(a, b)
        out[name] = tensor
    return out


def official_shapes():
    """Names and shapes of the published transformer in the original layout; nothing is allocated."""
    with torch.device("meta"):
        state = HunyuanVideoTransformer3DModel().state_dict()
    original = tencent_transformer(state, dual=20, single=40)
    return "".join(f"{name} {'x'.join(map(str, tensor.shape))}\n" for name, tensor in sorted(original.items()))


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch pickled_code_was_run",)


def main():
    torch.manual_seed(0)
    shutil.rmtree(OUT, ignore_errors=True)
    transformer, vae, llama, clip = build()

    def tokenizer():
        return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<pad>": 0}, unk_token="<pad>")),
                                       pad_token="<pad>")
    pipeline = HunyuanVideoPipeline(
        text_encoder=llama, tokenizer=tokenizer(), transformer=transformer, vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0), text_encoder_2=clip, tokenizer_2=tokenizer())
    pipeline.save_pretrained(OUT / "diffusers", max_shard_size="40KB")

    states = [{k: v.contiguous() for k, v in m.state_dict().items()} for m in (transformer, vae, llama, clip)]
    transformer_state, vae_state, llama_state, clip_state = states
    original = tencent_transformer(transformer_state)
    assert_reference_converts_back(original, transformer_state)

    tencent = OUT / "tencent" / "hunyuan-video-t2v-720p"
    (tencent / "transformers").mkdir(parents=True)
    (tencent / "vae").mkdir()
    torch.save({"module": original}, tencent / "transformers" / "mp_rank_00_model_states.pt")
    torch.save({"state_dict": {f"vae.{name}": t for name, t in vae_state.items()}}, tencent / "vae" / "pytorch_model.pt")
    config = json.loads((OUT / "diffusers" / "vae" / "config.json").read_text())
    (tencent / "vae" / "config.json").write_text(json.dumps({**config, "_class_name": "AutoencoderKLCausal3D"}, indent=2))
    for name in ("text_encoder", "text_encoder_2"):
        shutil.copytree(OUT / "diffusers" / name, OUT / "tencent" / name)
        tokenizer().save_pretrained(OUT / "tencent" / name)

    comfy = OUT / "comfy"
    comfy.mkdir()
    save_file(comfy_transformer(original), comfy / "hunyuan_video_t2v_720p_bf16.safetensors")
    save_file(ldm_vae(vae_state), comfy / "hunyuan_video_vae_bf16.safetensors")
    head = {"lm_head.weight": torch.zeros(20, 12), "tokenizer": torch.zeros(3, dtype=torch.uint8)}
    save_file({**{f"model.{k}": v for k, v in llama_state.items()}, **head}, comfy / "llava_llama3_fp16.safetensors")
    positions = {"text_model.embeddings.position_ids": torch.arange(77)[None],
                 "text_projection.weight": torch.zeros(8, 8)}
    save_file({**{f"text_model.{k}": v for k, v in clip_state.items()}, **positions}, comfy / "clip_l.safetensors")

    (OUT / "tencent_official.txt").write_text(official_shapes())

    llava = {f"language_model.model.{k}": v for k, v in llama_state.items()}
    llava |= {"language_model.lm_head.weight": torch.zeros(20, 12), "vision_tower.x.weight": torch.zeros(2),
              "multi_modal_projector.linear_1.weight": torch.zeros(2)}
    (OUT / "other").mkdir()
    save_file(llava, OUT / "other" / "llava_with_vision.safetensors")
    torch.save({"module": {"final_layer.linear.weight": torch.ones(2)}, "hook": RunsCode()}, OUT / "other" / "malicious.pt")


main()
