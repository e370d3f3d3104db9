"""What the frames of a recording are like, such as MFCC. What clusters are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

PIECE = 60
"""Seconds; longer recordings are worked on in pieces of that many, each frame within one."""


class Frames(Protocol):
    """Samples -> frames. Frame i is made of the samples from ``i x hop`` on, `window` of them."""

    rate: int
    """Samples a second that it hears at."""
    hop: int
    window: int

    @property
    def about(self) -> dict[str, Any]:
        """What decides the frames, as plain values."""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Frames, float32 (F, D), of samples (T,): one at least."""


class Mfcc:
    """13 cepstral coefficients of Kaldi's kind, their first and second differences: (F, 39), every 10 ms.

    With `cmvn` each of them has mean 0 and variance 1 over a recording: its microphone and level no longer show.
    """

    def __init__(self, rate: int, *, cmvn: bool = False) -> None:
        self.rate, self.hop, self.window, self.cmvn = rate, rate // 100, rate * 25 // 1000, cmvn

    @property
    def about(self) -> dict[str, Any]:
        """What decides the frames."""
        return {"feature": "mfcc"} | ({"cmvn": True} if self.cmvn else {})

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Frames (F, 39)."""
        import torch
        import torchaudio.compliance.kaldi
        import torchaudio.functional

        found = []
        for piece in pieces(samples, hop=self.hop, window=self.window, longest=PIECE * self.rate):
            still = torchaudio.compliance.kaldi.mfcc(
                torch.from_numpy(piece)[None], sample_frequency=self.rate, use_energy=False
            ).T
            first = torchaudio.functional.compute_deltas(still)
            found.append(torch.cat([still, first, torchaudio.functional.compute_deltas(first)]).T.numpy())
        if self.cmvn:
            whole = np.concatenate(found)
            found = [(whole - whole.mean(axis=0)) / (whole.std(axis=0) + 1e-5)]
        return np.ascontiguousarray(np.concatenate(found), dtype=np.float32)


def pieces(samples: np.ndarray, *, hop: int, window: int, longest: int) -> Iterator[np.ndarray]:
    """Stretches of samples (T,) of which each whole frame lies in exactly one; too few are filled up with zeros."""
    if len(samples) < window:
        yield np.pad(samples, (0, window - len(samples)))
        return
    frames, most = (len(samples) - window) // hop + 1, max(1, longest // hop)
    for first in range(0, frames, most):
        last = min(first + most, frames) - 1
        yield samples[first * hop : last * hop + window]


def weights_hash(model: Any) -> str:
    """A hash of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).tobytes())
    return digest.hexdigest()[:32]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two descriptions tell of the same frames; where the model lies is no matter."""
    return {**one, "model": ""} == {**other, "model": ""}


def shown(about: dict[str, Any]) -> str:
    """What frames are made of, in a few words."""
    if about.get("feature") != "layer":
        return f"{about.get('feature')}{' with cmvn' if about.get('cmvn') else ''}"
    return f"layer {about['layer']} of {about['model']} (weights {str(about['weights'])[:8]})"
