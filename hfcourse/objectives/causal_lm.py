"""The next token (GPT, arXiv 2005.14165), for every causal class of transformers, without a batch's logits at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.backbones.attention import UNMASKED, attention_by
from hfcourse.errors import ModelError
from hfcourse.heads.losses import IGNORED, linear_cross_entropy, linear_nll
from hfcourse.native import reads_both_ways
from hfcourse.objectives.base import Batch, Objective, Output
from hfcourse.peft.wrap import unwrapped
from hfcourse.prompting.packing import exact_up_to

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
        self.hides_future = False
        """Whether SDPA can do without a mask where nothing is padded."""

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
        with attention_by("eager", inner, instead_of="flash_attention_2"):  # which runs on GPUs alone, in 16 bits
            self.projects, self.hides_future = _only_projects(inner), _hides_future(inner)

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"causal_lm": int((batch["labels"] != IGNORED).sum())}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        parallel: Any = model
        inner: Any = unwrapped(parallel.module if hasattr(model, "module") else model)
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        labels = batch["labels"].flatten()
        found = _behind_prompts(self._run(model, inner, inputs), batch).flatten(0, 1)
        if not self.projects:
            nll = F.cross_entropy(found.float(), labels, reduction="none", ignore_index=IGNORED)
            return _output(nll, batch["labels"], need_logits)
        projection = inner.get_output_embeddings()
        if need_logits:
            return _output(linear_nll(found, projection.weight, projection.bias, labels), batch["labels"], True)
        loss = linear_cross_entropy(found, projection.weight, projection.bias, labels)
        return Output(losses={"causal_lm": loss})

    def _run(self, model: nn.Module, inner: Any, inputs: Batch) -> Tensor:
        """The last states (B, T, H), or where they are not all that logits are made of, the logits (B, T, V)."""
        unmasked = self.hides_future and inputs.keys() == {"input_ids"}
        with (
            attention_by(UNMASKED, inner, instead_of="sdpa") if unmasked else nullcontext(),
            states_for_logits(inner) if self.projects else nullcontext(),
        ):
            return model(**inputs, use_cache=False).logits  # type: ignore[no-any-return]


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


@contextmanager
def _trial(model: Any) -> Iterator[dict[str, Any]]:
    """Two tokens, for a model that is in evaluation mode within the block."""
    ids = [number for number in range(3) if number != model.config.get_text_config().pad_token_id][:2]
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield {"input_ids": torch.tensor([ids], device=model.get_output_embeddings().weight.device)}
    finally:
        model.train(was_training)


def _only_projects(model: Any) -> bool:
    """Tried on two tokens: some classes bound their logits afterwards (Gemma 2).

    A model at its start has logits too small to show a bound, so states are tried that are far from nothing, too.
    """
    projection = model.get_output_embeddings()
    with _trial(model) as inputs:
        logits = model(**inputs, use_cache=False).logits
        with states_for_logits(model):
            states = model(**inputs, use_cache=False).logits
        with states_for_logits(model, _FAR):
            far = model(**inputs, use_cache=False).logits
        fits = states.shape[-1] == projection.weight.shape[1]
        fits = fits and torch.allclose(far / _FAR, states, rtol=1e-3, atol=1e-3)
        return fits and torch.allclose(projection(states), logits, rtol=1e-3, atol=1e-3)


def _hides_future(model: Any) -> bool:
    """Whether no layer looks back less far than to the start, and none needs a mask, tried on two tokens."""
    with _trial(model) as inputs:
        logits = model(**inputs, use_cache=False).logits
        with attention_by(UNMASKED, model, instead_of="sdpa"):
            again = model(**inputs, use_cache=False).logits
    return not exact_up_to(model.config) and torch.allclose(again, logits, rtol=1e-5, atol=1e-7)
