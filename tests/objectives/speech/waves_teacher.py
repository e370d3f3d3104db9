"""Tones as recordings, nets of a few thousand weights on them, and a task that the engine can run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModel

from hfcourse.backbones.speech.rate import state_counts
from hfcourse.backbones.speech.row_norm import listen_by_row
from hfcourse.heads.spec import HeadSpec
from hfcourse.objectives.speech.base import Draws, SpeechObjective
from hfcourse.tasks.base import Batch, Row, Task

CONVOLUTIONS = {"conv_dim": [12, 12], "conv_kernel": [10, 8], "conv_stride": [8, 8]}
"""A state every 64 samples."""
SMALL = {
    **CONVOLUTIONS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_conv_pos_embeddings": 1,
    "conv_pos_kernel_size": 5,
    "num_conv_pos_embedding_groups": 4,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "layerdrop": 0.0,
}


def net(model_type: str, seed: int = 0, **changes: Any) -> Any:
    """A bare net with fresh, fixed weights, deaf to padding as `model.build` makes it."""
    torch.manual_seed(seed)
    settings = {**SMALL, **({"num_conv_pos_embeddings": 4} if model_type != "data2vec-audio" else {}), **changes}
    model = AutoModel.from_config(AutoConfig.for_model(model_type, **settings))
    listen_by_row(model)
    return model


def wave(row: int, samples: int) -> np.ndarray:
    """A tone of one of four pitches, a little noisy."""
    generator = np.random.default_rng(row)
    time = np.arange(samples) / 400
    pitch = (13, 31, 59, 97)[row % 4]
    return (np.sin(2 * np.pi * pitch * time) + 0.1 * generator.standard_normal(samples)).astype(np.float32)


def batch_of(objective: SpeechObjective, config: Any, lengths: dict[int, int], *, epoch: int = 0) -> Batch:
    """What `collate` makes of rows by number, each with its number of samples."""
    rows, counts = np.array([*lengths]), np.array([*lengths.values()])
    values = np.zeros((len(rows), counts.max()), dtype=np.float32)
    for at, (row, samples) in enumerate(lengths.items()):
        values[at, :samples] = wave(row, samples)
    states = state_counts(config, counts)
    batch = {"input_values": values, "sample_counts": counts, "states": states}
    if counts.min() < counts.max():
        batch["attention_mask"] = (np.arange(counts.max()) < counts[:, None]).astype(np.int64)
    drawn = objective.draw(states, Draws(0, epoch, rows))
    return {name: torch.from_numpy(array) for name, array in (batch | drawn).items()}


def losses(objective: SpeechObjective, model: Any, batch: Batch, steps: int, lr: float = 3e-3) -> list[float]:
    """What the sum of the losses is before each of so many steps on one batch."""
    modules = [model, *objective.modules_to_train()]
    optimizer = torch.optim.AdamW([p for m in modules for p in m.parameters() if p.requires_grad], lr=lr)
    found = []
    for step in range(1, steps + 1):
        loss = sum(objective(model, batch, need_logits=False).losses.values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step(step)
        found.append(float(loss.detach()))
    return found


class Tones:
    """Tones of mixed length (implements `hfcourse.tasks.base.Examples`)."""

    def __init__(self, count: int) -> None:
        self.samples = np.random.default_rng(count).integers(1200, 2400, size=count)
        self.lengths = self.samples // 16

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Row]:
        return [{"row": int(row), "samples": int(self.samples[row])} for row in rows]


class ToneTask(Task):
    """Learning from tones with an objective."""

    name, head, metric, maximize, augments, hears = "tones", HeadSpec(kind="none"), "loss", False, True, True

    def __init__(self, objective: SpeechObjective, config: Any) -> None:
        self._objective, self._config = objective, config
        self.splits = {"train": Tones(24), "dev": Tones(5)}

    @property
    def objective(self) -> SpeechObjective:
        return self._objective

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        return batch_of(self._objective, self._config, {row["row"]: row["samples"] for row in rows}, epoch=epoch)

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        return [None] * len(batch["sample_counts"])

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        return []

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        return {}
