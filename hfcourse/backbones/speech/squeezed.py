"""SEW (arXiv 2109.06870): its layers have a state for every two of its last, and here each stands for both.

Shapes: rows B, states of a layer T, last states S, hidden H.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def repeat_layers(model: Any) -> None:
    """Have a net give all its layers (B, S, H), at the rate of its last states, as whoever reads several takes them."""
    model.base_model.register_forward_hook(_repeated)


def _repeated(net: Any, given: Any, output: Any) -> None:
    if getattr(output, "hidden_states", None) is not None:
        width, times = output.last_hidden_state.shape[1], net.config.squeeze_factor
        output.hidden_states = tuple(_at_width(layer, width, times) for layer in output.hidden_states)


def _at_width(layer: Tensor, width: int, times: int) -> Tensor:
    """(B, S, H) from (B, T, H); the last of a layer stands for what is left over, too."""
    if layer.shape[1] == width:
        return layer
    at = torch.arange(width, device=layer.device) // times
    return layer[:, at.clamp(max=layer.shape[1] - 1)]
