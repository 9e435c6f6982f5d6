"""Writes the fixtures of `tests/curate/clip.rs`.

Usage: python tests/reference/clip.py

clip.safetensors: a small CLIP with random weights under the names of transformers' `CLIPModel` (its vision half),
pictures of odd sizes, what `CLIPImageProcessor` makes of them and their features.
clip_openai.safetensors: another under the names of OpenAI's code, by open_clip, and its features of the same pictures.
clip_resize.safetensors: pictures and what Pillow's bicubic makes of them, as bytes.
laion_linear.pth, laion_mlp.pth: random heads saved by `torch.save` as LAION's are, smaller; their scores of some
features are in clip.safetensors.
"""
import json
from pathlib import Path

import numpy as np
import torch
from open_clip.transformer import QuickGELU, VisionTransformer
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

FIXTURES = Path(__file__).parent.parent / "fixtures"
VISION = dict(hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, image_size=30,
              patch_size=6)
TEXT = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8)
PROJECTION = 20


def picture(width, height, phase):
    """Smooth waves with a sharp edge."""
    y, x = np.mgrid[:height, :width] / 7.0
    channels = [np.sin(x * (c + 1) + phase) * np.cos(y * (2 - c) - phase) for c in range(3)]
    pixels = np.stack(channels, axis=-1) * 100 + 128
    pixels[: height // 3, : width // 2] = [250, 5, 90]
    return pixels.astype(np.uint8)


def randomise(model):
    for name, p in model.named_parameters():
        if p.dim() == 1:
            torch.nn.init.normal_(p, std=0.2)
            if ("norm" in name or "ln_" in name) and name.endswith("weight"):
                p.data.add_(1.0)
        elif p.dim() > 1:
            torch.nn.init.normal_(p, std=p[0].numel() ** -0.5)
    return model.eval()


torch.manual_seed(0)
model = randomise(CLIPModel(CLIPConfig(vision_config=VISION, text_config=TEXT, projection_dim=PROJECTION)))

pictures = {"wide": picture(71, 43, 0.0), "tall": picture(33, 58, 1.0), "small": picture(23, 17, 2.0)}
processor = CLIPImageProcessorPil(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30})
prepared = processor([Image.fromarray(p) for p in pictures.values()], return_tensors="pt")["pixel_values"]
with torch.no_grad():
    features = model.visual_projection(model.vision_model(prepared).pooler_output)
    units = torch.nn.functional.normalize(features)
    heads = {"linear": torch.nn.Linear(PROJECTION, 1),
             "mlp": torch.nn.Sequential(torch.nn.Linear(PROJECTION, 12), torch.nn.Dropout(), torch.nn.Linear(12, 6),
                                        torch.nn.Dropout(), torch.nn.Linear(6, 1)).eval()}
    scores = {name: head(units)[:, 0] for name, head in heads.items()}
for name, head in heads.items():
    prefix = "layers." if name == "mlp" else ""
    torch.save({prefix + key: value for key, value in head.state_dict().items()}, FIXTURES / f"laion_{name}.pth")

weights = {key: value for key, value in model.state_dict().items() if key.startswith(("vision_model.", "visual_"))}
tensors = {key: value.contiguous() for key, value in weights.items()}
tensors |= {f"picture.{name}": torch.from_numpy(pixels) for name, pixels in pictures.items()}
tensors |= {f"scores.{name}": values for name, values in scores.items()}
tensors |= {"prepared": prepared, "features": features}
save_file(tensors, FIXTURES / "clip.safetensors", metadata={"config": json.dumps(VISION | dict(projection=PROJECTION))})

openai = randomise(VisionTransformer(image_size=30, patch_size=6, width=32, layers=2, heads=4, mlp_ratio=56 / 32,
                                     output_dim=PROJECTION, act_layer=QuickGELU))
with torch.no_grad():
    features = openai(prepared)
tensors = {f"visual.{key}": value for key, value in openai.state_dict().items()}
save_file(tensors | {"features": features}, FIXTURES / "clip_openai.safetensors")

resized = {}
for width, height, to_width, to_height in [(71, 43, 30, 19), (33, 58, 90, 101), (40, 24, 40, 60), (9, 200, 30, 7)]:
    source = picture(width, height, 3.0)
    scaled = Image.fromarray(source).resize((to_width, to_height), Image.Resampling.BICUBIC)
    resized[f"{width}x{height}.source"] = torch.from_numpy(source)
    resized[f"{width}x{height}.scaled"] = torch.from_numpy(np.asarray(scaled).copy())
save_file(resized, FIXTURES / "clip_resize.safetensors")
