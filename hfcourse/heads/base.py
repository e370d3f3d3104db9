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


class Standardize(nn.Module):
    """Each number less its mean over rows, divided by its deviation: BatchNorm without weights of its own.

    States of one net often point the same way, and what tells rows apart is small beside it: a linear layer above them
    hardly learns at any rate. While it trains it takes the batch's mean and variance, later their running averages,
    which at first are plain means over the batches. A batch of a single row takes the averages too.
    """

    mean: Tensor
    variance: Tensor
    batches: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """(..., H) -> (..., H) in the same precision; what `mask` (...) leaves out is not counted."""
        flat = states.flatten(0, -2)
        real = None if mask is None else mask.flatten().nonzero().squeeze(1)
        rows = flat if real is None else flat.index_select(0, real)
        if not self.training or len(rows) < 2:
            return ((states - self.mean) * (self.variance + 1e-5).rsqrt()).to(states.dtype)
        mean, variance = torch.zeros_like(self.mean), torch.zeros_like(self.variance)
        rows = F.batch_norm(rows.float(), mean, variance, training=True, momentum=1.0).to(states.dtype)  # writes both
        self._follow(mean, variance)
        rows = rows if real is None else torch.zeros_like(flat).index_copy(0, real, rows)
        return rows.view(states.shape)

    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        self.batches += 1
        share = self.batches.reciprocal().clamp(min=0.1)
        self.mean.lerp_(mean, share)
        self.variance.lerp_(variance, share)


class LayerMix(nn.Module):
    """Softmax-weighted sum of all layers, weights starting equal (ELMo; SUPERB's protocol, arXiv 2105.01051).

    Every state is normalised before, so that no layer counts more for being larger, and one learning rate serves all
    backbones.
    """

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.scalars = nn.Parameter(torch.zeros(layers))

    def forward(self, layers: tuple[Tensor, ...], *, normalised: bool = False) -> Tensor:
        """(B, T, H) from `layers` times that; where these are `normalised` already, they are taken as they are."""
        weights = self.scalars.softmax(dim=0)
        first, *others = layers if normalised else (F.layer_norm(layer, layer.shape[-1:]) for layer in layers)
        mixed = weights[0] * first
        for weight, layer in zip(weights[1:], others, strict=True):
            mixed = torch.addcmul(mixed, weight.to(layer.dtype), layer)
        return mixed
