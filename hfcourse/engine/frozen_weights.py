"""Frozen matrices in the precision that they are used in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def frozen_in_bf16(model: nn.Module) -> Iterator[None]:
    """Within the block the frozen matrices of projections are bf16, as autocast would cast them in every pass.

    What is computed under autocast stays the same, bit for bit. Tied matrices are left alone: an embedding reads its
    table as it is.
    """
    owners = Counter(id(p) for module in model.modules() for p in module.parameters(recurse=False))
    weights = [
        module.weight
        for module in model.modules()
        if type(module) is nn.Linear and not module.weight.requires_grad and owners[id(module.weight)] == 1
    ]
    whole = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.to(torch.bfloat16)
    try:
        yield
    finally:
        for weight, data in zip(weights, whole, strict=True):
            weight.data = data
