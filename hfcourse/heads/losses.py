"""Losses that compute only what is needed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

IGNORED = -100
"""Label of a position that carries no loss, as in torch's cross entropy."""


class _LinearCrossEntropy(torch.autograd.Function):
    """Mean cross entropy of ``hidden_states @ weight.T + bias``; gradients are made chunk by chunk in the forward pass.

    The logits of one chunk are all that ever exists of the (states, vocabulary) matrix: they become
    probabilities and then the gradient in place, and are multiplied away before the next chunk starts.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden_states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, chunk: int
    ) -> Tensor:
        """Shapes: hidden_states (states, hidden), weight (vocabulary, hidden), labels (states,)."""
        needs, rows = ctx.needs_input_grad, max(len(labels), 1)
        # fp16 has no room below: there the mean waits for the scale of the loss, which comes with the backward pass.
        share = 1.0 if hidden_states.dtype == torch.float16 else 1 / rows
        counted = (labels != IGNORED).sum().clamp(min=1)
        total = torch.zeros((), dtype=torch.float32, device=labels.device)
        hidden_grad = torch.empty_like(hidden_states) if needs[0] else None
        weight_grad = torch.empty_like(weight) if needs[1] else None
        bias_grad = torch.zeros(weight.shape[0], dtype=torch.float32, device=weight.device) if needs[2] else None
        if weight_grad is not None and not len(labels):
            weight_grad.zero_()
        for start in range(0, len(labels), chunk):
            states, targets = hidden_states[start : start + chunk], labels[start : start + chunk]
            logits = states @ weight.T if bias is None else torch.addmm(bias, states, weight.T)
            # One fused pass; torch's logsumexp makes three and is five times as slow on CPU.
            log_probabilities = logits.log_softmax(dim=-1, dtype=torch.float32)
            kept = (targets != IGNORED).unsqueeze(1)
            targets = targets.clamp(min=0).unsqueeze(1)
            total -= (log_probabilities.gather(1, targets) * kept).sum()
            if not any(needs[:3]):
                continue
            gradient = log_probabilities.exp_()
            gradient.scatter_add_(1, targets, gradient.new_full(targets.shape, -1.0))
            # What is ignored is left out on the narrow side, and means are taken by the products (over all rows, whose
            # number is known without waiting for the device): no pass over all logits.
            if bias_grad is not None:
                bias_grad.addmv_(gradient.T, kept[:, 0].float(), alpha=share)
            gradient = gradient.to(states.dtype)
            if hidden_grad is not None:
                hidden_grad[start : start + chunk].addmm_(gradient, weight, beta=0, alpha=share).mul_(kept)
            if weight_grad is not None:
                weight_grad.addmm_(gradient.T, states * kept, beta=min(start, 1), alpha=share)
        ctx.save_for_backward(hidden_grad, weight_grad, bias_grad, counted)
        ctx.share = share
        return total / counted

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Scale what the forward pass left; the gradient of the loss is a scalar."""
        *means, counted = ctx.saved_tensors
        scale = gradients[0] / (ctx.share * counted)
        if scale.device.type == "cpu" and scale == 1:
            return (*means, None, None)
        return (*(None if part is None else part * scale for part in means), None, None)


def linear_cross_entropy(
    hidden_states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, *, chunk: int = 0
) -> Tensor:
    """Mean cross entropy of a vocabulary projection, without ever holding all of its logits.

    Equal to ``cross_entropy(linear(hidden_states, weight, bias).float(), labels)``; 0 where every label is ignored.

    Args:
        hidden_states: (states, hidden), usually gathered from masked positions alone.
        weight: (vocabulary, hidden), the output embedding.
        bias: (vocabulary,) or None.
        labels: (states,) int64; `IGNORED` carries no loss.
        chunk: states a piece; 0 picks a size whose logits stay near 100 MB on CPU, 512 MB on an accelerator.
    """
    hidden_states, weight, bias = _in_autocast(hidden_states, weight, bias)
    with torch.autocast(hidden_states.device.type, enabled=False):
        chunk = chunk or _chunk(weight)
        return _LinearCrossEntropy.apply(hidden_states, weight, bias, labels, chunk)  # type: ignore[no-any-return]


@torch.no_grad()
def linear_nll(hidden_states: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor, *, chunk: int = 0) -> Tensor:
    """Negative log-likelihood of each label, fp32 (states,), 0 where it is ignored; arguments as above, no gradient."""
    hidden_states, weight, bias = _in_autocast(hidden_states, weight, bias)
    chunk = chunk or _chunk(weight)
    with torch.autocast(hidden_states.device.type, enabled=False):
        parts = zip(hidden_states.split(chunk), labels.split(chunk), strict=True)
        found = [
            cross_entropy(linear(states, weight, bias).float(), targets, reduction="none", ignore_index=IGNORED)
            for states, targets in parts
        ]
    return torch.cat(found)


def _in_autocast(states: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """All in the type that autocast multiplies in, where it is on."""
    device = states.device.type
    if not torch.is_autocast_enabled(device):
        return states, weight, bias
    dtype = torch.get_autocast_dtype(device)
    return states.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)


def _chunk(weight: Tensor) -> int:
    """States a piece, so that logits stay near 100 MB on CPU, 512 MB on an accelerator."""
    floats = (25 if weight.device.type == "cpu" else 128) * 2**20
    return max(128, floats // weight.shape[0])
