"""Dropout that does not wait for random numbers.

On CPU torch draws dropout's mask one 53-bit number at a time; in a small model that is a fifth of the step. Here four
16-bit numbers come from each draw, so the rate is exact to 1/65536 and the draw costs a thirtieth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from hfcourse.backbones.attention import plain_attention, plain_is_faster

_ATTENTION = "sdpa_fast_dropout"


def fast_dropout(states: Tensor, p: float) -> Tensor:
    """Dropout of a CPU tensor in training mode; same expectation as `torch.nn.functional.dropout`."""
    count = states.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(2**63), None).view(torch.int16)
    kept = torch.empty(states.shape, dtype=states.dtype)
    torch.ge(draws[:count].view(states.shape), round(p * 65536) - 32768, out=kept)  # no mask of bools in between
    return states * kept.mul_(1 / (1 - p))


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
