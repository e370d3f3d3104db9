"""A task small enough to train in a second, whose answer is known: the parity of the first token."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, PreTrainedModel

from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.heads.spec import HeadSpec
from hfcourse.native import native_class
from hfcourse.tasks.base import Batch, Row, Task

VOCABULARY = 40


class Rows:
    """Token sequences of mixed length with a label each."""

    def __init__(self, count: int, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.lengths = generator.integers(3, 20, size=count)
        self.ids = [generator.integers(2, VOCABULARY, size=length) for length in self.lengths]
        self.labels = [int(ids[0] % 2) for ids in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Any) -> list[Row]:
        return [{"row": int(r), "id": f"toy-{r}", "input_ids": self.ids[r], "label": self.labels[r]} for r in rows]


class ToyTask(Task):
    """The label is the parity of the first token."""

    name = "toy"
    head = HeadSpec(kind="sequence", labels=("even", "odd"))
    metric = "accuracy"

    def __init__(self, train: int = 96, dev: int = 53, test: int = 31) -> None:
        self.splits = {"train": Rows(train, 1), "dev": Rows(dev, 2), "test": Rows(test, 3)}

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for number, row in enumerate(rows):
            ids[number, : len(row["input_ids"])] = torch.from_numpy(row["input_ids"])
        labels = torch.tensor([row["label"] for row in rows])
        return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}

    def predict(self, logits: torch.Tensor, batch: Batch) -> list[Any]:
        return logits.argmax(dim=-1).tolist()

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        labels = self.splits[split].labels  # type: ignore[attr-defined]
        return [
            {"id": f"toy-{n}", "prediction": p, "reference": label}
            for n, (p, label) in enumerate(zip(predictions, labels, strict=True))
        ]

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        return {"accuracy": sum(a["prediction"] == a["reference"] for a in answers) / len(answers)}


def toy_model(dropout: float = 0.0, seed: int = 0) -> PreTrainedModel:
    """A tiny BERT with fresh, fixed weights."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(
        "bert",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    model_class = native_class(config, [ToyTask.head])
    assert model_class is not None
    return model_class(config)


def toy_config(**changes: Any) -> FitConfig:
    """Three epochs of six steps."""
    train = {"epochs": 3, "log_every": 1, "precision": "fp32", "progress": False} | changes.pop("train", {})
    optim = {"lr": 3e-3} | changes.pop("optim", {})
    batch = {"examples": 16} | changes.pop("batch", {})
    return FitConfig(train=TrainConfig(**train), optim=OptimConfig(**optim), batch=BatchConfig(**batch), **changes)
