"""k-means, scikit-learn's and torch's, finds clusters that were planted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hfcourse.data import kmeans
from hfcourse.errors import DataError

Fit = Callable[[np.ndarray, int], np.ndarray]
FITS: dict[str, Fit] = {
    "sklearn": lambda frames, clusters: kmeans.fit(frames, clusters, seed=0),
    "torch": lambda frames, clusters: kmeans.fit_torch(frames, clusters, seed=0, device="cpu"),
}


def planted(count: int = 6000, clusters: int = 7) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames round centres, the centres, and whose each frame is."""
    generator = np.random.default_rng(0)
    centres = generator.normal(0, 10, (clusters, 5)).astype(np.float32)
    owner = generator.integers(0, clusters, count)
    return (centres[owner] + generator.normal(0, 0.3, (count, 5))).astype(np.float32), centres, owner


@pytest.mark.parametrize("how", FITS)
def test_planted_clusters_are_found(how: str) -> None:
    frames, centres, owner = planted()
    found = FITS[how](frames, len(centres))
    assert found.shape == centres.shape and found.dtype == np.float32
    distance = np.linalg.norm(found[:, None] - centres[None], axis=2)
    assert distance.min(axis=0).max() < 0.2  # each planted centre has one that is found beside it
    means = np.stack([frames[owner == cluster].mean(axis=0) for cluster in range(len(centres))])
    names = distance.argmin(axis=1)
    assert found == pytest.approx(means[names], abs=0.15)
    assert (names[kmeans.nearest(frames, found)] == owner).all()


@pytest.mark.parametrize("how", FITS)
def test_the_same_seed_finds_the_same(how: str) -> None:
    frames, _, _ = planted()
    assert (FITS[how](frames, 12) == FITS[how](frames, 12)).all()


def test_torch_comes_as_near_to_the_frames_as_sklearn() -> None:
    """On frames without clusters, where every start leads elsewhere: the mean squared distance to the nearest."""
    frames = np.random.default_rng(1).normal(size=(20_000, 8)).astype(np.float32)
    far = {}
    for how, fit in FITS.items():
        centres = fit(frames, 40)
        far[how] = np.square(frames - centres[kmeans.nearest(frames, centres)]).sum(axis=1).mean()
    assert far["torch"] < 1.02 * far["sklearn"]


def test_a_centre_is_the_mean_of_all_it_was_given() -> None:
    """Of one cluster that is the mean of all frames, though the last mini-batches weigh no more than the first."""
    frames = np.random.default_rng(3).gamma(1.0, size=(25_000, 4)).astype(np.float32)
    assert FITS["torch"](frames, 1)[0] == pytest.approx(frames.mean(axis=0), abs=1e-4)


def test_as_many_clusters_as_frames_are_the_frames() -> None:
    frames = np.arange(10, dtype=np.float32).reshape(5, 2)
    found = FITS["torch"](frames, 5)
    assert found[found[:, 0].argsort()] == pytest.approx(frames, abs=1e-5)
    assert FITS["sklearn"](frames, 5).shape == (5, 2)  # it moves clusters of few frames about, even here


def test_nearest_is_that_of_brute_force() -> None:
    generator = np.random.default_rng(2)
    frames, centres = (generator.normal(size=(count, 3)).astype(np.float32) for count in (500, 300))
    brute = np.square(frames[:, None] - centres[None]).sum(axis=2).argmin(axis=1)
    found = kmeans.nearest(frames, centres)
    assert found.dtype == np.uint16 and (found == brute).all()
    assert kmeans.nearest(frames[:0], centres).shape == (0,)


def test_more_clusters_than_frames_are_refused() -> None:
    with pytest.raises(DataError, match="9 clusters of 8 frames"):
        kmeans.fit(np.zeros((8, 2), dtype=np.float32), 9, seed=0)
