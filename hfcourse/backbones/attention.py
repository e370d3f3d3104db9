"""Which function computes a model's attention while a block runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

UNMASKED = "sdpa_unmasked"
"""SDPA that is given no mask and hides the future itself: for models without windows, and rows without padding.

transformers builds no mask for a name that it knows no mask of. For "sdpa" it looks first whether a row holds several
texts, for which a GPU must be waited for; compiled, it makes a mask (B, 1, T, T), which the fastest kernels refuse.
"""

AttentionInterface.register(UNMASKED, sdpa_attention_forward)


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
