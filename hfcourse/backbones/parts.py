"""Which modules of a transformers model are its backbone, and which its head."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

_SAMPLED = 1024
"""So many numbers of each tensor are looked at."""


def head_children(model: PreTrainedModel) -> list[str]:
    """Names of a model's own modules that are no part of its backbone; none of a bare backbone.

    Some classes have no backbone of one name but its stacks beside their head (T5ForQuestionAnswering).
    """
    children: dict[str, nn.Module] = dict(model.named_children())
    if model.base_model is not model:
        return [name for name, child in children.items() if child is not model.base_model]
    stacks = [child for child in children.values() if isinstance(child, PreTrainedModel)]
    inside = {id(parameter) for stack in stacks for parameter in stack.parameters()}
    if not stacks:
        return []
    return [
        name
        for name, child in children.items()
        if child not in stacks and not any(id(parameter) in inside for parameter in child.parameters())
    ]


def with_decoder_inputs(backbone: Any, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inputs with those of the decoder, for a bare T5: it wants them given, where other seq2seq models make them."""
    shift = getattr(backbone, "_shift_right", None)
    if shift is None or "input_ids" not in inputs or "decoder_input_ids" in inputs:
        return inputs
    return {**inputs, "decoder_input_ids": shift(inputs["input_ids"])}


def fingerprint(model: Any) -> str:
    """What tells a backbone's weights from others at the cost of a glance; empty where they are quantised.

    Names and shapes of all parameters but the pooler's, and up to 1,024 numbers of each, evenly spread.
    """
    digest = hashlib.sha256()
    heads = tuple(f"{name}." for name in head_children(model)) if model.base_model is model else ()
    for name, parameter in sorted(model.base_model.named_parameters()):
        if "pooler" in name or name.startswith(heads):  # a pooler is new wherever pretraining had no pair task
            continue
        if not parameter.is_floating_point():
            return ""
        flat = parameter.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLED)].to("cpu", torch.float32)
        digest.update(f"{name} {tuple(parameter.shape)}".encode())
        digest.update(sample.numpy().tobytes())
    return digest.hexdigest()[:32]
