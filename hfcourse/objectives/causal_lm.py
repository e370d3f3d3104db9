"""The next token (GPT, arXiv 2005.14165), for every causal class of transformers, without a batch's logits at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.errors import ModelError
from hfcourse.heads.losses import IGNORED, linear_cross_entropy, linear_nll
from hfcourse.native import reads_both_ways
from hfcourse.objectives.base import Batch, Objective, Output
from hfcourse.peft.wrap import unwrapped

_FAR = 1024.0
"""Times the states that a model has: beyond every bound, and exact in any precision."""


class CausalLM(Objective):
    """Cross entropy of the token that comes next.

    The batch holds ``input_ids`` (B, T) and ``labels`` (B, T): what comes behind each of them, `IGNORED` where nothing
    is asked for. (transformers' classes shift labels themselves; here it is done, so that a block of T + 1 tokens
    asks T times.) The vocabulary's logits exist for a few hundred states at a time. For the task, ``logits`` is the
    negative log-likelihood of each label, (B, T).
    """

    def __init__(self) -> None:
        self.projects = True
        """Whether the model's logits are its output embedding over its last states, and nothing more."""

    def bind(self, model: nn.Module) -> None:
        """See how the model makes its logits.

        Raises:
            ModelError: it sees what it has to guess.
        """
        inner: Any = unwrapped(model)
        if reads_both_ways(inner.config):
            raise ModelError(
                f"a {inner.config.model_type} model reads in both directions and would see the tokens it has to guess: "
                "take a gpt2- or llama- preset, or another decoder"
            )
        self.projects = _only_projects(inner)

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"causal_lm": int((batch["labels"] != IGNORED).sum())}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        parallel: Any = model
        inner: Any = unwrapped(parallel.module if hasattr(model, "module") else model)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        labels = batch["labels"].flatten()
        if not self.projects:
            logits = _behind_prompts(model(**inputs, use_cache=False).logits, batch).flatten(0, 1).float()
            nll = F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED)
            return _output(nll, batch["labels"], need_logits)
        with states_for_logits(inner):
            states = _behind_prompts(model(**inputs, use_cache=False).logits, batch).flatten(0, 1)
        projection = inner.get_output_embeddings()
        if need_logits:
            return _output(linear_nll(states, projection.weight, projection.bias, labels), batch["labels"], True)
        loss = linear_cross_entropy(states, projection.weight, projection.bias, labels)
        return Output(losses={"causal_lm": loss})


def _behind_prompts(states: Tensor, batch: Batch) -> Tensor:
    """(B, n + T, ...) -> (B, T, ...): soft prompts stand before the tokens, and nothing is to be said of them."""
    return states[:, -batch["labels"].shape[1] :]


def _output(nll: Tensor, labels: Tensor, need_logits: bool) -> Output:
    """The mean over labels, and each of them (B, T) where they are read."""
    loss = nll.sum() / (labels != IGNORED).sum().clamp(min=1)
    return Output(losses={"causal_lm": loss}, logits=nll.view_as(labels) if need_logits else None)


@contextmanager
def states_for_logits(model: Any, times: float = 1.0) -> Iterator[None]:
    """Within the block a causal class answers with its last states (B, T, H) for logits. No weight or hook changes.

    Args:
        model: of transformers.
        times: what the states are multiplied by.
    """
    projection = model.get_output_embeddings()
    # What stands in an instance's own dictionary is found before its class.
    projection.__dict__["forward"] = lambda states: states if times == 1 else states * times
    try:
        yield
    finally:
        del projection.__dict__["forward"]


@torch.no_grad()
def _only_projects(model: Any) -> bool:
    """Tried on two tokens: some classes bound their logits afterwards (Gemma 2).

    A model at its start has logits too small to show a bound, so states are tried that are far from nothing, too.
    """
    projection = model.get_output_embeddings()
    ids = [number for number in range(3) if number != model.config.get_text_config().pad_token_id][:2]
    inputs = {"input_ids": torch.tensor([ids], device=projection.weight.device), "use_cache": False}
    was_training = model.training
    model.eval()
    try:
        logits = model(**inputs).logits
        with states_for_logits(model):
            states = model(**inputs).logits
        with states_for_logits(model, _FAR):
            far = model(**inputs).logits
    finally:
        model.train(was_training)
    fits = states.shape[-1] == projection.weight.shape[1] and torch.allclose(far / _FAR, states, rtol=1e-3, atol=1e-3)
    return fits and torch.allclose(projection(states), logits, rtol=1e-3, atol=1e-3)
