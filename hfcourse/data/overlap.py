"""Something else is heard in a part of an utterance: another voice, or noise (WavLM, arXiv 2110.13900, section 3)."""

from __future__ import annotations

import numpy as np

_VOICE, _NOISE = (-5.0, 5.0), (-5.0, 20.0)
"""Decibels by which the utterance is louder than what is mixed into it: from, to."""


def overlapped(samples: np.ndarray, other: np.ndarray, draws: np.ndarray, *, noise: bool = False) -> np.ndarray:
    """Samples (T,) with a stretch of `other` (U,) added to them, at most half as long as they are.

    Args:
        samples: the utterance; it stays as it is.
        other: what is added.
        draws: four uniform numbers: energy ratio, length, where it begins in the one and in the other.
        noise: whether `other` is noise, which may be further below.
    """
    low, high = _NOISE if noise else _VOICE
    ratio = 10 ** ((low + draws[0] * (high - low)) / 10)
    length = min(1 + int(draws[1] * (len(samples) // 2)), len(other))
    into = int(draws[2] * (len(samples) - length + 1))
    out_of = int(draws[3] * (len(other) - length + 1))
    own, others = np.mean(np.square(samples, dtype=np.float64)), np.mean(np.square(other, dtype=np.float64))
    if others == 0:
        return samples
    mixed = samples.copy()
    mixed[into : into + length] += np.float32(np.sqrt(own / (ratio * others))) * other[out_of : out_of + length]
    return mixed


def coloured_noise(length: int, draw: float) -> np.ndarray:
    """Noise, float32 (length,): from white to brown (power falling with up to the square of the frequency)."""
    generator = np.random.default_rng(int(draw * 2**53))
    spectrum = np.fft.rfft(generator.standard_normal(length))
    slope = generator.uniform(0, 1)
    spectrum *= np.maximum(np.arange(len(spectrum)), 1) ** -slope
    noise: np.ndarray = np.fft.irfft(spectrum, length).astype(np.float32)
    return noise / max(float(np.abs(noise).max()), 1e-12)
