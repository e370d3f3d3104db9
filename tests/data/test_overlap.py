"""What is mixed into an utterance: how much of it, how loud, and that the rest stays."""

from __future__ import annotations

import numpy as np
import pytest

from hfcourse.data.overlap import coloured_noise, overlapped


def test_a_mixture_by_hand() -> None:
    """A ratio of 0 dB, 3 of 8 samples, from 5 on, out of those from 1 on."""
    samples = np.array([2, -2, 2, -2, 2, -2, 2, -2], dtype=np.float32)
    other = np.array([1, -1, 1, 1, -1], dtype=np.float32)
    draws = np.array([0.5, 0.5, 0.99, 0.4])  # length 1 + 2; of 0 .. 5 the last; of 0 .. 2 the second
    found = overlapped(samples, other, draws)
    assert found == pytest.approx(np.array([2, -2, 2, -2, 2, -2 - 2, 2 + 2, -2 + 2], dtype=np.float32))
    assert samples[5] == -2  # the utterance itself is untouched


@pytest.mark.parametrize(("noise", "low", "high"), [(False, -5.0, 5.0), (True, -5.0, 20.0)])
def test_never_more_than_half_and_never_louder_than_asked(noise: bool, low: float, high: float) -> None:
    generator = np.random.default_rng(0)
    samples, other = (generator.normal(0, size, 4000).astype(np.float32) for size in (0.3, 0.01))
    shares, ratios = [], []
    for _ in range(300):
        added = overlapped(samples, other, generator.random(4), noise=noise) - samples
        heard = np.flatnonzero(added)
        assert heard[-1] - heard[0] + 1 == len(heard)  # one stretch
        shares.append(len(heard) / len(samples))
        if len(heard) > 1000:
            ratios.append(10 * np.log10(np.square(samples).mean() / np.square(added[heard]).mean()))
    assert max(shares) <= 0.5 and max(shares) > 0.48 and min(shares) < 0.02
    assert low - 0.5 < min(ratios) < low + 1 and high - 1 < max(ratios) < high + 0.5


def test_silence_adds_nothing_and_short_ones_are_no_error() -> None:
    samples = np.ones(9, dtype=np.float32)
    assert (overlapped(samples, np.zeros(9, dtype=np.float32), np.full(4, 0.5)) == samples).all()
    for size in (1, 2, 3):
        mixed = overlapped(samples[:size], np.ones(1, dtype=np.float32), np.full(4, 0.999999))
        assert len(mixed) == size and np.isfinite(mixed).all()


def test_noise_is_coloured_and_follows_its_draw() -> None:
    assert (coloured_noise(500, 0.3) == coloured_noise(500, 0.3)).all()
    slopes = []
    for draw in np.linspace(0.01, 0.99, 40):
        noise = coloured_noise(4096, draw)
        assert noise.dtype == np.float32 and np.abs(noise).max() == pytest.approx(1)
        power = np.square(np.abs(np.fft.rfft(noise)))[8:1024]
        slopes.append(np.polyfit(np.log(np.arange(8, 1024)), np.log(power), 1)[0])
    assert min(slopes) < -1.5 and max(slopes) > -0.5 and min(slopes) > -2.3
    assert len(coloured_noise(1, 0.5)) == 1
