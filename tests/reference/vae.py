"""Writes the fixtures of `tests/vae.rs`: the reference VAE on small clips.

Usage: python tests/reference/vae.py [official]

With "official" only the on-demand fixture of the published size, 1 GB, which is not committed.
"""

import copy
import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKLHunyuanVideo
from diffusers.models.autoencoders.autoencoder_kl_hunyuan_video import HunyuanVideoCausalConv3d
from safetensors.torch import save_file

FIXTURES = Path(__file__).parent.parent / "fixtures"

# Tile and stride, each [frames, height, width]. "tencent" and "diffusers" are the published
# presets; the small ones have the same proportions and others.
TILINGS = {
    "quarter": ([8, 32, 32], [4, 24, 24]),
    "oblong": ([12, 40, 24], [8, 16, 24]),
    "tencent": ([64, 256, 256], [48, 192, 192]),
    "diffusers": ([16, 256, 256], [12, 192, 192]),
}


def build(seed, **config):
    """A VAE whose every parameter matters to the output."""
    torch.manual_seed(seed)
    vae = AutoencoderKLHunyuanVideo(**config).eval()
    for name, parameter in vae.named_parameters():
        if parameter.dim() == 1:
            torch.nn.init.normal_(parameter, std=0.2)
            if "norm" in name and name.endswith("weight"):
                parameter.data.add_(1.0)
    return vae


def set_tiling(vae, name):
    """`name`: one of TILINGS, "framewise" (diffusers' default) or None for whole passes."""
    vae.use_framewise_encoding = vae.use_framewise_decoding = name is not None
    vae.use_tiling = name not in (None, "framewise")
    tile, stride = TILINGS.get(name, TILINGS["diffusers"])
    vae.tile_sample_min_num_frames, vae.tile_sample_min_height, vae.tile_sample_min_width = tile
    vae.tile_sample_stride_num_frames, vae.tile_sample_stride_height, vae.tile_sample_stride_width = stride


def write(name, config, tensors, vae=None):
    weights = {f"weights.{k}": v for k, v in vae.state_dict().items()} if vae else {}
    tensors = {k: v.float().contiguous() for k, v in {**weights, **tensors}.items()}
    path = FIXTURES / f"{name}.safetensors"
    save_file(tensors, path, metadata={"config": json.dumps(config)})
    print(path.name, path.stat().st_size)


def config_of(vae):
    keys = ["latent_channels", "block_out_channels", "layers_per_block", "norm_num_groups", "scaling_factor"]
    return {key: vae.config[key] for key in keys}


def both(vae, size, dtype=torch.float32):
    """Mean of an encoded wave, and a decoded wave of latents, for a clip of this size."""
    frames, height, width = size
    channels = vae.config.latent_channels
    video = wave([1, 3, frames, height, width])
    latents = 2.0 * wave([1, channels, (frames - 1) // 4 + 1, height // 8, width // 8])
    posterior = vae.encode(video.to(dtype)).latent_dist
    return posterior, vae.decode(latents.to(dtype)).sample


def run(vae, cases, sample):
    """Encodes and decodes a wave of each case's size with its tiling; `sample` is the step in height
    and width at which decoded frames are kept."""
    tensors = {}
    for case, (tiling, size) in cases.items():
        set_tiling(vae, tiling)
        posterior, decoded = both(vae, size)
        tensors |= {
            f"{case}.mean": posterior.mean,
            f"{case}.logvar": posterior.logvar,
            f"{case}.decoded": decoded[..., sample // 2 :: sample, sample // 2 :: sample],
        }
    described = {case: {"tiling": tiling, "size": size} for case, (tiling, size) in cases.items()}
    return config_of(vae) | {"cases": described, "tilings": TILINGS, "sample": sample}, tensors


def small():
    """Whole and tiled passes on odd sizes."""
    vae = build(0, latent_channels=4, block_out_channels=(4, 8, 8, 12), layers_per_block=1, norm_num_groups=4)
    cases = {
        "whole": (None, [9, 40, 56]),
        "image": (None, [1, 24, 40]),
        "quarter": ("quarter", [21, 56, 40]),
        "quarter_sliver": ("quarter", [13, 32, 56]),  # a last tile within the one before
        "quarter_flat": ("quarter", [5, 24, 40]),  # cut in space only
        "quarter_long": ("quarter", [17, 32, 32]),  # cut in time only
        "oblong": ("oblong", [17, 48, 56]),
        "framewise": ("framewise", [29, 24, 16]),
    }
    write("vae", *run(vae, cases, sample=3), vae)


def deep():
    """Two residual blocks for each level, every level of its own width."""
    vae = build(1, latent_channels=3, block_out_channels=(2, 4, 6, 8), layers_per_block=2, norm_num_groups=2)
    config, tensors = run(vae, {"whole": (None, [5, 32, 24])}, sample=1)

    # How far the reference's own bf16 is from its f32, max |difference| / max |value|.
    half = copy.deepcopy(vae).bfloat16()
    posterior, decoded = both(half, [5, 32, 24], torch.bfloat16)
    for key, ours in {"mean": posterior.mean, "decoded": decoded}.items():
        full = tensors[f"whole.{key}"]
        config[f"bf16_{key}"] = ((ours.float() - full).abs().max() / full.abs().max()).item()
    write("vae_deep", config, tensors, vae)


def presets():
    """The published tilings at their own size, on the narrowest VAE."""
    vae = build(2, latent_channels=2, block_out_channels=(2, 2, 2, 2), layers_per_block=1, norm_num_groups=1)
    cases = {
        "tencent": ("tencent", [81, 264, 200]),
        "tencent_short": ("tencent", [5, 264, 200]),
        "diffusers": ("diffusers", [21, 200, 280]),
    }
    write("vae_presets", *run(vae, cases, sample=20), vae)


def official():
    """The published sizes on a small clip."""
    vae = build(4)
    write("vae_official", *run(vae, {"whole": (None, [5, 32, 48])}, sample=1), vae)


def wave(shape):
    """Values in [-1, 1] without a period, which the test computes for itself: cosines of the index."""
    index = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.cos(0.7 * index + 3.0 * torch.cos(0.013 * index)).float().reshape(shape)


def convolution():
    """One causal convolution with its stride and an odd size."""
    torch.manual_seed(3)
    conv = HunyuanVideoCausalConv3d(2, 3, 3, stride=(2, 2, 2))
    x = torch.randn(2, 2, 5, 7, 6)
    write("vae_conv", {}, {"x": x, "y": conv(x)}, conv)


if __name__ == "__main__":
    with torch.no_grad():
        if sys.argv[1:] == ["official"]:
            official()
        else:
            small()
            deep()
            presets()
            convolution()
