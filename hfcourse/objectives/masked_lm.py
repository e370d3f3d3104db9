"""Masked words (BERT, arXiv 1810.04805), alone or with a pair objective, without logits that nobody reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.heads.losses import linear_cross_entropy
from hfcourse.objectives.base import Batch, Objective, Output
from hfcourse.peft.wrap import unwrapped

_CHUNK = 2048
"""Masked positions whose logits are looked at together in an evaluation."""


class MaskedLM(Objective):
    """Cross entropy at masked positions, and whether two segments belong together where the batch asks.

    The batch holds ``labels`` (B, T), -100 except at masked positions, ``positions`` (M,), the flat indices of
    those, and optionally ``pair_labels`` (B,). Only M states go through the vocabulary projection. For the task,
    ``logits`` is a dict: ``nll`` and ``best`` (M,) for masked words, ``pair`` (B, 2).
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)

    def counts(self, batch: Batch) -> dict[str, int]:
        counts = {"masked_lm": len(batch["positions"])} if "positions" in batch else {}
        return counts | ({"pair": len(batch["pair_labels"])} if "pair_labels" in batch else {})

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        parallel: Any = model
        inner: Any = unwrapped(parallel.module if hasattr(model, "module") else model)
        if hasattr(inner, "heads"):
            return _headed(model, inner, batch, need_logits=need_logits)
        return _native(model, inner, batch, need_logits=need_logits)


def _headed(model: nn.Module, inner: Any, batch: Batch, *, need_logits: bool) -> Output:
    """Our own heads compute their losses on masked positions themselves."""
    with last_layer_at(inner, states_read(batch)):
        output = model(**{key: value for key, value in batch.items() if key != "positions"})
    logits: dict[str, Any] = {}
    if need_logits:
        inner_logits = output.logits if isinstance(output.logits, dict) else dict.fromkeys(output.losses, output.logits)
        if "positions" in batch:
            targets = batch["labels"].flatten()[batch["positions"]]
            logits["nll"], logits["best"] = _judge(inner_logits["masked_lm"], targets)
        if "pair_labels" in batch:
            logits["pair"] = inner_logits["pair"]
    return Output(losses=output.losses, logits=logits)


def _native(model: nn.Module, inner: Any, batch: Batch, *, need_logits: bool) -> Output:
    inputs = {k: v for k, v in batch.items() if k not in {"labels", "positions", "pair_labels"}}
    losses: dict[str, Tensor] = {}
    logits: dict[str, Any] = {}
    cut_down = masked_states_only(inner, batch["positions"]) if "positions" in batch else nullcontext()
    with last_layer_at(inner, states_read(batch)), cut_down:
        output = model(**inputs)
    if "positions" in batch:
        states = (output.prediction_logits if "prediction_logits" in output else output.logits).squeeze(0)
        projection = inner.get_output_embeddings()
        targets = batch["labels"].flatten()[batch["positions"]]
        losses["masked_lm"] = linear_cross_entropy(states, projection.weight, projection.bias, targets)
        if need_logits:
            parts = [_judge(projection(s), t) for s, t in zip(states.split(_CHUNK), targets.split(_CHUNK), strict=True)]
            logits["nll"] = torch.cat([nll for nll, _ in parts])
            logits["best"] = torch.cat([best for _, best in parts])
    if "pair_labels" in batch:
        pair = output.seq_relationship_logits if "seq_relationship_logits" in output else output.logits
        losses["pair"] = nn.functional.cross_entropy(pair.float(), batch["pair_labels"])
        logits["pair"] = pair
    return Output(losses=losses, logits=logits if need_logits else None)


def states_read(batch: Batch) -> Tensor | Literal["first"]:
    """Which states the heads read: the masked ones, and each row's first where there are pairs."""
    if "positions" not in batch:
        return "first"
    if "pair_labels" not in batch:
        return batch["positions"]
    rows, length = batch["input_ids"].shape
    first = torch.arange(0, rows * length, length, device=batch["positions"].device)
    return torch.cat([batch["positions"], first])


def _judge(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of the target and the likeliest entry at each masked position, (M,) each."""
    nll = nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    return nll, logits.argmax(dim=-1)


@contextmanager
def masked_states_only(model: Any, positions: Tensor) -> Iterator[None]:
    """Within the block a native masked-LM class answers with (1, M, E): the states that its projection would get.

    The backbone's output is cut down to `positions` before the class's own transform sees it, and the vocabulary
    projection passes its input through. No weight, hook or name of the model changes.
    """
    prefix = model.base_model_prefix
    backbone, projection = getattr(model, prefix), model.get_output_embeddings()

    def gathered(*args: Any, **kwargs: Any) -> Any:
        output = backbone(*args, **kwargs)
        states = output["last_hidden_state"]
        output["last_hidden_state"] = states.flatten(0, 1)[positions].unsqueeze(0)
        return output

    # What stands in an instance's own dictionary is found before its submodules.
    model.__dict__[prefix] = gathered
    projection.__dict__["forward"] = lambda states: states
    try:
        yield
    finally:
        del model.__dict__[prefix]
        del projection.__dict__["forward"]
