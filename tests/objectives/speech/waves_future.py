"""Toy sound for objectives on what comes next: melodies, so that what follows is not chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from hfcourse.backbones.speech.conv import ConvConfig, ConvModel
from hfcourse.backbones.speech.rate import state_counts
from hfcourse.objectives.base import Batch
from hfcourse.objectives.speech.base import Draws, SpeechObjective

SHAPE: dict[str, Any] = {"conv_kernel": [10, 8], "conv_stride": [5, 4], "conv_dim": [32, 32]}
NETS: dict[str, dict[str, Any]] = {
    "cpc": SHAPE | {"context": "gru"},
    "wav2vec": SHAPE | {"context": "conv", "context_kernel": [3, 3]},
    "gumbel": SHAPE | {"context": "conv", "context_kernel": [3, 3], "quantizer": "gumbel", "codes": 8},
    "kmeans": SHAPE | {"context": "conv", "context_kernel": [3, 3], "quantizer": "kmeans", "codes": 8},
}


def net_of(name: str, seed: int = 0) -> PreTrainedModel:
    """A net of 2 layers x 32, states of 20 samples."""
    torch.manual_seed(seed)
    return ConvModel(ConvConfig(**NETS[name]))


def melody(length: int, seed: int) -> np.ndarray:
    """Two notes that take turns every 100 samples, in noise, float32 (length,)."""
    generator = np.random.default_rng(seed)
    at = np.arange(length)
    notes = generator.uniform(0.05, 0.6, size=2)
    pitch = notes[((at + generator.integers(200)) // 100) % 2]
    found: np.ndarray = np.sin(2 * np.pi * pitch * at) + 0.1 * generator.standard_normal(length)
    return found.astype(np.float32)


def batch_of(objective: SpeechObjective, model: Any, waves: list[np.ndarray], rows: list[int], epoch: int = 0) -> Batch:
    """As the task collates `waves`, whose numbers are `rows`."""
    counts = np.array([len(wave) for wave in waves])
    values = np.zeros((len(waves), counts.max()), dtype=np.float32)
    for at, wave in enumerate(waves):
        values[at, : len(wave)] = wave
    states = state_counts(model.config, counts)
    found = {"input_values": values, "sample_counts": counts, "states": states}
    found |= objective.draw(states, Draws(3, epoch, np.array(rows)))
    batch = {name: torch.from_numpy(array) for name, array in found.items()}
    if counts.min() < counts.max():
        batch["attention_mask"] = (torch.arange(counts.max()) < batch["sample_counts"][:, None]).long()
    return batch
