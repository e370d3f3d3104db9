"""Sound as backbones take it: one channel of float32 samples at one rate, read by soundfile from any container."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hfcourse.errors import DataError

_KINDS = "wav wave flac ogg oga opus mp3 aif aiff aifc au snd caf w64 sph m4a"
ENDINGS = {f".{kind}" for kind in _KINDS.split()}
"""Of files that are taken for recordings; what soundfile cannot read of them is counted."""
CLIPPED = 0.05
"""A recording with a larger share of its samples at full scale is called clipped: speech is cut off there."""
_MISSING = re.compile(r"^\s*data : (\d+) \(should be (\d+)\)", re.MULTILINE)
"""What libsndfile notes of a RIFF file that says it has more sound than it has."""
_UNKNOWN_SIZE = 2**31 - 2**16
"""Bytes from which on that is what programs write that do not know the size yet."""
_KERNEL = 50_000_000
"""Most entries of a resampler's filter."""
_HEARD = 7
"""Samples, at the lower of both rates, that the resampler's filter hears on either side: torchaudio's 6 and a bit."""
_SILENT = 1e-5
"""Nothing in a silent recording is louder (a hundredth of what the last bit of 16 is worth is 3e-7)."""


class UnreadableAudio(ValueError):
    """A recording that holds no sound; its text says why."""


@dataclass(frozen=True)
class Part:
    """Where a recording's sound is: a file or its bytes, whole or from `start` on for `duration` seconds."""

    path: str
    """Of the file; of bytes, the name that messages show."""
    content: bytes | None = None
    """The file's bytes where they do not lie in a file."""
    start: float = 0.0
    """Seconds."""
    duration: float = 0.0
    """Seconds; 0 for all to the end."""

    @classmethod
    def of(cls, row: Mapping[str, Any], column: str = "audio") -> Part:
        """The part that a row's cell names; ``start`` and ``duration`` of the row together say where it is cut.

        Raises:
            DataError: they do, but not in seconds.
        """
        cell, times = row[column], ("start", "duration")
        cut = {name: _seconds(row, name) for name in times} if row.keys() >= {*times} else {}
        return cls(path=str(cell.get("path") or ""), content=cell.get("bytes"), **cut)


def _seconds(row: Mapping[str, Any], name: str) -> float:
    try:
        seconds = float(row[name] or 0.0)
    except (TypeError, ValueError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(
            f"column {name!r} holds {str(row[name])[:40]!r}: beside an audio column 'start' and 'duration' are the "
            "seconds at which a recording is cut: write numbers, or rename the columns"
        )
    return seconds


def header(part: Part) -> tuple[int, int]:
    """(samples in a channel, samples a second) of a part, without decoding it.

    Raises:
        UnreadableAudio: no such file, or nothing that soundfile reads.
    """
    with _opened(part) as sound:
        _, count = _span(part, sound.frames, sound.samplerate)
        return count, int(sound.samplerate)


def decode(part: Part, rate: int, begin: int = 0, count: int = 0) -> np.ndarray:
    """The samples of a part, float32 (samples,), its channels averaged, at `rate` samples a second.

    With `count` only so many from the sample `begin` on, and no more than these is read: a lecture is long.

    Raises:
        UnreadableAudio: no such file, nothing that soundfile reads to its end, or sound that is cut off at full scale.
    """
    with _opened(part) as sound:
        first, own_count = _span(part, sound.frames, sound.samplerate)
        own_rate, before = int(sound.samplerate), 0
        if count:
            low, high, before = _needed(begin, count, own_rate, rate)
            first, own_count = first + low, min(high, own_count) - low
        try:
            sound.seek(first)
            samples = sound.read(own_count, dtype="float32", always_2d=True)
        except (RuntimeError, ValueError, MemoryError) as error:
            raise UnreadableAudio(f"damaged ({_reason(error)})") from error
        if missing := _MISSING.search(sound.extra_info):
            there, promised = int(missing[2]), int(missing[1])
            if promised < _UNKNOWN_SIZE:  # else written to a pipe
                raise UnreadableAudio(f"truncated: {there} of {promised} bytes are there")
    if len(samples) < own_count:
        raise UnreadableAudio(f"truncated: {len(samples)} of {own_count} samples are there")
    if not count and _is_clipped(samples):  # here: at another rate, or averaged, it would not show
        raise UnreadableAudio("clipped")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    found = np.ascontiguousarray(mono) if own_rate == rate else resample(mono, own_rate, rate)
    return found[before : before + count] if count else found


def _needed(begin: int, count: int, own_rate: int, rate: int) -> tuple[int, int, int]:
    """Of which own samples, from the first to the one behind the last, `count` at `rate` from `begin` on are made.

    The third number tells how many samples are made of these before the one at `begin`.
    """
    if own_rate == rate:
        return begin, begin + count, 0
    common = math.gcd(own_rate, rate)
    own, new = own_rate // common, rate // common
    # Whole periods of the resampler, and so many more as its filter hears on either side.
    margin = -(-_HEARD // min(own, new)) + 1
    low = max(begin // new - margin, 0)
    return low * own, (-(-(begin + count) // new) + margin) * own, begin - low * new


def resample(samples: np.ndarray, own_rate: int, rate: int) -> np.ndarray:
    """Samples (samples,) at another rate: ceil(samples x rate / own_rate) of them (torchaudio's windowed sinc).

    Raises:
        UnreadableAudio: rates with so little in common that the filter would take gigabytes.
    """
    import torch
    import torchaudio.functional

    if not len(samples):
        return samples
    common = math.gcd(own_rate, rate)
    if (own_rate // common) * (rate // common) > _KERNEL:
        raise UnreadableAudio(f"{own_rate} samples a second cannot be made {rate}: bring it to a usual rate")
    with torch.no_grad():
        changed: np.ndarray = torchaudio.functional.resample(torch.from_numpy(samples), own_rate, rate).numpy()
    return changed


def resampled_length(samples: int | np.ndarray, own_rate: int | np.ndarray, rate: int | np.ndarray) -> Any:
    """How many samples `resample` gives."""
    return -(-samples * rate // own_rate)


def fault(samples: np.ndarray, shortest: int) -> str:
    """Why nothing can be learned from samples (samples,); empty where something can.

    Args:
        samples: decoded, at the backbone's rate.
        shortest: samples that the backbone needs for one state.
    """
    if not len(samples):
        return "empty"
    if not np.isfinite(samples).all():
        return "holds nan or inf"
    if len(samples) < shortest:
        return f"too short: {len(samples)} samples, and the model needs {shortest}"
    return "silent" if np.abs(samples).max() < _SILENT else ""


def _is_clipped(samples: np.ndarray) -> bool:
    """Whether too much of any channel of (samples, channels) is at full scale."""
    if not len(samples):
        return False
    levels = np.abs(samples)
    return bool(((levels >= 0.999 * np.maximum(levels.max(axis=0), 1.0)).mean(axis=0) > CLIPPED).any())


def normalised(samples: np.ndarray) -> np.ndarray:
    """Mean 0 and variance 1, as transformers' extractor of wav2vec 2.0 has it."""
    scaled: np.ndarray = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    return scaled


def _opened(part: Part) -> Any:
    import soundfile

    if part.content is None and not Path(part.path).is_file():
        raise UnreadableAudio("no such file")
    try:
        return soundfile.SoundFile(part.path if part.content is None else io.BytesIO(part.content))
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        raise UnreadableAudio(f"not audio ({_reason(error)})") from error


def _span(part: Part, frames: int, rate: int) -> tuple[int, int]:
    """First sample and number of samples of a part, at the file's own rate.

    Raises:
        UnreadableAudio: the part begins behind the end.
    """
    first = round(part.start * rate)
    if first > frames:
        raise UnreadableAudio(f"ends at {frames / rate:.2f} s, before the part that begins at {part.start:.2f} s")
    count = round(part.duration * rate) if part.duration else frames - first
    return first, min(count, frames - first)


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", None) or error).strip().rstrip(".").splitlines()[0]
