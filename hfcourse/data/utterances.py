"""Words whose places in a recording are known, and the utterances that they are put together to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

_SCRAP = 0.5
"""Seconds; shorter utterances are nothing to learn from."""


@dataclass(frozen=True)
class Words:
    """Words W of a recording, and where their tokens L are."""

    texts: list[str]
    offsets: np.ndarray
    """The first token of each word, and the end, (W + 1,)."""
    begins: np.ndarray
    """Seconds at which each token begins, (L,)."""
    ends: np.ndarray
    """Seconds at which it ends, (L,)."""
    scores: np.ndarray
    """Sum of each token's log probabilities, (L,)."""
    frames: np.ndarray
    """Over so many frames, (L,)."""

    def confidence(self, low: int, high: int) -> float:
        """Of the words from `low` up to `high`."""
        tokens = slice(self.offsets[low], self.offsets[high])
        frames = int(self.frames[tokens].sum())
        return round(float(self.scores[tokens].sum()) / frames, 4) if frames else float("nan")

    def times(
        self, utterances: Sequence[tuple[int, int]], *, margin: float, last: float
    ) -> tuple[list[float], list[float]]:
        """Where utterances, (first word, word behind the last), begin and end, in seconds up to `last`.

        `margin` is kept before and behind each, up to half of the pause to its neighbour.
        """
        starts = self.begins[[self.offsets[low] for low, _ in utterances]]
        ends = self.ends[[self.offsets[high] - 1 for _, high in utterances]]
        half = np.maximum(starts[1:] - ends[:-1], 0) / 2
        before, behind = np.concatenate([starts[:1], half]), np.concatenate([half, [last - ends[-1]]])
        return (
            (starts - np.minimum(before, margin)).clip(min=0).tolist(),
            (ends + np.minimum(behind.clip(min=0), margin)).tolist(),
        )

    def cut(self, longest: float) -> list[tuple[int, int]]:
        """All words, cut at the longest pause of what takes more than `longest` seconds, and that again.

        Where there is a choice, no part is shorter than half a second.
        """
        spoken = np.flatnonzero(np.diff(self.offsets))  # what has no token stays with the word before it
        begins, ends = self.begins[self.offsets[spoken]], self.ends[self.offsets[spoken + 1] - 1]
        parts, found = [(0, len(spoken))], []
        while parts:
            low, high = parts.pop()
            seconds = ends[high - 1] - begins[low]
            if seconds <= longest or high - low == 1:
                found.append(low)
                continue
            pauses = begins[low + 1 : high] - ends[low : high - 1]
            shorter = np.minimum(ends[low : high - 1] - begins[low], ends[high - 1] - begins[low + 1 : high])
            fit = shorter >= _SCRAP
            at = low + 1 + int(np.where(fit | ~fit.any(), pauses, -np.inf).argmax())
            parts += [(low, at), (at, high)]
        edges = [0, *(int(spoken[low]) for low in sorted(found)[1:]), len(self.texts)]
        return list(pairwise(edges))
