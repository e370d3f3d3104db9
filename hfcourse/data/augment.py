"""Speed perturbation (Ko et al. 2015), telephones, SpecAugment's masks (arXiv 1904.08779): by seed, epoch and row.

Shapes: rows B, states S, channels C.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np

from hfcourse.data.audio import resampled_length
from hfcourse.data.augment_settings import AugmentConfig
from hfcourse.data.noise import uniform

_SPEED, _TIME, _CHANNELS, _NARROW = range(100, 104)
"""Streams of draws, far from those of the objectives."""
TELEPHONE = 8000
"""Samples a second of a telephone."""


def speeds(settings: AugmentConfig, seed: int, epoch: int, rows: np.ndarray) -> np.ndarray:
    """How fast each row is played, float64 (B,): 1 in evaluation (epoch -1)."""
    if epoch < 0 or not settings.speeds:
        return np.ones(len(rows))
    drawn = uniform(seed, epoch, rows, 1, _SPEED)[:, 0]
    found: np.ndarray = np.asarray(settings.speeds)[(drawn * len(settings.speeds)).astype(np.int64)]
    return found


def played_lengths(samples: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    """How many samples `played` gives of so many, int64 (B,)."""
    found: np.ndarray = resampled_length(samples, *_ratios(speeds))
    return found


def needed_lengths(longest: int, speeds: np.ndarray) -> np.ndarray:
    """How many samples are played in as long as `longest` take, int64 (B,)."""
    faster, slower = _ratios(speeds)
    found: np.ndarray = -(-longest * faster // slower)
    return found


def played(samples: np.ndarray, speed: float) -> np.ndarray:
    """Samples (T,) at `speed` times their speed, and as much higher: what came at t comes at t / speed."""
    import torch

    faster, slower = _ratio(speed)
    if faster == slower:
        return samples
    with torch.no_grad():
        changed: np.ndarray = _resampler(faster, slower)(torch.from_numpy(samples)).numpy()
    return changed


def over_telephones(
    settings: AugmentConfig, waveforms: list[np.ndarray], rate: int, *, seed: int, epoch: int, rows: np.ndarray
) -> list[np.ndarray]:
    """Waveforms at `rate` a second, of which those of some rows are heard so: none in evaluation (epoch -1)."""
    if epoch < 0 or not settings.narrow:
        return waveforms
    drawn = uniform(seed, epoch, rows, 1, _NARROW)[:, 0] < settings.narrow
    return [telephoned(wave, rate) if so else wave for wave, so in zip(waveforms, drawn, strict=True)]


def telephoned(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples (T,) at `rate` a second, as those are read that were recorded at a telephone's, (T,)."""
    import torch

    if rate <= TELEPHONE:
        return samples
    with torch.no_grad():
        low = _resampler(rate, TELEPHONE)(torch.from_numpy(samples))
        changed: np.ndarray = _resampler(TELEPHONE, rate)(low)[: len(samples)].numpy()
    return changed


def spans(sizes: np.ndarray, widest: np.ndarray, draws: np.ndarray, width: int) -> np.ndarray:
    """Where masks lie, bool (B, `width`): of each a width is drawn from 0 to `widest`, then a place where it fits.

    Args:
        sizes: what of each row may be masked, int64 (B,).
        widest: of a mask, int64 (B,).
        draws: uniform numbers, (B, 2 x masks).
        width: of the result; what lies behind a row's size stays free.
    """
    numbers = draws.reshape(len(draws), -1, 2)  # (B, masks, 2)
    lengths = np.minimum((numbers[..., 0] * (widest[:, None] + 1)).astype(np.int64), sizes[:, None])
    begins = (numbers[..., 1] * (sizes[:, None] - lengths + 1)).astype(np.int64)
    at = np.arange(width)
    inside: np.ndarray = (at >= begins[..., None]) & (at < (begins + lengths)[..., None])
    found: np.ndarray = np.logical_or.reduce(inside, axis=1)
    return found


def masks(
    settings: AugmentConfig,
    seed: int,
    epoch: int,
    rows: np.ndarray,
    states: np.ndarray,
    *,
    per_second: float,
    channels: int,
) -> dict[str, np.ndarray]:
    """``mask_time_indices`` (B, S) and ``mask_feature_indices`` (B, C), bool, as far as they are asked for.

    Args:
        settings: how many masks, and how wide.
        seed: of the run.
        epoch: nothing is masked in evaluation (-1).
        rows: numbers of the rows, (B,).
        states: of each row, int64 (B,); S is the largest.
        per_second: states in a second.
        channels: C.
    """
    found: dict[str, np.ndarray] = {}
    if epoch >= 0 and settings.time_masks:
        longest = round(settings.time_width * per_second)
        widest = np.minimum(longest, (settings.time_share * states).astype(np.int64))
        draws = uniform(seed, epoch, rows, 2 * settings.time_masks, _TIME)
        found["mask_time_indices"] = spans(states, widest, draws, int(states.max()))
    if epoch >= 0 and settings.channel_masks:
        sizes, widest = np.full(len(rows), channels), np.full(len(rows), round(settings.channel_width * channels))
        draws = uniform(seed, epoch, rows, 2 * settings.channel_masks, _CHANNELS)
        found["mask_feature_indices"] = spans(sizes, widest, draws, channels)
    return found


def _ratio(speed: float) -> tuple[int, int]:
    """A speed as two whole numbers: 11 and 10 for 1.1."""
    found = Fraction(speed).limit_denominator(100)
    return found.numerator, found.denominator


def _ratios(speeds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same of many, int64 (B,) each."""
    known, which = np.unique(speeds, return_inverse=True)
    pairs = np.array([_ratio(float(speed)) for speed in known], dtype=np.int64).reshape(-1, 2)[which]
    return pairs[:, 0], pairs[:, 1]


@cache
def _resampler(faster: int, slower: int) -> Any:
    """A module that keeps its kernel."""
    import torchaudio.transforms

    return torchaudio.transforms.Resample(faster, slower)
