"""What a recording does to a voice: a room, a microphone, a telephone line and noise, all drawn from a given generator.

Waveforms are float32 in [-1, 1], of shape (samples,), at `RATE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import numpy as np
from scipy import fft, signal

RATE = 16_000
NOISES = ("white", "pink", "hum", "babble")
_BABBLERS = 4
_SPEED_OF_SOUND = 343.0
_TELEPHONE = (300.0, 3400.0)
# Two an octave, from 62.5 to 8000 Hz.
_BANDS = 62.5 * 2.0 ** np.arange(0, 7.5, 0.5)


@dataclass(frozen=True)
class Conditions:
    """How an utterance may be recorded; pairs are the ends of what is drawn evenly."""

    snr: tuple[float, float] | None = (5.0, 20.0)
    """Decibels by which speech is louder than the noise; None: no noise."""
    room: float = 0.6
    """Share of utterances in a room."""
    microphone: float = 5.0
    """Standard deviation, in decibels, of a microphone's response in each octave."""
    telephone: float = 0.1
    """Share of utterances over a telephone line."""
    level: tuple[float, float] | None = (-32.0, -18.0)
    """Root mean square of the whole in decibels of full scale; None: as it is."""


def recorded(
    samples: np.ndarray, rng: np.random.Generator, conditions: Conditions, babble: Sequence[np.ndarray] = ()
) -> np.ndarray:
    """A voice under drawn conditions; longer than before by the tail of the room."""
    impulse = room(rng) if rng.random() < conditions.room else np.ones(1, np.float32)
    gains = microphone(rng, conditions.microphone)
    if rng.random() < conditions.telephone:
        gains = gains + telephone()
    samples = through(samples, impulse, gains)
    if conditions.snr is not None:
        kind = NOISES[rng.integers(len(NOISES) if babble else len(NOISES) - 1)]
        samples = samples + at_snr(samples, noise(kind, len(samples), rng, babble), rng.uniform(*conditions.snr))
    return samples if conditions.level is None else levelled(samples, rng.uniform(*conditions.level))


def resampled(samples: np.ndarray, rate: int, speed: float = 1.0) -> np.ndarray:
    """Samples of another rate at `RATE`, `speed` times as fast (and as high). A moment t comes at t / speed."""
    step = Fraction(rate * speed / RATE).limit_denominator(RATE // 50)
    up, down = step.denominator, step.numerator
    return signal.resample_poly(samples, up, down, window=_low_pass(max(up, down))).astype(np.float32)


@cache
def _low_pass(factor: int) -> np.ndarray:
    """The filter that `resample_poly` would design on each call, which takes as long as using it."""
    return signal.firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0)).astype(np.float32)


def room(rng: np.random.Generator) -> np.ndarray:
    """The impulse response of a drawn room: the direct sound at 0, a few early reflections, a tail that dies away."""
    decay = rng.uniform(0.15, 0.6)  # seconds until 60 dB less
    distance = rng.uniform(0.5, 3.0)  # metres
    times = np.arange(int(decay * RATE)) / RATE
    tail = rng.standard_normal(len(times), dtype=np.float32) * 10 ** (-3 * times / decay)
    tail[: int(0.02 * RATE)] = 0
    # Energy of the reverberation beside the direct sound grows with the distance.
    impulse = tail * (0.5 * distance * decay / np.sqrt(np.sum(tail**2)))
    for detour in rng.uniform(0.5, 8.0, rng.integers(4, 9)):
        reflected = rng.uniform(0.3, 0.9) * distance / (distance + detour)
        impulse[int(detour / _SPEED_OF_SOUND * RATE)] += reflected * rng.choice((-1, 1))
    impulse[0] = 1
    return impulse.astype(np.float32)


def microphone(rng: np.random.Generator, spread: float) -> np.ndarray:
    """A drawn response in decibels at `_BANDS`: one draw an octave, and what lies between them in between."""
    octaves = spread * rng.standard_normal((len(_BANDS) + 1) // 2)
    return np.interp(np.arange(len(_BANDS)), np.arange(0, len(_BANDS), 2), octaves)


def telephone() -> np.ndarray:
    """A telephone line's response in decibels at `_BANDS`."""
    low, high = _TELEPHONE
    return np.interp(_BANDS, (low, low + 1, high, high + 1), (-40.0, 0.0, 0.0, -40.0))


def through(samples: np.ndarray, impulse: np.ndarray, gains: np.ndarray) -> np.ndarray:
    """A voice after a room's impulse response and a response in decibels at `_BANDS`; as long as both together."""
    length = len(samples) + len(impulse) - 1
    size = fft.next_fast_len(length, real=True)
    spectrum = fft.rfft(samples, size) * _response(gains, size)
    if len(impulse) > 1:
        spectrum *= fft.rfft(impulse, size)
    return fft.irfft(spectrum, size)[:length].astype(np.float32)


def _response(gains: np.ndarray, size: int) -> np.ndarray:
    """Factors for each frequency of a transform of `size` samples and what lies between bands in between."""
    decibels = np.interp(fft.rfftfreq(size, 1 / RATE), _BANDS, gains)
    return (10 ** (decibels / 20)).astype(np.float32)


def noise(kind: str, length: int, rng: np.random.Generator, babble: Sequence[np.ndarray] = ()) -> np.ndarray:
    """One of `NOISES`; ``babble`` is made of some of the given utterances, each begun anywhere and repeated."""
    if kind == "babble":
        chosen = rng.choice(len(babble), min(_BABBLERS, len(babble)), replace=False)
        voices = [np.resize(np.roll(babble[k], rng.integers(len(babble[k]))), length) for k in chosen]
        return sum(voices, np.zeros(length, np.float32))
    sound = rng.standard_normal(length, dtype=np.float32)
    if kind == "pink":
        size = fft.next_fast_len(length, real=True)
        falling = 1 / np.sqrt(np.maximum(fft.rfftfreq(size, 1 / RATE), 30))
        return fft.irfft(fft.rfft(sound, size) * falling.astype(np.float32), size)[:length].astype(np.float32)
    if kind == "hum":
        tone = np.exp(2j * np.pi * rng.choice((50, 60)) / RATE * np.arange(length)).astype(np.complex64)
        phases = np.exp(2j * np.pi * rng.random(8)).astype(np.complex64)
        # Horner's rule: the k-th harmonic is the k-th power of the tone, and 1 / k as loud.
        harmonics = np.zeros_like(tone)
        for k in range(8, 0, -1):
            harmonics = (harmonics + phases[k - 1] / k) * tone
        return (0.05 * sound + harmonics.imag).astype(np.float32)
    return sound


def at_snr(speech: np.ndarray, sound: np.ndarray, snr: float) -> np.ndarray:
    """A noise so loud that the speech lies `snr` decibels above it."""
    ratio = np.sum(speech**2, dtype=np.float64) / max(np.sum(sound**2, dtype=np.float64), 1e-12)
    return sound * np.float32(np.sqrt(ratio) * 10 ** (-snr / 20))


def levelled(samples: np.ndarray, level: float) -> np.ndarray:
    """Samples of a root mean square of `level` decibels of full scale, or less where that would clip them."""
    power = np.sqrt(np.mean(samples**2, dtype=np.float64))
    return samples * np.float32(min(10 ** (level / 20) / max(power, 1e-9), 0.98 / max(np.abs(samples).max(), 1e-9)))


def quantised(samples: np.ndarray) -> np.ndarray:
    """16-bit integers."""
    return np.clip(np.round(samples * 32767), -32768, 32767).astype(np.int16)
