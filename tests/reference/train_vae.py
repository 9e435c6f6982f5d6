"""Writes the fixtures of `tests/train/vae.rs` and `tests/train/lpips.rs`: torch's gradients and distances.

Usage: python tests/reference/train_vae.py [official]

With "official" only torchvision's file of VGG-16 whole, 0.55 GB, which is not committed.

train/vae.safetensors: diffusers' VAE with small widths and random weights, a clip, noise for its latents, the terms of
the loss, and the gradient of every parameter.
train/lpips.safetensors: pictures, and their distance and its gradient by the `lpips` package on VGG-16 with weights
that follow from a formula (the network has 14.7 M of them, so the test computes them again).
train/lpips_heads.pth: lpips's own weights of that network as its package has them, a pickle of torch before 1.6.
train/vgg16_official.pth: the network as torchvision has it, with its classifier, in the same format.
"""
import json
import math
import sys
from pathlib import Path

import lpips
import torch
import torchvision
from diffusers import AutoencoderKLHunyuanVideo
from safetensors.torch import save_file

FIXTURES = Path(__file__).parent.parent / "fixtures" / "train"


def vae():
    torch.manual_seed(4)
    config = dict(latent_channels=2, block_out_channels=[4, 4, 6, 6], layers_per_block=1, norm_num_groups=2)
    kl_weight = 0.5
    model = AutoencoderKLHunyuanVideo(**config)
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, std=0.5 if parameter.ndim == 1 else 1.5 / math.sqrt(parameter[0].numel()))
        if "norm" in name and name.endswith("weight"):
            parameter.data += 1
    video = torch.rand(2, 3, 5, 16, 24) * 2 - 1
    posterior = model.encode(video).latent_dist
    noise = torch.randn_like(posterior.mean)
    # In one pass: `model.decode` would cut the clip in time.
    latents = posterior.mean + posterior.std * noise
    reconstruction = model.decoder(model.post_quant_conv(latents))
    l1 = (reconstruction - video).abs().mean()
    kl = 0.5 * (posterior.mean.square() + posterior.var - posterior.logvar - 1).sum() / video.numel()
    (l1 + kl_weight * kl).backward()
    record = {f"weights.{name}": p.detach() for name, p in model.named_parameters()}
    record |= {f"gradients.{name}": p.grad for name, p in model.named_parameters()}
    record |= dict(video=video, noise=noise, l1=l1.detach()[None], kl=kl.detach()[None])
    save_file(record, FIXTURES / "vae.safetensors", metadata={"config": json.dumps(config | dict(kl_weight=kl_weight))})
    print("vae", l1.item(), kl.item(), sum(p.numel() for p in model.parameters()))


def formula(shape, scale, shift):
    """Values in ±scale about shift, the same in every language: a linear congruence on the index."""
    index = torch.arange(math.prod(shape), dtype=torch.int64)
    values = (index * 1103515245 + 12345) % 65536
    return ((values.double() / 32768 - 1) * scale + shift).float().reshape(shape)


def fill(parameters):
    """Weights that follow from the formula for the convolutions of VGG-16."""
    for name, parameter in parameters:
        fan_in = math.prod(parameter.shape[1:])
        scale = math.sqrt(6 / fan_in) if name.endswith("weight") else 0.1
        parameter.copy_(formula(parameter.shape, scale, 0.0))


@torch.no_grad()
def official():
    vgg = torchvision.models.vgg16(weights=None)
    fill(vgg.features.named_parameters())
    torch.save(vgg.state_dict(), FIXTURES / "vgg16_official.pth", _use_new_zipfile_serialization=False)


def distances():
    model = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False).eval()
    with torch.no_grad():
        fill(model.net.named_parameters())
        for i, head in enumerate(model.lins):
            weight = head.model[1].weight
            weight.copy_(formula(weight.shape, 0.5, 0.5 + i * 0.1))
    # What the package saves: the same weights are in its list of stages, `lins`, which has other names.
    heads = {f"lin{i}.model.1.weight": head.model[1].weight.detach() for i, head in enumerate(model.lins)}
    torch.save(heads, FIXTURES / "lpips_heads.pth", _use_new_zipfile_serialization=False)
    torch.manual_seed(5)
    a, b = (torch.rand(2, 3, 24, 32) * 2 - 1 for _ in range(2))
    a.requires_grad_()
    distance = model(a, b).mean()
    distance.backward()
    save_file(dict(a=a.detach(), b=b, distance=distance.detach()[None], gradient=a.grad), FIXTURES / "lpips.safetensors")
    print("lpips", distance.item())


if sys.argv[1:] == ["official"]:
    official()
else:
    vae()
    distances()
