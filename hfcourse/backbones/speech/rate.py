"""How many states a speech backbone has for so many samples: read off its config, before anything is computed."""

from __future__ import annotations

import math
from typing import Any, TypeVar

T = TypeVar("T")
_FILTERBANKS = {"wav2vec2-bert": ((400, 2), (160, 2))}
"""Widths and steps in samples of nets on filterbanks: windows of 25 ms every 10 ms, two of them a state."""


def _windows(config: Any) -> tuple[Any, Any] | None:
    """Widths and steps by which samples become states, one upon the other; None where a fixed stretch is read."""
    if hasattr(config, "conv_kernel"):
        return config.conv_kernel, config.conv_stride
    return _FILTERBANKS.get(config.model_type)


def state_counts(config: Any, samples: T) -> T:
    """States for `samples` (a number, an array or a tensor of whole numbers), 0 where there are too few.

    Args:
        config: of a backbone whose front end is strided convolutions (``conv_kernel``, ``conv_stride``: wav2vec 2.0
            and its kin, our own nets) or filterbanks (wav2vec2-bert), or one that reads a fixed stretch of sound
            (Whisper: ``max_source_positions``).
        samples: at the rate of the backbone.

    Raises:
        ValueError: a config that tells neither.
    """
    counts: Any = samples
    if windows := _windows(config):
        for kernel, step in zip(*windows, strict=True):
            counts = (counts - kernel) // step + 1
            counts = counts * (counts > 0)
        return counts  # type: ignore[no-any-return]
    if hasattr(config, "max_source_positions"):  # always 30 s, two frames of 10 ms a state: these hold sound
        counts = -(-counts // stride(config))
        return counts - (counts - config.max_source_positions) * (counts > config.max_source_positions)  # type: ignore[no-any-return]
    raise ValueError(f"{config.model_type}: no convolutions in its config tell how samples become states")


def in_windows(width: int, kernel: int, step: int) -> int:
    """How much of `width` a convolution without padding hears: up to the end of its last window."""
    return width - (width - kernel) % step if width > kernel else width


def stride(config: Any) -> int:
    """Samples from one state to the next."""
    windows = _windows(config)
    return math.prod(windows[1]) if windows else 320  # Whisper's two frames of 10 ms at 16 kHz


def shortest(config: Any) -> int:
    """The fewest samples that give a state."""
    kernels, steps = _windows(config) or ((), ())
    needed = 1
    for kernel, step in zip(reversed(kernels), reversed(steps), strict=True):
        needed = (needed - 1) * step + kernel
    return needed


def longest(config: Any) -> int:
    """The most samples that are heard of a recording; 0 for no bound."""
    return 0 if _windows(config) else int(config.max_source_positions) * stride(config)


def is_speech(config: Any) -> bool:
    """Whether a backbone hears: its input are samples, or features made of them."""
    whisper = hasattr(config, "max_source_positions") and hasattr(config, "num_mel_bins")
    return whisper or _windows(config) is not None
