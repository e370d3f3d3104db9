"""The contract between an objective and the engine, and the default objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

Batch = dict[str, Tensor]


@dataclass
class Output:
    """What one forward pass gives the engine."""

    losses: dict[str, Tensor]
    """Mean loss of each term over its own units (masked tokens, sentences, ...), scalars with gradient."""
    logits: Any = None
    """What `Task.predict` reads; None when only losses were asked for."""
    logs: dict[str, Tensor] = field(default_factory=dict)
    """Sums over the batch of what is worth a curve, detached scalars, each counted like the term it is named
    after: ``{"masked_lm/accuracy": correct}`` is divided by the count of ``masked_lm``."""


class Objective:
    """Base of all objectives.

    A loss may have several terms, each the mean over units of its own. The engine adds up the counts of every
    micro-batch and process first and then weights each term by its share, so that a step's gradient is exactly
    that of one large batch, however it was cut.
    """

    weights: Mapping[str, float] = MappingProxyType({})
    """Factor of each term in the sum; 1 where not named."""
    leaves_out: bool = False
    """Whether a step may leave parameters without a gradient (the heads of other tasks): processes must know."""

    def counts(self, batch: Batch) -> dict[str, int]:
        """How many units each loss term of this batch averages over. Read from the batch alone, before forward."""
        raise NotImplementedError

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        """One forward pass. `need_logits` is false in training: what nobody reads is not computed."""
        raise NotImplementedError

    def bind(self, model: nn.Module) -> None:
        """Called once with the unwrapped model before anything else: modules that share its weights are made here."""

    def modules_to_train(self) -> list[nn.Module]:
        """Modules that learn beside the model (a generator, a codebook): optimized and kept in checkpoints with it."""
        return []

    def begin(self, step: int) -> None:
        """Called once before training, with the steps that are already done: schedules go on from there."""

    def after_step(self, step: int) -> None:
        """Called after each optimizer step: teachers, codebooks and schedules of masks are updated here."""

    def collapse(self, logs: Mapping[str, float]) -> str:
        """The name of a collapse and the figure that shows it, from a log window's means; empty in health."""
        return ""


class Supervised(Objective):
    """The model's own loss over ``labels`` (or start and end positions), as its forward computes it."""

    def counts(self, batch: Batch) -> dict[str, int]:
        labels = batch.get("labels", batch.get("start_positions"))
        if labels is None:
            return {"loss": 0}
        if labels.dtype.is_floating_point:
            return {"loss": labels.numel()}
        # A span head's positions past the end (or an ignored tag, -100) carry no loss.
        return {"loss": int((labels >= 0).sum())}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        output = model(**batch)
        losses = {} if output.loss is None else {"loss": output.loss}
        if "start_positions" in batch or "start_logits" in output:
            logits = torch.stack([output.start_logits, output.end_logits], dim=-1)
        else:
            logits = output.logits
        return Output(losses=losses, logits=logits if need_logits else None)
