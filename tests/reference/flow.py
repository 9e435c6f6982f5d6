"""Writes the fixture of `tests/curate/motion.rs`: OpenCV's optical flow on drawn pictures.

Usage: python tests/reference/flow.py [compare VIDEO…]

With "compare" only the on-demand fixture of real videos, which is not committed.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from safetensors.numpy import save_file

FIXTURES = Path(__file__).parent.parent / "fixtures"
SIZE = HEIGHT, WIDTH = 131, 187
PICTURES = 3
# Flow is kept at every STEP-th pixel, from the middle of the first step.
STEP = 5

# In the order of `cv2.calcOpticalFlowFarneback`, and by its names.
NAMES = ["pyr_scale", "levels", "winsize", "iterations", "poly_n", "poly_sigma", "flags"]
PARAMETERS = {
    "usual": [0.5, 3, 15, 3, 5, 1.2, 0],
    "gaussian": [0.5, 1, 21, 2, 7, 1.5, cv2.OPTFLOW_FARNEBACK_GAUSSIAN],
    "steep": [0.7, 5, 12, 4, 5, 1.1, 0],
    "flat": [0.5, 0, 9, 1, 3, 0.9, 0],
}


def texture(seed):
    """Waves of all lengths, as a function of the place."""
    random = np.random.default_rng(seed)
    length = np.exp(random.uniform(np.log(4), np.log(120), 80))
    angle, phase = random.uniform(0, 2 * np.pi, (2, 80))

    def at(x, y):
        turns = (x[..., None] * np.cos(angle) + y[..., None] * np.sin(angle)) / length
        return (np.cos(2 * np.pi * turns + phase) * length**0.6).sum(-1)

    return at


def turning(time):
    """Turns, grows and shifts; without contrast at the top."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] - np.array([60, 90]).reshape(2, 1, 1)
    turn, scale = 0.02 * time, 1.015**time
    across = (np.cos(turn) * x + np.sin(turn) * y) / scale - 1.7 * time
    down = (np.cos(turn) * y - np.sin(turn) * x) / scale + 0.6 * time
    return 120 + texture(1)(across, down) / (1 + np.exp(-(down + 25) / 6))


def passing(time):
    """A disc passes over ground that moves the other way, seen through noise."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    ground = 110 + 0.8 * texture(2)(x - 2.3 * time, y + 1.1 * time)
    disc = 140 + texture(3)(x + 4.2 * time, y - 0.5 * time)
    inside = np.hypot(x - 100 + 4.2 * time, y - 60 - 0.5 * time) < 32
    noise = np.random.default_rng(time).normal(0, 1.5, SIZE)
    return np.where(inside, disc, ground) + noise


def flows(pictures, parameters):
    pairs = zip(pictures, pictures[1:])
    flow = [cv2.calcOpticalFlowFarneback(a, b, None, *parameters) for a, b in pairs]
    return np.ascontiguousarray(np.stack(flow).transpose(0, 3, 1, 2), dtype=np.float32)


def write(name, scenes, step):
    """The pictures of all scenes in one column, and the flow in each scene by all parameters."""
    column = np.concatenate([picture for scene in scenes.values() for picture in scene])
    cv2.imwrite(str(FIXTURES / f"{name}.png"), column, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    tensors = {
        f"{scene}.{key}": np.ascontiguousarray(
            flows(pictures, values)[:, :, step // 2 :: step, step // 2 :: step]
        )
        for scene, pictures in scenes.items()
        for key, values in PARAMETERS.items()
    }
    config = {
        "scenes": [[scene, len(p), *p[0].shape] for scene, p in scenes.items()],
        "parameters": {key: dict(zip(NAMES, values)) for key, values in PARAMETERS.items()},
        "step": step,
        "opencv": cv2.__version__,
    }
    save_file(tensors, FIXTURES / f"{name}.safetensors", metadata={"config": json.dumps(config)})


def filmed(path):
    """Nine pictures from a video's middle, 256 wide, eight a second."""
    video = cv2.VideoCapture(path)
    interval = max(1, round(video.get(cv2.CAP_PROP_FPS) / 8))
    video.set(cv2.CAP_PROP_POS_FRAMES, video.get(cv2.CAP_PROP_FRAME_COUNT) // 2 - 4 * interval)
    pictures = [video.read()[1] for _ in range(9 * interval)][::interval]
    height = round(256 * pictures[0].shape[0] / pictures[0].shape[1])
    gray = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in pictures]
    return [cv2.resize(g, (256, height), interpolation=cv2.INTER_AREA) for g in gray]


def drawn(draw):
    return [np.clip(np.rint(draw(time)), 0, 255).astype(np.uint8) for time in range(PICTURES)]


if sys.argv[1:2] == ["compare"]:
    write("flow_compared", {Path(path).stem: filmed(path) for path in sys.argv[2:]}, 1)
else:
    write("flow", {"turning": drawn(turning), "passing": drawn(passing)}, STEP)
