"""What a head gets and what it gives, whatever the backbone."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.heads.spec import HeadSpec

Batch = dict[str, Tensor]


@dataclass
class States:
    """The output of any backbone. Shapes: batch B, time T, hidden H, vocabulary V."""

    states: Tensor
    """Last hidden states, (B, T, H)."""
    layers: tuple[Tensor, ...] | None = None
    """Embeddings and the output of every layer, each (B, T, H), where a head asked for them."""
    mask: Tensor | None = None
    """(B, T) true where there is input, at the rate of the states; None when nothing is padded."""
    embedding: Tensor | None = None
    """Input embedding matrix, (V, E), for heads that project back onto the vocabulary."""


@dataclass
class HeadOutput:
    """What a head answers."""

    loss: Tensor | None
    """Mean loss over the head's own units; None without labels."""
    logits: Tensor
    """Shape by the kind of head."""
    logs: dict[str, Tensor] = field(default_factory=dict)
    """Detached scalars worth a curve."""


class Head(nn.Module):
    """Base of the shared heads. ``forward(output, batch) -> HeadOutput``."""

    def __init__(self, spec: HeadSpec) -> None:
        super().__init__()
        self.spec = spec

    def forward(self, output: States, batch: Batch) -> HeadOutput:
        """Answer, and compute the loss where the batch has labels."""
        raise NotImplementedError


class LayerMix(nn.Module):
    """Softmax-weighted sum of all layers, weights starting equal (ELMo; SUPERB's protocol, arXiv 2105.01051).

    Every state is normalised before, so that no layer counts more for being larger, and one learning rate serves all
    backbones.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.scalars = nn.Parameter(torch.zeros(layers))

    def forward(self, layers: tuple[Tensor, ...]) -> Tensor:
        """(B, T, H) from `layers` times that."""
        weights = self.scalars.softmax(dim=0)
        first, *others = (F.layer_norm(layer, layer.shape[-1:]) for layer in layers)
        mixed = weights[0] * first
        for weight, layer in zip(weights[1:], others, strict=True):
            mixed = torch.addcmul(mixed, weight.to(layer.dtype), layer)
        return mixed
