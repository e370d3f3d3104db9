"""Transformers' nets on samples, deaf to padding where they are not so by themselves.

The norm over time in the first convolution (HuBERT, WavLM, wav2vec 2.0 at base size) takes mean and variance of each
channel over the whole width of a batch, padding too: with a fifth of a row padded, its states are off by a tenth. Here
they come from the row's own samples. data2vec's convolutions for positions stand one behind another, and what the first
ones make of padding the next ones hear: here it is zeroed between them. So each row gets the states that it has alone.
Weights, names and config stay; without padding the nets are transformers' own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.data2vec.modeling_data2vec_audio import Data2VecAudioPositionalConvEmbedding

from hfcourse.backbones.speech.features import mask_of
from hfcourse.backbones.speech.rate import state_counts


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
            # The norm of states less any number is the same; less one of their own, squares lose no digits to a mean.
            first = input[..., :1].float()
            states = (input.sub(first) if input.dtype == torch.float32 else input.float().sub_(first)).mul_(inside)
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


class RowPositions(Data2VecAudioPositionalConvEmbedding):  # type: ignore[misc]
    """Convolutions for positions, each of which finds zeros behind the first `counts` (B,) states of a row."""

    counts: Tensor | None = None

    def forward(self, hidden_states: Tensor) -> Tensor:
        """(B, S, H) -> (B, S, H)."""
        if self.counts is None:
            return super().forward(hidden_states)  # type: ignore[no-any-return]
        outside = ~mask_of(self.counts, hidden_states.shape[1])[:, None]
        states = hidden_states.transpose(1, 2)
        for layer in self.layers:
            states = layer(states).masked_fill(outside, 0.0)
        return states.transpose(1, 2)


def listen_by_row(model: nn.Module) -> None:
    """Have every net in a model that would hear padding go by the attention mask that it is given."""
    for net in model.modules():
        norm, positions = _norm_of(net), _positions_of(net)
        if type(norm) is nn.GroupNorm and norm.num_groups == norm.num_channels:
            norm.__class__ = RowNorm
        elif type(positions) is Data2VecAudioPositionalConvEmbedding:
            positions.__class__ = RowPositions
        else:
            continue
        net.register_forward_pre_hook(_tell_lengths, with_kwargs=True)


def _tell_lengths(net: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Say how much of each row of the next batch is no padding, as its mask (B, T) over samples has it."""
    mask = named.get("attention_mask", given[1] if len(given) > 1 else None)
    samples = None if mask is None else mask.sum(dim=1).long()
    norm, positions = _norm_of(net), _positions_of(net)
    # They stay until the next batch: gradient checkpointing runs through here a second time.
    if isinstance(norm, RowNorm):
        kernel, step = net.config.conv_kernel[0], net.config.conv_stride[0]
        norm.counts = None if samples is None else (samples - kernel) // step + 1
    if isinstance(positions, RowPositions):
        positions.counts = None if samples is None else state_counts(net.config, samples)


def _norm_of(net: nn.Module) -> Any:
    """What stands behind the first convolution on samples of a bare net."""
    layers = getattr(net._modules.get("feature_extractor"), "conv_layers", None)
    return getattr(layers[0], "layer_norm", None) if layers is not None and len(layers) else None


def _positions_of(net: nn.Module) -> Any:
    return getattr(net._modules.get("encoder"), "pos_conv_embed", None)
