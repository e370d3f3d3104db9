"""Convolutions whose first norm is over time (HuBERT, WavLM, wav2vec 2.0 at base size), deaf to padding.

That norm takes mean and variance of each channel over the whole width of a batch, padding too: with a fifth of a row
padded, its states are off by a tenth. Here they come from the row's own samples, so that it gets the states that it has
alone. Weights, names and config stay; without padding it is torch's own norm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class RowNorm(nn.GroupNorm):
    """A norm over time of each channel, over the first `counts` (B,) states of each row; all where that is None."""

    counts: Tensor | None = None

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, T) -> (B, C, T)."""
        if self.counts is None:
            return super().forward(input)
        return _normalised(input, self.counts, self.weight, self.bias, self.eps)  # type: ignore[no-any-return]


class _RowNorm(torch.autograd.Function):
    """By hand in both directions: what autograd makes of it goes over the widest states of a net twice as often.

    What comes out at padding must not be read: no gradient is expected there.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, counts: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
        number, inside = _inside(counts, input)
        with torch.autocast(input.device.type, enabled=False):
            states = input.float() * inside
            mean = states.sum(dim=2, keepdim=True) / number
            variance = torch.linalg.vecdot(states, states)[..., None] / number - mean.square()
            slope = (variance.clamp(min=0) + eps).rsqrt()
            scale = weight[:, None] * slope
            ctx.save_for_backward(states, counts, weight, mean, slope)
            ctx.dtype = input.dtype
            normed = torch.addcmul(bias[:, None] - mean * scale, states, scale)
            return normed.to(input.dtype) if input.device.type == "cpu" else normed  # as torch's own under autocast

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        states, counts, weight, mean, slope = ctx.saved_tensors
        number, inside = _inside(counts, states)
        gradient = gradient.float()
        total = gradient.sum(dim=2, keepdim=True)
        along = slope * (torch.linalg.vecdot(gradient, states)[..., None] - mean * total)
        scale = weight[:, None] * slope
        pull = scale * slope * along / number
        back = torch.addcmul(pull * mean - scale * total / number, states, -pull).addcmul_(gradient, scale)
        return back.mul_(inside).to(ctx.dtype), None, along.sum(dim=(0, 2)), total.sum(dim=(0, 2)), None


def _inside(counts: Tensor, states: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers of states (B, 1, 1), and which of them are no padding, (B, 1, T), as numbers."""
    number = counts[:, None, None].float()
    return number, (torch.arange(states.shape[2], device=states.device) < number).float()


_normalised: Any = _RowNorm.apply


def listen_by_row(model: nn.Module) -> None:
    """Have the norm over time in a net's first convolution be one of rows, where it has such a norm."""
    norm = _norm_of(model)
    if type(norm) is nn.GroupNorm and norm.num_groups == norm.num_channels:
        norm.__class__ = RowNorm


def tell_lengths(model: nn.Module, sample_counts: Tensor | None) -> None:
    """Say how many samples (B,) of each row of the next batch are no padding; None where all are."""
    norm = _norm_of(model)
    if isinstance(norm, RowNorm):
        config: Any = model.config
        kernel, step = config.conv_kernel[0], config.conv_stride[0]
        # It stays until the next batch: gradient checkpointing runs through here a second time.
        norm.counts = None if sample_counts is None else (sample_counts - kernel) // step + 1


def _norm_of(model: Any) -> Any:
    layers = getattr(getattr(model, "feature_extractor", None), "conv_layers", None)
    return getattr(layers[0], "layer_norm", None) if layers is not None and len(layers) else None
