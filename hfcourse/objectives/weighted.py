"""Classification whose rare classes count more."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from hfcourse.objectives.base import Batch, Objective, Output


class WeightedClasses(Objective):
    """Cross entropy in which each example weighs as its class says; weights average to 1 over the training set."""

    def __init__(self, weights: Sequence[float]) -> None:
        self.class_weights = torch.tensor(weights, dtype=torch.float32)

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"loss": len(batch["labels"]) if "labels" in batch else 0}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        labels = batch.get("labels")
        logits = model(**{key: value for key, value in batch.items() if key != "labels"}).logits
        if labels is None:
            return Output(losses={}, logits=logits)
        weights = self.class_weights.to(logits.device)[labels]
        loss = (F.cross_entropy(logits.float(), labels, reduction="none") * weights).mean()
        return Output(losses={"loss": loss}, logits=logits if need_logits else None)
