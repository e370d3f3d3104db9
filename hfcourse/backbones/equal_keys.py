"""Fresh attention that looks for what is alike: keys start as a copy of the queries."""

from __future__ import annotations

import torch
from torch import nn

from hfcourse.errors import ModelError

_PROJECTIONS = (("query", "key"), ("q_proj", "k_proj"), ("q_lin", "k_lin"), ("query_proj", "key_proj"))
_JOINT = ("Wqkv", "qkv_proj")  # queries, keys and values, one below the other


@torch.no_grad()
def set_equal_keys(model: nn.Module, scale: float) -> None:
    """Copy every layer's query projection to its keys, both times `scale`.

    With independent keys a query meets an equal token no sooner than any other; with equal ones a token attends to
    its own repetitions from the first step, which copying and comparing build on. After the observation of "Mimetic
    Initialization of Self-Attention Layers" (arXiv 2305.09828) that trained products of the two are close to a
    multiple of the identity.

    Raises:
        ModelError: the model's attention has no projections of a name known here, or fewer keys than queries.
    """
    found = 0
    for module in model.modules():
        parts = dict(module.named_children())
        for query, key in _PROJECTIONS:
            if isinstance(queries := parts.get(query), nn.Linear) and isinstance(keys := parts.get(key), nn.Linear):
                if queries.weight.shape != keys.weight.shape:
                    raise ModelError("backbone.equal_keys needs as many key heads as query heads: set it to 0")
                keys.weight.copy_(queries.weight.mul_(scale))
                found += 1
        for name in _JOINT:
            if isinstance(joint := parts.get(name), nn.Linear) and joint.out_features == 3 * joint.in_features:
                queries_, keys_, _ = joint.weight.chunk(3)
                keys_.copy_(queries_.mul_(scale))
                found += 1
    if not found:
        raise ModelError(f"backbone.equal_keys is not known for {type(model).__name__}: set it to 0")
