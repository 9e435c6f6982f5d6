"""k-means of scikit-learn and of burn-hunyuan on the same points, cores and start.

    python benches/kmeans.py [--points 100000] [--width 512] [--clusters 1000] [--iterations 10]

The points lie around random centres, as embeddings of clips do around concepts. Prints seconds by the
clock and by the processor. On a machine that is used by others, compare the processor's on one core:

    RAYON_NUM_THREADS=1 OMP_NUM_THREADS=1 taskset -c 0 python benches/kmeans.py
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import sklearn
from sklearn.cluster import KMeans, MiniBatchKMeans, kmeans_plusplus
from sklearn.metrics import pairwise_distances_argmin_min

# glibc keeps what is freed, as `burn-hunyuan` has it do in its main.rs.
AS_THE_PROGRAM = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_TOP_PAD_": str(256 << 20),
}

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--points", type=int, default=100_000)
arguments.add_argument("--width", type=int, default=512)
arguments.add_argument("--clusters", type=int, default=1000)
arguments.add_argument("--iterations", type=int, default=10)
arguments = arguments.parse_args()


def timed(what, fit):
    start, busy = time.perf_counter(), time.process_time()
    iterations, inertia = fit()
    seconds, used = time.perf_counter() - start, time.process_time() - busy
    print(
        f"scikit-learn  {what:<28}{seconds:>8.2f} s {used:>8.2f} s of the processor {iterations:>5} iterations"
        f"   inertia {inertia:.6e}",
        flush=True,
    )


def lloyd():
    fitted = KMeans(
        arguments.clusters, init=start, n_init=1, max_iter=arguments.iterations, tol=0, copy_x=False
    ).fit(points.copy())
    return fitted.n_iter_, fitted.inertia_


def plus_plus():
    centres, _ = kmeans_plusplus(points, arguments.clusters, random_state=0)
    _, distances = pairwise_distances_argmin_min(points, centres)
    return 0, np.square(distances, dtype=np.float64).sum()


def mini_batch():
    fitted = MiniBatchKMeans(arguments.clusters, batch_size=10_000, n_init=1, random_state=0).fit(points)
    return fitted.n_steps_, fitted.inertia_


random = np.random.default_rng(0)
concepts = random.standard_normal((arguments.clusters, arguments.width), dtype=np.float32)
points = concepts[random.integers(0, arguments.clusters, arguments.points)]
points += 1.5 * random.standard_normal(points.shape, dtype=np.float32)
start = points[random.choice(arguments.points, arguments.clusters, replace=False)]

print(f"{arguments.points} x {arguments.width}, k = {arguments.clusters}, {os.cpu_count()} cores, scikit-learn {sklearn.__version__}")
timed("lloyd", lloyd)
timed("k-means++ alone", plus_plus)
timed("mini-batch, its own start", mini_batch)
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    points.tofile(folder / "points.f32")
    start.tofile(folder / "centres.f32")
    (folder / "sizes.txt").write_text(f"{arguments.width} {arguments.iterations}")
    del points, start
    command = ["cargo", "bench", "--package", "burn-hunyuan", "--bench", "kmeans", "--", str(folder)]
    environment = {**os.environ, **AS_THE_PROGRAM}
    subprocess.run(command, check=True, cwd=Path(__file__).parent.parent, env=environment)
