"""Keys and values of what prompts share, and whether a model can go on from them."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from hfcourse.peft.wrap import unwrapped
from hfcourse.prompting import packing
from hfcourse.prompting.projection import logits_at
from hfcourse.prompting.tokens import Group, Question

_NEEDED = {"attention_mask", "past_key_values", "position_ids"}
_BY_PLACE = {"gpt_neo"}
"""Types of model that mask by a token's place in the row, whatever positions they are given."""
_CLOSE = {torch.float32: 1e-3, torch.float64: 1e-3}
_CLOSE_HALF = 0.1
"""How far logits of 16 bits may be apart, in units of their spread."""


def computed(model: Any, ids: list[int]) -> DynamicCache:
    """Keys and values of a text in one row; of its logits one is made, and left."""
    inner: Any = unwrapped(model)
    device: torch.device = inner.device
    cache = DynamicCache()  # no layer forgets: that windows are long enough is checked before
    row = torch.tensor([ids], device=device)
    place = torch.zeros(1, dtype=torch.long, device=device)
    logits_at(inner, place, place, len(ids), lambda: model(input_ids=row, past_key_values=cache, use_cache=True))
    return cache


def expanded(cache: DynamicCache, count: int) -> DynamicCache:
    """A copy for `count` rows, to which generation may append."""
    copy = DynamicCache()
    for number, layer in enumerate(cache.layers):
        known: Any = layer
        copy.update(known.keys.expand(count, -1, -1, -1), known.values.expand(count, -1, -1, -1), number)
    return copy


def logits_of(model: Any, row: packing.Row, cache: DynamicCache | None) -> Tensor:
    """(M, V) at the row's places; the cache is left as it was."""
    length = row.ids.shape[1]
    inputs: dict[str, Any] = {"input_ids": row.ids, "position_ids": row.positions, "attention_mask": row.mask}
    inputs |= {"use_cache": False} if cache is None else {"past_key_values": cache, "use_cache": True}
    rows = torch.zeros_like(row.places)
    logits = logits_at(unwrapped(model), rows, row.places, length, lambda: model(**inputs))
    if cache is not None:
        cache.crop(-length)
    return logits


def obstacle(model: Any) -> str:
    """Why questions cannot be packed behind a known prefix of this model; empty where they can.

    What a class says of itself is not enough (positions may come from the mask, from distances, from nowhere), so a
    few tokens are tried both ways.
    """
    inner: Any = unwrapped(model)
    if not inspect.signature(inner.forward).parameters.keys() >= _NEEDED or inner.config.model_type in _BY_PLACE:
        return "it has no keys and values that can be gone on from"
    if inner.config._attn_implementation not in {"sdpa", "eager"}:
        return f"{inner.config._attn_implementation} takes no mask of its own for each question"
    ids = [i % inner.get_input_embeddings().num_embeddings for i in range(3, 12)]
    question = Question(0, ids[:6], [ids[6:], ids[4:8]])
    try:
        cache = computed(model, ids[:4])
        pair = [question, question]
        (row,) = packing.rows(pair, 4, 4, 99, inner.dtype, inner.device)
        packed = logits_of(model, row, cache)[6:].float()
        texts = [question.context, *(question.context + option[:end] for option, end in _ends(question))]
        plain = torch.stack([_last(model, text) for text in texts])
    except Exception as error:  # whatever a class without such a cache trips over
        return f"it cannot go on from them ({type(error).__name__})"
    apart = (packed - plain).abs().max() / plain.std().clamp(min=1e-6)
    if not apart <= _CLOSE.get(inner.dtype, _CLOSE_HALF):
        return "going on from them changes its answers"
    return ""


def _ends(question: Question) -> list[tuple[list[int], int]]:
    return [(option, end) for option in question.options for end in range(1, len(option))]


def _last(model: Any, ids: list[int]) -> Tensor:
    """(V,) logits behind a text, read from its start."""
    device: Any = unwrapped(model).device
    row = torch.tensor([ids], device=device)
    return model(input_ids=row, use_cache=False).logits[0, -1].float()  # type: ignore[no-any-return]


class Prefix:
    """What the questions of a group have in common, computed once."""

    def __init__(self, model: Any, group: Group) -> None:
        self.cut = packing.common_prefix(group)
        ids = group.head + group.questions[0].context[: self.cut]
        self.length = len(ids)
        self.cache = computed(model, ids) if ids else None
