"""Bootstrap intervals of a score, and of the difference of two scores on the same answers.

A resample draws n answers out of n with replacement (Efron 1979). Only how often each answer was drawn matters, and
answers that add the same to the score are one case: so the draw is one multinomial over the distinct cases, which is
the same distribution as drawing answers one by one and costs next to nothing for scores like accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Array = np.ndarray
RESAMPLES = 1000
_CELLS = 2_000_000
"""Most numbers drawn at once: bounds the memory of a large test set to some 20 MB."""


@dataclass(frozen=True)
class Statistic:
    """A score as a function of how often each answer counts."""

    units: Array
    """What the score reads of each answer, float64 of shape (answers, columns)."""
    value: Callable[[Array, Array], Array]
    """(weights of shape (draws, cases), units of shape (cases, columns)) -> scores of shape (draws,)."""
    scale: float = 1.0
    """100 where the run wrote its scores in per cent."""

    @property
    def point(self) -> float:
        """The score of the answers as they are."""
        return float(self.apply(np.ones((1, len(self.units))), self.units)[0])

    def apply(self, weights: Array, units: Array) -> Array:
        """Scores of some draws; nan where a draw leaves the score undefined (a correlation of constants)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.scale * np.asarray(self.value(weights, units), dtype=np.float64)


@dataclass(frozen=True)
class Interval:
    """A value with the bounds of its interval."""

    value: float
    low: float
    high: float
    above: float = math.nan
    """For a difference: the share of resamples in which it is above 0."""

    @property
    def certain(self) -> bool:
        """For a difference: whether 0 lies outside of the interval."""
        return self.low > 0 or self.high < 0


def interval(statistic: Statistic, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Percentile interval of one score."""
    draws = np.concatenate(
        [statistic.apply(weights, cases) for weights, cases in _draws(statistic.units, resamples, seed)]
    )
    return Interval(statistic.point, *_bounds(draws, level))


def difference(
    ours: Statistic, other: Statistic, *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Paired percentile interval of ``ours - other``; row i of both must be the same example.

    Both scores see the same resamples, so what is hard for both cancels out (Efron and Tibshirani 1993, chapter 8).
    """
    if len(ours.units) != len(other.units):
        raise ValueError(f"{len(ours.units)} answers are compared with {len(other.units)}")
    columns = ours.units.shape[1]
    both = np.hstack([ours.units, other.units])
    draws = np.concatenate(
        [
            ours.apply(weights, cases[:, :columns]) - other.apply(weights, cases[:, columns:])
            for weights, cases in _draws(both, resamples, seed)
        ]
    )
    return Interval(ours.point - other.point, *_bounds(draws, level), above=float(np.mean(draws > 0)))


def _draws(units: Array, resamples: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Chunks of (weights (draws, cases), cases (cases, columns)), `resamples` draws together."""
    cases, counts = np.unique(units, axis=0, return_counts=True)
    total = int(counts.sum())
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS // len(cases))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        yield rng.multinomial(total, counts / total, size=size).astype(np.float64), cases


def _bounds(draws: Array, level: float) -> tuple[float, float]:
    """The middle `level` of the draws that have a value."""
    known = draws[~np.isnan(draws)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
