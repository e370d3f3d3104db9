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
    """Each number less its mean over rows, divided by its deviation.

    States of one net often point the same way, and what tells rows apart is small beside it: a linear layer above them
    hardly learns at any rate. Unlike BatchNorm it takes running moments while it trains, too (of about the last hundred
    batches; at first of all so far): a batch may hold rows of one length, or a single one, and what goes along with
    length is not to vanish.
    """

    mean: Tensor
    square: Tensor
    rows: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("square", torch.ones(width))
        self.register_buffer("rows", torch.zeros(()))

    def forward(self, states: Tensor, mask: Tensor | None = None) -> Tensor:
        """(..., H) -> (..., H) in the same precision; what `mask` (...) leaves out does not count."""
        flat = states.flatten(0, -2).float()
        if self.training:
            self._follow(flat if mask is None else flat[mask.flatten()])
        mean, square = self.mean.float(), self.square.float()
        variance = (square - mean.square()).clamp(min=0)
        return F.batch_norm(flat, mean, variance, eps=1e-5).view(states.shape).to(states.dtype)

    @torch.no_grad()
    def _follow(self, rows: Tensor) -> None:
        """Take in the moments of rows (N, H); a batch with nan or inf changes nothing."""
        mean, square = rows.mean(dim=0), rows.square().mean(dim=0)
        self.rows += len(rows)
        share = (len(rows) / self.rows).clamp(min=0.01) * square.isfinite().all()
        self.mean.lerp_(mean.nan_to_num(0, 0, 0).to(self.mean.dtype), share.to(self.mean.dtype))
        self.square.lerp_(square.nan_to_num(0, 0, 0).to(self.square.dtype), share.to(self.square.dtype))


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
