"""Frozen matrices in the precision that they are used in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


@contextmanager
def frozen_in_bf16(model: nn.Module, *, whole: bool = False) -> Iterator[None]:
    """Within the block the frozen matrices of projections are bf16, as autocast would cast them in every pass.

    What is computed under autocast stays the same, bit for bit. Tied matrices are left alone, as an embedding reads its
    table as it is; so are those that DoRA takes the norm of.

    Args:
        model: is as it was after the block.
        whole: nothing is trained in the block, so that every matrix is as good as frozen; for models of which no part
            leaves autocast, and without DoRA.
    """
    layers: list[Any] = [module for module in model.modules() if hasattr(module, "lora_magnitude_vector")]
    read = {id(layer.get_base_layer()) for layer in layers if len(layer.lora_magnitude_vector)}
    owners = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    weights = [
        module.weight
        for module in model.modules()
        if type(module) is nn.Linear and (whole or not module.weight.requires_grad) and owners[id(module.weight)] == 1
        if id(module) not in read
    ]
    before = [weight.data for weight in weights]
    try:
        for weight in weights:
            weight.data = weight.data.to(torch.bfloat16)
        yield
    finally:
        for weight, data in zip(weights, before, strict=True):
            weight.data = data
