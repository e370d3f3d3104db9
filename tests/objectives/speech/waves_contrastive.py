"""Small waves and a small wav2vec 2.0: tones that follow each other, heard by convolutions of 80 samples a state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForPreTraining

from hfcourse.backbones.speech.row_norm import listen_by_row
from hfcourse.objectives.speech.base import Draws
from hfcourse.objectives.speech.contrastive import Contrastive
from hfcourse.tasks.base import Batch, Row, SpeechContext, Task
from hfcourse.tasks.sound import inputs_of, states_in

TONES = 6


def config_of(norm: str = "layer", **changes: Any) -> Wav2Vec2Config:
    small = {
        "conv_dim": [24, 24, 24],
        "conv_kernel": [10, 5, 4],
        "conv_stride": [5, 4, 4],
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2,
        "num_codevectors_per_group": 8,
        "codevector_dim": 16,
        "proj_codevector_dim": 16,
        "hidden_dropout": 0.0,
        "activation_dropout": 0.0,
        "attention_dropout": 0.0,
        "layerdrop": 0.0,
    }
    return Wav2Vec2Config(feat_extract_norm=norm, **{**small, **changes})


def net(norm: str = "layer", **changes: Any) -> Wav2Vec2ForPreTraining:
    """Deaf to padding, as `model.build` makes it."""
    torch.manual_seed(0)
    model = Wav2Vec2ForPreTraining(config_of(norm, **changes))
    listen_by_row(model)
    return model


def context_of(config: Any) -> SpeechContext:
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=8000, do_normalize=True, return_attention_mask=True)
    return SpeechContext(extractor=extractor, backbone=config)


def tones(lengths: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """Waves of so many samples: six tones of 480 samples (6 states) in turn, from a drawn one on, and some noise."""
    generator = np.random.default_rng(seed)
    found = []
    for length in lengths:
        pitch = (generator.integers(TONES) + np.arange(length) // 480) % TONES + 1
        wave = np.sin(np.cumsum(0.25 * pitch)) + 0.05 * generator.standard_normal(length)
        found.append(wave.astype(np.float32))
    return found


def batch_of(
    objective: Contrastive,
    waves: Sequence[np.ndarray],
    config: Any,
    *,
    rows: Sequence[int] | None = None,
    epoch: int = 0,
    seed: int = 0,
) -> Batch:
    """As the task collates it; ``rows`` are the numbers that draws belong to."""
    context = context_of(config)
    batch = inputs_of(waves, context)
    states = states_in(batch, context)
    numbers = np.arange(len(waves)) if rows is None else np.asarray(rows)
    drawn = {"states": states, **objective.draw(states, Draws(seed, epoch, numbers))}
    return batch | {name: torch.from_numpy(values) for name, values in drawn.items()}


class Tones:
    """Waves as the examples of a split."""

    def __init__(self, count: int, seed: int) -> None:
        lengths = np.random.default_rng(seed).integers(2400, 4800, size=count)
        self.waves = tones(lengths.tolist(), seed)
        self.lengths = lengths // 80

    def __len__(self) -> int:
        return len(self.waves)

    def take(self, rows: Any) -> list[Row]:
        return [{"row": int(row), "wave": self.waves[row]} for row in rows]


class TonesTask(Task):
    """Pretraining on tones, through the engine."""

    name = "tones"
    maximize = False
    hears = True
    metric = "loss"

    def __init__(self, objective: Contrastive, config: Any) -> None:
        self.config, self._objective, self.head = config, objective, objective.head
        self.splits = {"train": Tones(24, 1), "dev": Tones(6, 2)}

    @property
    def objective(self) -> Contrastive:
        return self._objective

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        waves, numbers = [row["wave"] for row in rows], [row["row"] for row in rows]
        return batch_of(self._objective, waves, self.config, rows=numbers, epoch=epoch)

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        return [None] * len(batch["sample_counts"])

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        return []

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        return {}
