"""Waves whose content is known, as tables that every task on sound reads."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

RATE = 16_000


def tone(frequency: float, seconds: float, *, rate: int = RATE, seed: int = 0, noise: float = 0.02) -> np.ndarray:
    """A sine with noise under it, float32 (samples,)."""
    at = np.arange(round(seconds * rate)) / rate
    draws = np.random.default_rng([seed, len(at)]).standard_normal(len(at))
    return (0.3 * np.sin(2 * np.pi * frequency * at) + noise * draws).astype(np.float32)


def cell(samples: np.ndarray, *, rate: int = RATE, name: str = "x.flac", container: str = "FLAC") -> dict[str, Any]:
    """An audio cell of bytes."""
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=container)
    return {"bytes": stream.getvalue(), "path": name}


def labelled(count: int, seed: int) -> dict[str, list[Any]]:
    """Two halves a recording: a low tone by its class, then a high one; ``phones`` name both with their times."""
    draws = np.random.default_rng(seed)
    columns: dict[str, list[Any]] = {name: [] for name in ("audio", "label", "phones", "starts", "ends", "id")}
    for number in range(count):
        kind, half = int(draws.integers(3)), 0.2 + 0.3 * draws.random()
        low, high = (tone(f, half, seed=number) for f in (300 + 250 * kind, 2000 + 400 * kind))
        seconds = len(low) / RATE
        values = cell(np.concatenate([low, high]), name=f"{number}.flac"), "abc"[kind], ["lo", f"hi{kind}"]
        for name, value in zip(columns, (*values, [0.0, seconds], [seconds, 2 * seconds], f"r{number}"), strict=True):
            columns[name].append(value)
    return columns


def write(folder: Path, sizes: dict[str, int]) -> Path:
    """A folder of parquet files, one a split, of `labelled` rows."""
    import datasets

    datasets.disable_progress_bars()
    for seed, (split, count) in enumerate(sizes.items()):
        datasets.Dataset.from_dict(labelled(count, seed)).to_parquet(folder / f"{split}.parquet")
    return folder
