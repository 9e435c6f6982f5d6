"""Writes the fixture of `tests/curate/kmeans.rs`: points, first centres and what scikit-learn makes of them.

Usage: python tests/reference/kmeans.py

kmeans.safetensors: `points` around uneven concepts; per case (`spread`: centres drawn from the points; `far`: two of
them far from every point, so that their clusters are empty and are relocated; `cut`: stopped after three iterations)
the start, the centres and the labels. The inertia, the iterations, and the inertia of scikit-learn's own starts and
mini-batches are in the metadata.
"""
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.cluster import KMeans, MiniBatchKMeans

FIXTURES = Path(__file__).parent.parent / "fixtures"
CLUSTERS = 12

random = np.random.default_rng(0)
concepts = random.standard_normal((CLUSTERS, 16)) + 3.0
sizes = random.multinomial(700, random.dirichlet(np.full(CLUSTERS, 2.0)))
points = np.repeat(concepts, sizes, axis=0) + 0.6 * random.standard_normal((700, 16))
points = random.permutation(points).astype(np.float32)

spread = points[random.choice(len(points), CLUSTERS, replace=False)]
far = spread.copy()
far[[3, 7]] += 100.0

tensors, cases = {"points": points}, {}
for name, start, iterations in [("spread", spread, 300), ("far", far, 300), ("cut", spread, 3)]:
    fitted = KMeans(CLUSTERS, init=start, n_init=1, max_iter=iterations, tol=1e-4).fit(points)
    tensors |= {f"{name}.start": start, f"{name}.centres": fitted.cluster_centers_,
                f"{name}.labels": fitted.labels_.astype(np.float32)}
    cases[name] = dict(most=iterations, iterations=fitted.n_iter_, inertia=float(fitted.inertia_))

starts = [KMeans(CLUSTERS, n_init=1, random_state=seed).fit(points).inertia_ for seed in range(200)]
batches = [MiniBatchKMeans(CLUSTERS, n_init=1, batch_size=128, random_state=seed).fit(points).inertia_
           for seed in range(200)]
config = dict(cases=cases, plus_plus=float(np.mean(starts)), mini_batch=float(np.mean(batches)))
save_file({k: np.ascontiguousarray(v, dtype=np.float32) for k, v in tensors.items()}, FIXTURES / "kmeans.safetensors",
          metadata={"config": json.dumps(config)})
print(json.dumps(config, indent=1))
