"""Optical flow: burn-hunyuan beside OpenCV, on the same pictures, parameters and cores.

Usage: python benches/flow.py [THREADS]      (needs numpy and opencv-python-headless)

Prints the milliseconds for a pair of pictures: the fastest of fifteen rounds over eight pairs.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parent.parent
PARAMETERS = (0.5, 3, 15, 3, 5, 1.2, 0)
ROUNDS = 15


def pictures(width, height):
    """Nine views of a rough surface that moves by (3, 1) pixels."""
    surface = np.random.default_rng(0).uniform(0, 255, (height + 16, width + 32)).astype(np.float32)
    surface = sum(cv2.GaussianBlur(surface, (0, 0), sigma) * sigma for sigma in (1, 3, 8))
    surface = cv2.normalize(surface, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    return [surface[t : t + height, 3 * t : 3 * t + width].copy() for t in range(9)]


def opencv(frames):
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for first, second in zip(frames, frames[1:]):
            cv2.calcOpticalFlowFarneback(first, second, None, *PARAMETERS)
        times.append((time.perf_counter() - start) * 1e3 / (len(frames) - 1))
    return min(times)


def ours(frames, threads):
    height, width = frames[0].shape
    with tempfile.NamedTemporaryFile() as file:
        file.write(np.stack(frames).tobytes())
        file.flush()
        command = ["cargo", "bench", "--quiet", "--bench", "flow", "--", file.name, str(width), str(height)]
        environment = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if run.returncode != 0:
        sys.exit(run.stderr)
    return float(run.stdout)


threads = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count()
cv2.setNumThreads(threads)
print(f"{'size':>10}{'OpenCV':>10}{'ours':>10}   ms a pair, {threads} threads")
for size in [(256, 144), (512, 288)]:
    frames = pictures(*size)
    print(f"{size[0]:>6}x{size[1]}{opencv(frames):>10.2f}{ours(frames, threads):>10.2f}")
