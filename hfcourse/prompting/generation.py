"""Answers that a model writes itself: ``generate`` with nothing but what was asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedTokenizerBase, StoppingCriteria, StoppingCriteriaList

from hfcourse.peft.wrap import unwrapped
from hfcourse.prompting.requests import Generation


def written(
    model: Any, tokenizer: PreTrainedTokenizerBase, how: Generation, inputs: dict[str, Any], start: int, pad: int
) -> list[str]:
    """A text for each row of `inputs`, without its stop string.

    Args:
        model: a causal or seq2seq model, perhaps with an adapter.
        tokenizer: its own.
        how: greedy or not, and where to stop. A temperature draws from torch's own generator, as it stands.
        inputs: of the model's ``generate``.
        start: tokens that stand before the answer in what ``generate`` gives back.
        pad: stands behind an answer that is done.
    """
    stops = [stop for stop in how.stop if stop]
    criteria = StoppingCriteriaList([_StopAt(tokenizer, stops, start)] if stops else [])
    with _settings(unwrapped(model), tokenizer, how, pad) as settings:
        ids = model.generate(**inputs, generation_config=settings, stopping_criteria=criteria)
    return [cut(text, stops) for text in tokenizer.batch_decode(ids[:, start:], skip_special_tokens=True)]


def cut(text: str, stops: Sequence[str]) -> str:
    """What stands before the first stop string."""
    return text[: min((place for stop in stops if (place := text.find(stop)) >= 0), default=len(text))]


class _StopAt(StoppingCriteria):  # type: ignore[misc]
    """A row is done when its answer holds a stop string, however that falls into tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stops: Sequence[str], start: int) -> None:
        self.tokenizer, self.stops, self.start = tokenizer, stops, start

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Any:
        """bool (B,)"""
        texts = self.tokenizer.batch_decode(input_ids[:, self.start :], skip_special_tokens=True)
        found = [any(stop in text for stop in self.stops) for text in texts]
        return torch.tensor(found, device=input_ids.device)


@contextmanager
def _settings(model: Any, tokenizer: PreTrainedTokenizerBase, how: Generation, pad: int) -> Iterator[GenerationConfig]:
    """Within the block a checkpoint's own beams, penalties and lengths are out of the way; its special tokens stay."""
    own = model.generation_config
    sampling = {"do_sample": True, "temperature": how.temperature, "top_k": how.top_k, "top_p": how.top_p}
    eos = own.eos_token_id if own.eos_token_id is not None else tokenizer.eos_token_id
    asked = GenerationConfig(
        max_new_tokens=how.max_new_tokens,
        num_beams=1,
        **(sampling if how.temperature else {"do_sample": False}),
        bos_token_id=own.bos_token_id,
        eos_token_id=eos,
        pad_token_id=pad,
        decoder_start_token_id=own.decoder_start_token_id,
        forced_bos_token_id=own.forced_bos_token_id,
    )
    model.generation_config = asked
    try:
        yield asked
    finally:
        model.generation_config = own
