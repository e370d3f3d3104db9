"""Dropout that does not wait for random numbers.

On CPU torch draws dropout's mask one 53-bit number at a time; in a small model that is a fifth of the step. Here eight
small ones come from each draw, of a generator that takes half of torch's time, and become a mask by arithmetic alone:
comparisons and casts of bools take several times as long.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from hfcourse.backbones.attention import plain_attention, plain_is_faster

_ATTENTION = "sdpa_fast_dropout"
_PARTS = 128
"""A call drops a whole number of 128ths, one of the two next to p, so that each is dropped with probability p (up to
127 / 128)."""
_WORD = 2.0**64


def fast_dropout(states: Tensor, p: float) -> Tensor:
    """Dropout of a CPU tensor in training mode, as `torch.nn.functional.dropout`; torch's generator seeds it.

    In bf16 the scale of what is kept is rounded, as all numbers are (0.3 % at p = 0.1).
    """
    count = states.numel()
    seed = int(torch.empty((), dtype=torch.int64).random_())
    words = np.random.SFC64(seed).random_raw(1 + -(-count // 8))  # eight numbers each; the first decides `lost`
    lost = min(int(p * _PARTS + int(words[0]) / _WORD), _PARTS - 1)
    numbers = torch.from_numpy(words).view(torch.int8)[8:].bitwise_and_(_PARTS - 1)
    kept = numbers.sub_(lost).bitwise_right_shift_(7).add_(1)  # 1 where no less than `lost`, else 0
    return states * kept[:count].view(states.shape).to(states.dtype).mul_(_PARTS / (_PARTS - lost))


class FastDropout(nn.Dropout):
    """`nn.Dropout` over `fast_dropout` on CPU."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        if not self.training or not 0 < self.p < 1 or input.device.type != "cpu":
            return super().forward(input)
        return fast_dropout(input, self.p)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """SDPA; plain products where they are faster, and with dropout, for which torch has no fused CPU kernel.

    Shapes: query (B, heads, T, d), key and value (B, heads or groups, S, d), position_bias (1 or B, heads, T, S), which
    T5 adds to the scores; returns (B, T, heads, d).
    """
    plain = (dropout > 0 and query.device.type == "cpu") or plain_is_faster(query, key, value)
    if not plain:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module,
            query,
            key,
            value,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            position_bias=position_bias,
            **kwargs,
        )
    causal = kwargs.get("is_causal")
    mixed = plain_attention(
        query,
        key,
        value,
        None if attention_mask is None else attention_mask[..., : key.shape[-2]],
        bias=position_bias,
        scaling=scaling,
        is_causal=getattr(module, "is_causal", True) if causal is None else causal,  # as sdpa_attention_forward
        drop=partial(fast_dropout, p=dropout) if dropout else None,
    )
    return mixed.transpose(1, 2).contiguous(), None


@contextmanager
def fast_dropout_in(model: nn.Module) -> Iterator[None]:
    """Within the block a model's `nn.Dropout`s and SDPA attention are those above; weights are not touched."""
    changed = [module for module in model.modules() if type(module) is nn.Dropout and module.p > 0]
    attending: list[Any] = [
        module
        for module in model.modules()
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation == "sdpa"
    ]
    AttentionInterface.register(_ATTENTION, _attention)
    AttentionMaskInterface.register(_ATTENTION, sdpa_mask)
    try:
        for dropout in changed:
            dropout.__class__ = FastDropout
        for module in attending:
            module.config._attn_implementation = _ATTENTION
        yield
    finally:
        for dropout in changed:
            dropout.__class__ = nn.Dropout
        for module in attending:
            module.config._attn_implementation = "sdpa"
