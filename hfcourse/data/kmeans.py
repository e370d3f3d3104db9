"""Mini-batch k-means over more frames than fit a full pass: scikit-learn's on CPU, one of torch's operations on a GPU.

Shapes: frames N, channels D, clusters K.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hfcourse.errors import DataError

_BATCH = 10_000
"""Frames of a mini-batch, as HuBERT has it."""
_PASSES = 20
"""Most passes over the frames; scikit-learn stops as soon as nothing improves."""
_AT_ONCE = 1 << 24
"""Distances that are held at once."""


def fit(frames: np.ndarray, clusters: int, *, seed: int) -> np.ndarray:
    """Centres, float32 (K, D), of frames (N, D); on a GPU where there is one.

    Raises:
        DataError: more clusters than frames.
    """
    if clusters > len(frames):
        raise DataError(f"{clusters} clusters of {len(frames)} frames: ask for fewer clusters, or give more recordings")
    import torch

    if torch.cuda.is_available():
        return fit_torch(frames, clusters, seed=seed, device="cuda")
    from sklearn.cluster import MiniBatchKMeans

    means = MiniBatchKMeans(clusters, batch_size=_BATCH, max_iter=_PASSES, n_init=3, random_state=seed)
    centres: np.ndarray = means.fit(np.asarray(frames, dtype=np.float32)).cluster_centers_
    return np.ascontiguousarray(centres, dtype=np.float32)


def fit_torch(frames: np.ndarray, clusters: int, *, seed: int, device: str) -> np.ndarray:
    """The same with torch: a k-means++ start on a sample, then each centre is the mean of all it was ever given."""
    import torch

    generator = torch.Generator(device=device).manual_seed(seed)
    points = torch.as_tensor(frames, dtype=torch.float32, device=device)
    count = len(points)
    sample = torch.randperm(count, generator=generator, device=device)[: max(3 * _BATCH, 3 * clusters)]
    centres = _spread_out(points[sample], clusters, generator)
    weights = torch.zeros(clusters, device=device)
    for _ in range(_PASSES):
        for rows in torch.randperm(count, generator=generator, device=device).split(_BATCH):
            batch = points[rows]
            nearest = _nearest(batch, centres)
            number = torch.bincount(nearest, minlength=clusters).float()
            weights += number
            total = torch.zeros_like(centres).index_add_(0, nearest, batch)
            centres += (total - number[:, None] * centres) / weights.clamp(min=1)[:, None]
    found: np.ndarray = centres.cpu().numpy()
    return found


def nearest(frames: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The number of each frame's nearest centre, uint16 (N,)."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    there = torch.as_tensor(centres, device=device)
    parts = torch.as_tensor(frames, dtype=torch.float32).split(max(1, _AT_ONCE // len(centres)))
    found = [_nearest(part.to(device), there).cpu().numpy() for part in parts]
    return np.concatenate(found or [np.zeros(0, dtype=np.int64)]).astype(np.uint16)


def _nearest(points: Any, centres: Any) -> Any:
    """Squared distances but for each point's own length, which is the same to all centres."""
    import torch

    return torch.addmm(centres.square().sum(dim=1), points, centres.T, beta=1, alpha=-2).argmin(dim=1)


def _spread_out(points: Any, clusters: int, generator: Any) -> Any:
    """k-means++: each further centre is a point drawn in proportion to its squared distance from those there are."""
    import torch

    chosen = torch.randint(len(points), (1,), generator=generator, device=points.device)
    distance = torch.full((len(points),), torch.inf, device=points.device)
    for _ in range(clusters - 1):
        distance = torch.minimum(distance, (points - points[chosen[-1]]).square().sum(dim=1))
        # Where the points that are left lie on chosen ones, any will do.
        drawn = torch.multinomial(distance + 1e-12, 1, generator=generator)
        chosen = torch.cat([chosen, drawn])
    return points[chosen].clone()
