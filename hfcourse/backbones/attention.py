"""Which function computes a model's attention while a block runs; plain products, where they are faster than SDPA."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

UNMASKED = "sdpa_unmasked"
"""SDPA that is given no mask and hides the future itself: for models without windows, and rows without padding.

transformers builds no mask for a name that it knows no mask of. For "sdpa" it looks first whether a row holds several
texts, for which a GPU must be waited for; compiled, it makes a mask (B, 1, T, T), which the fastest kernels refuse.
"""

AttentionInterface.register(UNMASKED, sdpa_attention_forward)
_LONGEST = 256
"""Keys up to which plain products are taken (docs/LOG.md): with more they gain little and keep much."""


def plain_is_faster(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Whether to train by `plain_attention`: on CPU SDPA's backward pass of bf16 takes up to seven times as long."""
    learns = torch.is_grad_enabled() and (query.requires_grad or key.requires_grad or value.requires_grad)
    if not learns or query.device.type != "cpu" or key.shape[-2] > _LONGEST:
        return False
    # Rotary positions leave fp32 behind, which autocast multiplies in bf16.
    return (torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype) == torch.bfloat16


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scaling: float | None = None,
    is_causal: bool = False,
    drop: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Softmax of products with keys, times values: (B, heads, T, d), as SDPA gives it.

    A state from which all keys are hidden gets their mean (of SDPA nothing): no nan may reach the others' gradients.

    Args:
        query: (B, heads, T, d).
        key: (B, heads or groups of them, S, d).
        value: (B, heads or groups of them, S, d).
        mask: (B or 1, heads or 1, T, S), true where attention may go, or what is added to the scores.
        bias: (B or 1, heads, T, S), added to the scores besides.
        scaling: of the scores; 1 / sqrt(d) if not given.
        is_causal: hide the future, where no mask says what is hidden.
        drop: of the weights.
    """
    if (groups := query.shape[1] // key.shape[1]) > 1:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    scores = (query * (scaling or query.shape[-1] ** -0.5)) @ key.transpose(-1, -2)
    length, keys = scores.shape[-2:]
    if mask is None and is_causal and length > 1:
        mask = torch.ones(length, keys, dtype=torch.bool, device=scores.device).tril()
    if mask is not None and mask.dtype == torch.bool:  # a sum costs nothing on the way back
        mask = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device).masked_fill_(~mask, hidden(scores.dtype))
    for added in (bias, mask):
        if added is not None:
            scores = scores + added.to(scores.dtype)
    weights = scores.softmax(dim=-1)
    return (weights if drop is None else drop(weights)).to(value.dtype) @ value


def hidden(dtype: torch.dtype) -> float:
    """What hides a key when it is added to a score: finite, so that a row of nothing else has no nan."""
    return torch.finfo(dtype).min


@contextmanager
def attention_by(name: str, model: nn.Module, instead_of: str) -> Iterator[None]:
    """Within the block the function `name` computes a model's attention, wherever `instead_of` does else."""
    changed = [
        module.config
        for module in model.modules()
        if isinstance(module, PreTrainedModel) and module.config._attn_implementation == instead_of
    ]
    for config in changed:
        config._attn_implementation = name
    try:
        yield
    finally:
        for config in changed:
            config._attn_implementation = instead_of
