"""Writes the fixture of `tests/curate/dover.rs` with the modules of VQAssessment/DOVER.

Usage: python tests/reference/dover.py FOLDER        a checkout of github.com/VQAssessment/DOVER; needs einops

dover.safetensors: both networks and heads, small and with random weights, under the names of `DOVER.pth`; the features
that they make of waves; every fifth pixel of the views of two pictures. The raw scores are in the metadata. What only
training and file reading need (timm, decord, skvideo, cv2) is replaced by stand-ins, and the random places of the
pieces by the middle of their range.
"""
import importlib.util
import json
import math
import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import torch
import torchvision
from safetensors.torch import save_file

FIXTURES = Path(__file__).parent.parent / "fixtures"
SWIN = dict(embed_dim=8, depths=[2, 2, 2], num_heads=[1, 2, 4], window_size=(2, 3, 3), frag_biases=[True, True, False])
CONVNEXT = dict(depths=[4, 1, 2, 1], dims=[4, 8, 12, 16])
HEAD = 6

for name in ["decord", "skvideo", "skvideo.io", "cv2", "timm", "timm.models"]:
    sys.modules[name] = MagicMock()
layers = MagicMock(trunc_normal_=torch.nn.init.trunc_normal_, DropPath=lambda rate: torch.nn.Identity())
sys.modules["timm.models.layers"], sys.modules["timm.models.registry"] = layers, MagicMock()


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


models = Path(sys.argv[1]) / "dover" / "models"
swin, conv, head = (load(models / f"{name}.py") for name in ["swin_backbone", "conv_backbone", "head"])
datasets = load(Path(sys.argv[1]) / "dover" / "datasets" / "dover_datasets.py")


def wave(*shape):
    i = np.arange(math.prod(shape), dtype=np.float64)
    return torch.from_numpy(np.cos(0.7 * i + 3.0 * np.cos(0.013 * i)).astype(np.float32)).reshape(shape)


def picture(frame, width, height):
    y, x = np.mgrid[:height, :width]
    channels = [(x * 7 + y * 13 + c * 50 + frame * 31 + x * y % 97) % 256 for c in range(3)]
    return np.stack(channels).astype(np.uint8)


torch.manual_seed(0)
model = torch.nn.ModuleDict({
    "technical_backbone": swin.SwinTransformer3D(use_checkpoint=False, **SWIN),
    "technical_head": head.VQAHead(in_channels=32, hidden_channels=HEAD),
    "aesthetic_backbone": conv.ConvNeXt3D(**CONVNEXT),
    "aesthetic_head": head.VQAHead(in_channels=16, hidden_channels=HEAD),
}).eval()
for name, p in model.named_parameters():
    if "norm" in name or p.dim() == 1:
        torch.nn.init.normal_(p, std=0.2)
        if "norm" in name and name.endswith("weight") or name.endswith("gamma"):
            p.data.add_(1.0)
    elif "table" in name:
        torch.nn.init.normal_(p, std=0.7)
    else:
        torch.nn.init.normal_(p, std=p[0].numel() ** -0.5)
# The first of each downsampling's norms is numbered, not named.
for layer, index in [(0, 1), (1, 0), (2, 0), (3, 0)]:
    model["aesthetic_backbone"].downsample_layers[layer][index].weight.data.add_(1.0)

with torch.no_grad():
    technical = model["technical_backbone"](wave(2, 3, 8, 48, 48))
    aesthetic = model["aesthetic_backbone"](wave(1, 3, 4, 64, 64))
    scores = dict(technical=model["technical_head"](technical).mean().item(),
                  aesthetic=model["aesthetic_head"](aesthetic).mean().item())

torch.randint = lambda high, size: torch.full(size, high // 2)
Resize = torchvision.transforms.Resize
torchvision.transforms.Resize = lambda size: Resize(size, antialias=False)  # the default of DOVER's time
mean, deviation = torch.tensor([123.675, 116.28, 103.53]), torch.tensor([58.395, 57.12, 57.375])
pictures = torch.from_numpy(np.stack([picture(frame, 300, 260) for frame in range(2)], axis=1))
views = {"fragments": datasets.get_spatial_fragments(pictures, aligned=2), "squeezed": datasets.get_resized_video(pictures)}

tensors = {key: value.contiguous() for key, value in model.state_dict().items()}
tensors |= {"features.technical": technical.contiguous(), "features.aesthetic": aesthetic.contiguous()}
for name, view in views.items():
    view = ((view.permute(1, 2, 3, 0).float() - mean) / deviation).permute(3, 0, 1, 2)
    tensors[f"view.{name}"] = view[:, :, ::5, ::5].contiguous()
save_file(tensors, FIXTURES / "dover.safetensors", metadata={"config": json.dumps(scores)})
print(scores, technical.shape, aesthetic.shape, technical.std(), aesthetic.std())
