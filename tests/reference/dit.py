"""Writes the fixtures of `tests/dit.rs`: small diffusion transformers with random weights, their inputs, their outputs
and what goes in and out of every block.

Usage: python tests/reference/dit.py [official]

dit.safetensors: guidance, two texts of different lengths, both padded; also the first sample run in bfloat16.
dit_image.safetensors: no guidance, one frame, one padded text, other sizes.
dit_cache.safetensors: the first sample of dit.safetensors on a path of steps, with diffusers' first-block cache.
dit_official.safetensors, only with "official" and not committed: one dual and one single block of the published width
with all that comes before and after them, 1.7 GB of weights in bfloat16, which holds them exactly; run in float32.
"""
import json
import sys
from pathlib import Path

import torch
from diffusers import FirstBlockCacheConfig, HunyuanVideoTransformer3DModel
from safetensors.torch import save_file

FIXTURES = Path(__file__).parent.parent / "fixtures"

VIDEO = dict(in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=16, num_layers=2,
             num_single_layers=2, num_refiner_layers=2, mlp_ratio=4.0, patch_size=2, patch_size_t=1,
             guidance_embeds=True, text_embed_dim=24, pooled_projection_dim=20, rope_theta=256.0,
             rope_axes_dim=(4, 6, 6))
IMAGE = dict(in_channels=6, out_channels=3, num_attention_heads=3, attention_head_dim=8, num_layers=1,
             num_single_layers=1, num_refiner_layers=1, mlp_ratio=3.0, patch_size=2, patch_size_t=1,
             guidance_embeds=False, text_embed_dim=20, pooled_projection_dim=12, rope_theta=100.0,
             rope_axes_dim=(2, 4, 2))


def random_model(config, seed):
    """A model in which every parameter matters: the library's own initial values are small, or zero, or one."""
    torch.manual_seed(seed)
    model = HunyuanVideoTransformer3DModel(**config).eval()
    for name, p in model.named_parameters():
        if p.dim() == 1:
            torch.nn.init.normal_(p, std=0.2)
            if "norm" in name and name.endswith("weight"):
                p.data.add_(1.0)
        else:
            torch.nn.init.normal_(p, std=p[0].numel() ** -0.5)
    return model


def record_blocks(model, record):
    """Fills `record` with the inputs and outputs of the model's parts as it runs."""
    def of_block(key):
        def hook(_, args, output):
            record[f"{key}.image_in"], record[f"{key}.text_in"] = args[0], args[1]
            record[f"{key}.image_out"], record[f"{key}.text_out"] = output
        return hook
    model.time_text_embed.register_forward_hook(lambda _, args, output: record.update(vec=output[0]))
    model.context_embedder.register_forward_hook(lambda _, args, output: record.update(refined=output))
    for i, block in enumerate(model.transformer_blocks):
        block.register_forward_hook(of_block(f"dual_blocks.{i}"))
    for i, block in enumerate(model.single_transformer_blocks):
        block.register_forward_hook(of_block(f"single_blocks.{i}"))


def run(model, x, guidance=None, dtype=torch.float32):
    return model.to(dtype)(
        hidden_states=x["latents"].to(dtype), timestep=x["timestep"], encoder_hidden_states=x["text"].to(dtype),
        encoder_attention_mask=x["mask"].to(dtype), pooled_projections=x["pooled"].to(dtype), guidance=guidance,
        return_dict=False)[0].float()


def inputs(config, size, text_tokens, text_lengths, timestep):
    batch = len(text_lengths)
    return dict(latents=torch.randn(batch, config["in_channels"], *size),
                timestep=torch.tensor(timestep),
                # Padding that would be noticed: it is as large as the real states.
                text=torch.randn(batch, text_tokens, config["text_embed_dim"]),
                mask=(torch.arange(text_tokens) < torch.tensor(text_lengths)[:, None]).float(),
                pooled=torch.randn(batch, config["pooled_projection_dim"]))


def write(name, config, model, tensors):
    weights = {f"weights.{key}": value for key, value in model.state_dict().items()}
    tensors = weights | {key: value.contiguous().clone() for key, value in tensors.items()}
    save_file(tensors, FIXTURES / name, metadata={"config": json.dumps(config)})
    print(name, f"{sum(t.nbytes for t in tensors.values()) / 1e3:.0f} kB")


def video_inputs():
    return inputs(VIDEO, size=(3, 6, 10), text_tokens=9, text_lengths=[5, 8], timestep=[871.25, 993.5])


def video():
    model, record = random_model(VIDEO, seed=0), {}
    x = video_inputs()
    guidance = torch.tensor([6000.0, 3500.0])
    first = {key: value[:1] for key, value in x.items()}
    # The library's pipeline holds the guidance scale in the model's dtype, which makes 6000 of 6.0 in float32 and 6016
    # in bfloat16; a float32 run with 6016 tells the rounding of the model from that of the scale.
    rounded = torch.tensor([6.0], dtype=torch.bfloat16) * 1000.0
    bf16 = dict(velocity_bf16=run(random_model(VIDEO, seed=0), first, rounded, torch.bfloat16),
                velocity_rounded_guidance=run(model, first, rounded.float()))
    record_blocks(model, record)
    velocity = run(model, x, guidance)
    write("dit.safetensors", VIDEO, model, x | record | bf16 | dict(guidance=guidance, velocity=velocity))


def image():
    model, record = random_model(IMAGE, seed=1), {}
    x = inputs(IMAGE, size=(1, 10, 6), text_tokens=7, text_lengths=[4], timestep=[127.75])
    record_blocks(model, record)
    velocity = run(model, x)
    write("dit_image.safetensors", IMAGE, model, x | record | dict(velocity=velocity))


def cached(threshold=0.7):
    """The model of `video`, so the fixture has no weights: what it is asked at each step, and what it answers."""
    model, x = random_model(VIDEO, seed=0), video_inputs()
    first = {key: value[:1] for key, value in x.items()}
    model.enable_cache(FirstBlockCacheConfig(threshold=threshold))
    whole = []
    model.single_transformer_blocks[-1].norm.register_forward_hook(lambda *_: whole.append(step))
    path, velocities = torch.randn(2, 8, *first["latents"].shape), []
    times = torch.linspace(1000.0, 300.0, 8)
    # A random model changes its mind at every step: the threshold is such that some steps are reused.
    latents = first["latents"] + torch.linspace(0, 1, 8).square().view(8, 1, 1, 1, 1, 1) * path[0]
    with model.cache_context("cond"):
        for step in range(8):
            velocities.append(run(model, first | dict(latents=latents[step], timestep=times[step : step + 1]),
                                  torch.tensor([6000.0])))
    assert 2 < len(whole) < 8, whole  # some of either kind
    computed = torch.tensor([float(step in whole) for step in range(8)])
    save_file(dict(latents=latents[:, 0].contiguous(), timesteps=times, velocities=torch.cat(velocities),
                   computed=computed), FIXTURES / "dit_cache.safetensors",
              metadata={"config": json.dumps(dict(threshold=threshold))})
    print("dit_cache.safetensors", whole)


def official():
    model = random_model(dict(num_layers=1, num_single_layers=1), seed=2)
    for p in model.parameters():
        p.data.copy_(p.data.bfloat16())
    config = dict(model.config)
    x = inputs(config, size=(5, 16, 24), text_tokens=64, text_lengths=[40], timestep=[871.25])
    guidance = torch.tensor([6000.0])
    velocity = run(model, x, guidance)
    write("dit_official.safetensors", config, model.bfloat16(), x | dict(guidance=guidance, velocity=velocity))


if __name__ == "__main__":
    with torch.no_grad():
        if sys.argv[1:] == ["official"]:
            official()
        else:
            video()
            image()
            cached()
