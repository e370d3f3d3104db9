"""What nobody reads of the last layer is not computed.

Only attention carries something from one state to another; everything behind it works on each state alone. Behind
the last layer's attention it is enough to go on with the states that the heads read: the first one for a class, the
masked ones (15 %) for masked words. Values and gradients of what is read stay the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.modeling_layers import GradientCheckpointingLayer

_BERT = ("attention.output", "output")
_BEHIND_ATTENTION = {
    "bert": _BERT,
    "camembert": _BERT,
    "electra": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "distilbert": ("sa_layer_norm", "output_layer_norm"),
    "modernbert": ("mlp_norm", "mlp"),
    "nomic_bert": ("post_attention_layernorm", "post_mlp_layernorm"),
}
"""By type of model: the first and the last module of a layer between which each state goes alone."""
_SPEECH = {"data2vec-audio", "hubert", "wav2vec2", "wavlm"}
"""Types of model on sound whose layers are all alike, where their norms come behind."""


@contextmanager
def last_layer_at(model: Any, read: Tensor | Literal["first"]) -> Iterator[None]:
    """Within the block the last layer goes on behind its attention with the states at `read` alone.

    The others come out as zeros (or, in a pre-norm model, unfinished). A model whose layers are not known here, is
    compiled, checkpoints its gradients, or has soft prompts, computes all.

    Args:
        model: a native class or `HeadedModel`.
        read: flat indices (M,) into the B x T states, none of them twice; or ``"first"``, the first of each row.
    """
    backbone = model.base_model
    ends = _ends(backbone)
    if ends is None:
        yield
        return
    first, last = ends
    shape: list[torch.Size] = []

    def gather(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Each (B, T, H) -> (B, 1, H) or (1, M, H)."""
        shape[:] = [inputs[0].shape]
        if isinstance(read, str):
            return tuple(states[:, :1] for states in inputs)
        return tuple(states.flatten(0, 1).index_select(0, read).unsqueeze(0) for states in inputs)

    def scatter(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        """Back to (B, T, H)."""
        rows, length, width = shape.pop()
        if isinstance(read, str):
            return F.pad(output, (0, 0, 0, length - 1))
        return output.new_zeros(rows * length, width).index_copy(0, read, output[0]).view(rows, length, width)

    hooks = (first.register_forward_pre_hook(gather), last.register_forward_hook(scatter))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def layers_of(backbone: nn.Module) -> list[nn.Module]:
    """The layers of an encoder, from the lowest."""
    return [module for module in backbone.modules() if isinstance(module, GradientCheckpointingLayer)]


def _ends(backbone: Any) -> tuple[nn.Module, nn.Module] | None:
    config = backbone.config
    names = _BEHIND_ATTENTION.get(config.model_type)
    if config.model_type in _SPEECH and not getattr(config, "do_stable_layer_norm", False):
        names = ("layer_norm", "final_layer_norm")
    if names is None or getattr(config, "is_decoder", False) or getattr(config, "chunk_size_feed_forward", 0):
        return None
    if backbone.is_gradient_checkpointing or backbone._compiled_call_impl is not None:
        return None
    if any(getattr(module, "lengthens", False) for module in backbone.modules()):  # soft prompts move the states
        return None
    layers = layers_of(backbone)
    return layers[-1].get_submodule(names[0]), layers[-1].get_submodule(names[1])
