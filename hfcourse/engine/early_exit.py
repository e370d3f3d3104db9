"""Inference that stops early: each row of a batch leaves at the first layer whose exit is sure enough.

Rows that left are gone: the layers above get a smaller batch, and none when nobody is left. Batches are of similar
length, so the padding is not trimmed when the longest rows leave.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from hfcourse.backbones.last_layer import layers_of
from hfcourse.engine.settings import ExitCriterion
from hfcourse.errors import ModelError
from hfcourse.headed_model import HeadedModel
from hfcourse.heads.exits import ExitsHead
from hfcourse.model import read_states_only
from hfcourse.tasks.base import Batch

ENCODERS = ("bert", "camembert", "distilbert", "electra", "modernbert", "nomic_bert", "roberta", "xlm-roberta")
"""Types of models whose layers take the states first and hand on nothing else."""


@dataclass(frozen=True)
class Rule:
    """When a row leaves."""

    criterion: ExitCriterion
    threshold: float
    """Most doubt (entropy, confidence); so many layers in a row that say the same as the one below (patience); the
    layer, from 1, at which all leave (layer)."""
    tolerance: float = 0.0
    """Regression: answers that differ by no more than this are the same."""


@dataclass(frozen=True)
class Exited:
    """The answers of one batch of B rows."""

    logits: Tensor
    """(B, labels), of the exit by which each row left."""
    layers: Tensor
    """(B,) the layers that each row went through, from 1."""


Run = Callable[[Batch], Exited]


class _AllLeft(Exception):
    """Nobody is left: the layers above are not run."""


def exits_of(model: nn.Module) -> ExitsHead:
    """The model's head with a classifier on every layer.

    Raises:
        ModelError: it has none, or its layers are not known here.
    """
    head = model.heads["sequence"] if isinstance(model, HeadedModel) and "sequence" in model.heads else None
    if not isinstance(head, ExitsHead):
        raise ModelError("this model has no classifier on its lower layers: train one with bert/early_exit")
    kind = model.base_model.config.model_type  # type: ignore[union-attr]
    if kind not in ENCODERS:
        raise ModelError(f"early exit does not know the layers of a {kind} model: take one of {', '.join(ENCODERS)}")
    if len(head.exits) < 2:
        raise ModelError("early exit needs a model of two layers or more: this one has a single layer")
    return head


@contextmanager
def early_exit(model: Any, rule: Rule) -> Iterator[Run]:
    """Within the block the function that it gives answers batches, rows leaving by `rule`.

    The logits are those of the full computation at the same layer.

    Args:
        model: a `HeadedModel` with exits, in eval mode; outside of the block it is as it was.
        rule: when a row leaves.
    """
    head = exits_of(model)
    leaving = _Leaving(head, rule)
    layers = layers_of(model.backbone)
    hooks: list[Any] = [layer.register_forward_pre_hook(leaving.narrow, with_kwargs=True) for layer in layers[1:]]
    hooks += [layer.register_forward_hook(partial(leaving.after, n)) for n, layer in enumerate(layers[:-1])]

    def run(batch: Batch) -> Exited:
        leaving.begin(batch)
        with suppress(_AllLeft):
            leaving.end(model.backbone(**model.inputs_of(batch)).last_hidden_state)
        return Exited(leaving.logits, leaving.layers)

    try:
        with torch.inference_mode(), read_states_only(model):
            yield run
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def no_exit(model: Any) -> Iterator[Run]:
    """As `early_exit`, with the last classifier alone: the ordinary inference that early exit is measured against."""
    head = exits_of(model)
    last = head.exits[-1]

    def run(batch: Batch) -> Exited:
        states = model.backbone(**model.inputs_of(batch)).last_hidden_state
        logits = last.answer(states, _mask(batch))  # type: ignore[operator]
        return Exited(logits, logits.new_full((len(logits),), len(head.exits), dtype=torch.long))

    with torch.inference_mode(), read_states_only(model):
        yield run


class _Leaving:
    """Which rows of a batch are still here, and the answers of those that are not."""

    logits: Tensor
    layers: Tensor
    rows: Tensor
    """(A,) numbers of the rows that are still here."""

    def __init__(self, head: ExitsHead, rule: Rule) -> None:
        self.head, self.rule = head, rule

    def begin(self, batch: Batch) -> None:
        """A new batch: everybody is here."""
        ids = batch["input_ids"]
        self.count = len(ids)
        self.mask = _mask(batch)
        self.rows = torch.arange(self.count, device=ids.device)
        self.layers = torch.zeros_like(self.rows)
        self.before: Tensor | None = None
        self.agreed = torch.zeros_like(self.rows)
        self.narrowed: dict[int, tuple[Tensor, Tensor]] = {}

    def narrow(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        """What a layer gets beside its states (masks, positions), for the rows that are still here."""
        if len(self.rows) == self.count:
            return None
        states, *rest = args
        return (states, *map(self._select, rest)), {key: self._select(value) for key, value in kwargs.items()}

    def after(self, number: int, layer: nn.Module, args: tuple[Any, ...], states: Tensor) -> Tensor | None:
        """Layer `number` (from 0) is done: answer, let those go who are sure, hand on the states of the others."""
        if self.rule.criterion == "layer" and number + 1 < self.rule.threshold:
            return None  # nobody asks this exit
        logits = self._answer(number, states)
        stay = (~self._sure(logits)).nonzero().squeeze(1)
        if len(stay) == len(self.rows):
            return None
        self._write(number, logits)  # of those who stay too: a later exit writes over it
        if not len(stay):
            raise _AllLeft
        self.rows, self.agreed = self.rows[stay], self.agreed[stay]
        self.before = None if self.before is None else self.before[stay]
        self.narrowed.clear()
        return states.index_select(0, stay)

    def end(self, states: Tensor) -> None:
        """The last layer is done: everybody leaves."""
        last = len(self.head.exits) - 1
        self._write(last, self._answer(last, states))

    def _answer(self, number: int, states: Tensor) -> Tensor:
        return self.head.exits[number].answer(states, self._select(self.mask))  # type: ignore[operator, no-any-return]

    def _write(self, number: int, logits: Tensor) -> None:
        if len(self.rows) == self.count:
            self.logits, self.layers = logits, torch.full_like(self.rows, number + 1)
        else:
            self.logits.index_copy_(0, self.rows, logits)
            self.layers.index_fill_(0, self.rows, number + 1)

    def _select(self, value: Any) -> Any:
        """The rows that are still here of what has a row for each; anything else as it is. Made once for all layers."""
        if isinstance(value, tuple):
            return tuple(map(self._select, value))
        if not isinstance(value, Tensor) or not value.dim() or len(value) != self.count or len(self.rows) == self.count:
            return value
        if id(value) not in self.narrowed:  # the value is kept with it, so that its id stays its own
            self.narrowed[id(value)] = value, value.index_select(0, self.rows)
        return self.narrowed[id(value)][1]

    def _sure(self, logits: Tensor) -> Tensor:
        """(A, labels) -> (A,) whether a row may leave."""
        rule = self.rule
        if rule.criterion == "layer":
            return torch.ones_like(self.rows, dtype=torch.bool)
        if rule.criterion == "patience":
            self._count_agreement(logits)
            return self.agreed >= rule.threshold
        return doubt(rule.criterion, logits) <= rule.threshold

    def _count_agreement(self, logits: Tensor) -> None:
        answer = logits.argmax(dim=-1) if logits.shape[-1] > 1 else logits[:, 0]
        if self.before is not None:
            same = (answer - self.before).abs() <= self.rule.tolerance
            self.agreed = (self.agreed + 1) * same
        self.before = answer


def doubt(criterion: ExitCriterion, logits: Tensor) -> Tensor:
    """(B, classes) -> (B,) from 0, certain, to 1, a guess among all classes."""
    logs = logits.float().log_softmax(dim=-1)
    classes = logits.shape[-1]
    if criterion == "entropy":
        return -(logs.exp() * logs).sum(dim=-1) / math.log(classes)
    return (1 - logs.amax(dim=-1).exp()) / (1 - 1 / classes)


def _mask(batch: Batch) -> Tensor | None:
    mask = batch.get("attention_mask")
    return None if mask is None else mask.bool()
