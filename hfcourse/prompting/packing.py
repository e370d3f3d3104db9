"""Many questions in one row: a tree whose root is what they share, whose branches are queries and, on them, options.

Q is the tokens of a row, P those of the prefix whose keys and values are known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from hfcourse.prompting.projection import Reading
from hfcourse.prompting.tokens import Group, Question

_SHARED_AT_LEAST = 128
"""Tokens that a prefix must save to be worth a forward pass of its own."""
_WINDOWS = ("sliding_window", "attention_chunk_size", "local_attention")
"""Names in configs for how far back a layer looks."""


@dataclass
class Row:
    """Questions side by side; each sees the prefix and itself, an option sees its own query alone."""

    questions: list[Question]
    ids: Tensor
    """(1, Q)"""
    positions: Tensor
    """(1, Q): where a token would stand if its question and option were all there is."""
    mask: Tensor
    """(1, 1, Q, P + Q), added to the attention's logits."""
    places: Tensor
    """(M,) tokens whose logits are read: the last of a query, and all of an option but the last."""
    reading: Reading


def common_prefix(group: Group) -> int:
    """Tokens behind the head that all questions of a group begin with; at least one of each is left.

    0 where they are too few to be worth it.
    """
    contexts = [question.context for question in group.questions]
    first, last = min(contexts), max(contexts)
    shortest = min(map(len, contexts)) - 1
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), shortest)
    length = min(same, shortest)
    saved = (len(group.head) + length) * (len(contexts) - 1)
    return length if saved >= _SHARED_AT_LEAST else 0


def rows(
    questions: Sequence[Question], cut: int, prefix: int, tokens: int, dtype: torch.dtype, device: torch.device
) -> Iterator[Row]:
    """Questions in rows of about `tokens` tokens; a longer one stands alone.

    Args:
        questions: of one group.
        cut: tokens of each context that the prefix holds beside the head.
        prefix: P.
        tokens: Q at most.
        dtype: of the mask.
        device: where the model is.
    """
    waiting: list[Question] = []
    held = 0
    for question in questions:
        size = len(question.context) - cut + sum(len(option) - 1 for option in question.options)
        if waiting and held + size > tokens:
            yield _row(waiting, cut, prefix, dtype, device)
            waiting, held = [], 0
        waiting.append(question)
        held += size
    if waiting:
        yield _row(waiting, cut, prefix, dtype, device)


def _row(questions: list[Question], cut: int, prefix: int, dtype: torch.dtype, device: torch.device) -> Row:
    ids: list[int] = []
    positions: list[int] = []
    owners: list[int] = []
    branches: list[int] = []
    places: list[int] = []
    reading = Reading.empty()

    def append(tokens: list[int], owner: int, branch: int, start: int) -> None:
        ids.extend(tokens)
        positions.extend(range(start, start + len(tokens)))
        owners.extend([owner] * len(tokens))
        branches.extend([branch] * len(tokens))

    for owner, question in enumerate(questions):
        tail = question.context[cut:]
        append(tail, owner, 0, prefix)
        first = len(places)
        places.append(len(ids) - 1)
        for branch, option in enumerate(question.options, start=1):
            told = range(len(places), len(places) + len(option) - 1)
            places.extend(range(len(ids), len(ids) + len(option) - 1))
            append(option[:-1], owner, branch, prefix + len(tail))
            reading.add([first, *told], option)
    mask = _mask(torch.tensor(owners, device=device), torch.tensor(branches, device=device), prefix, dtype)
    tensors = (torch.tensor(part, device=device) for part in (ids, positions, places))
    row, where, read = tensors
    return Row(questions, row.unsqueeze(0), where.unsqueeze(0), mask, read, reading)


def _mask(owners: Tensor, branches: Tensor, prefix: int, dtype: torch.dtype) -> Tensor:
    """(Q,) and (Q,) -> (1, 1, Q, P + Q); branch 0 is a query, which its options see."""
    sees = (owners[:, None] == owners) & ((branches == 0) | (branches[:, None] == branches))
    hidden = torch.nn.functional.pad(~sees.tril(), (prefix, 0))
    return torch.zeros(hidden.shape, dtype=dtype, device=owners.device).masked_fill_(hidden, torch.finfo(dtype).min)[
        None, None
    ]


def row_tokens(config: Any, prefix: int, device: torch.device, most: int) -> int:
    """How long a row pays.

    Scores between questions of one row are computed in vain: 4 Q H operations a token and layer, beside 24 H^2 for its
    products and 4 P H for the prefix (H: width). A row is so long that this stays near an eighth, but no shorter than
    it takes to keep the machine busy.
    """
    least = 256 if device.type == "cpu" else 2048
    width = getattr(config.get_text_config(decoder=True), "hidden_size", 0)
    return min(max((6 * width + prefix) // 8, least), most)


def exact_up_to(config: Any) -> int:
    """Tokens of a context up to which every layer sees all of it and positions mean the same; 0: no bound."""
    text = config.get_text_config(decoder=True)
    bounds = [value for name in _WINDOWS if isinstance(value := getattr(text, name, None), int) and value > 0]
    rope = getattr(text, "rope_parameters", None) or {}
    if rope.get("rope_type") in {"dynamic", "longrope"}:
        bounds.append(int(rope.get("original_max_position_embeddings") or text.max_position_embeddings))
    return min(bounds, default=0)
