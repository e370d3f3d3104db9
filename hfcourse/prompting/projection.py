"""Logits where somebody reads them, of any model that projects states onto its vocabulary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hfcourse.errors import ModelError
from hfcourse.prompting.requests import OptionScore


def logits_at(model: Any, rows: Tensor, columns: Tensor, length: int, call: Callable[[], Any]) -> Tensor:
    """Logits (M, V) of M places out of (B, T, V).

    The states are cut down in front of the vocabulary projection, so what a class does to its logits afterwards (a
    scale, a soft cap, a bias) still happens. A class that projects in another way computes all of them. States that a
    soft prompt put in front of the text are skipped.

    Args:
        model: a transformers class.
        rows: (M,) rows of the batch.
        columns: (M,) places in the text.
        length: T, tokens of a row of the text.
        call: runs the model, or what is around it.
    """
    cut = []

    def projected(states: Tensor) -> Any:
        cut.append(True)
        return forward(states[rows, columns + states.shape[1] - length].unsqueeze(0))

    projection = model.get_output_embeddings()
    if projection is None:
        return _picked(call(), rows, columns, length)
    # What stands in an instance's own dictionary is found before its class's method.
    forward, before = projection.forward, projection.__dict__.get("forward")
    projection.__dict__["forward"] = projected
    try:
        output = call()
    finally:
        del projection.__dict__["forward"]
        if before is not None:
            projection.__dict__["forward"] = before
    return _logits(output)[0] if cut else _picked(output, rows, columns, length)


def _logits(output: Any) -> Tensor:
    return output.prediction_logits if "prediction_logits" in output else output.logits  # type: ignore[no-any-return]


def _picked(output: Any, rows: Tensor, columns: Tensor, length: int) -> Tensor:
    logits = _logits(output)
    return logits[rows, columns + logits.shape[1] - length]


@dataclass
class Reading:
    """Which row of logits tells which token of which option; options are read one behind the other."""

    rows: list[int]
    """Row of the logits, by token."""
    targets: list[int]
    """The token itself."""
    counts: list[int]
    """Tokens of each option."""

    @staticmethod
    def empty() -> Reading:
        """Nothing to be read yet."""
        return Reading([], [], [])

    def add(self, rows: Sequence[int], option: Sequence[int]) -> None:
        """One more option."""
        self.rows += rows
        self.targets += option
        self.counts.append(len(option))

    def scores(self, logits: Tensor) -> list[OptionScore]:
        """How likely each option is, from logits (M, V).

        Raises:
            ModelError: logits that are no numbers.
        """
        log_probabilities = logits.log_softmax(dim=-1, dtype=torch.float32)
        rows = torch.tensor(self.rows, device=logits.device)
        targets = torch.tensor(self.targets, device=logits.device)
        told = log_probabilities[rows, targets].cpu().double().numpy()
        if np.isnan(told).any():
            raise ModelError(
                "the model's logits are no numbers (NaN): its weights are damaged, or need --precision fp32"
            )
        likeliest = (logits.argmax(dim=-1)[rows] == targets).cpu().numpy()
        starts = np.cumsum([0, *self.counts[:-1]])
        sums, greedy = np.add.reduceat(told, starts), np.logical_and.reduceat(likeliest, starts)
        return [
            OptionScore(float(logprob), count, bool(every))
            for logprob, count, every in zip(sums, self.counts, greedy, strict=True)
        ]
