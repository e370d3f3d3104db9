"""A projection and its LoRA update in as few passes over the states as there are products.

peft computes the projection, the update, the scaled update and the sum as tensors of their own, and autograd adds up
two gradients of the states. Here each sum is part of the product behind it, and the states are kept once.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn


class _Product(torch.autograd.Function):
    """states (N, in) -> states W' + bias + scale (states A') B', (N, out); W and bias are frozen."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        """weight (out, in), bias (out), down A (rank, in), up B (out, rank), all of one precision."""
        inner = states @ down.t()
        whole = states @ weight.t() if bias is None else torch.addmm(bias, states, weight.t())
        ctx.save_for_backward(states, inner, weight, down, up)
        ctx.scale = scale
        return whole.addmm_(inner, up.t(), alpha=scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        """Of states, down and up; those of the states only where somebody reads them."""
        states, inner, weight, down, up = ctx.saved_tensors
        to_inner = (gradient @ up).mul_(ctx.scale)
        to_states = None
        if ctx.needs_input_grad[0]:
            to_states = (gradient @ weight).addmm_(to_inner, down)
        to_up = (gradient.t() @ inner).mul_(ctx.scale)
        return to_states, None, None, to_inner.t() @ states, to_up, None


class LeanLoraLinear(LoraLinear):  # type: ignore[misc]
    """peft's `Linear` with one active adapter of the plain kind; anything else is left to peft."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """(..., in) -> (..., out)."""
        name = self._only_plain(args, kwargs)
        if not name:
            return super().forward(x, *args, **kwargs)  # type: ignore[no-any-return]
        base: Any = self.get_base_layer()
        down, up = self.lora_A[name], self.lora_B[name]
        operands: list[Any] = [x.reshape(-1, x.shape[-1]), base.weight, base.bias, down.weight, up.weight]
        if torch.is_autocast_enabled(x.device.type):
            precision = torch.get_autocast_dtype(x.device.type)
            operands = [operand if operand is None else operand.to(precision) for operand in operands]
        if len({operand.dtype for operand in operands if operand is not None}) > 1:
            return super().forward(x)  # type: ignore[no-any-return]
        with torch.autocast(x.device.type, enabled=False):
            return _Product.apply(*operands, self.scaling[name]).view(*x.shape[:-1], -1)  # type: ignore[no-untyped-call, no-any-return]

    def _only_plain(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """Name of the active adapter where `forward` can compute it, else ""."""
        if args or kwargs or self.disable_adapters or self.merged or len(self.active_adapters) != 1:
            return ""
        (name,) = self.active_adapters
        plain = name in self.lora_A and name not in self.lora_variant and not self.lora_bias[name]
        dropped = plain and self.training and getattr(self.lora_dropout[name], "p", 0) > 0
        return name if plain and not dropped else ""


@contextmanager
def lean_lora_in(model: nn.Module) -> Iterator[None]:
    """Within the block the model's LoRA layers over frozen `nn.Linear`s are lean; weights are not touched."""
    changed = [
        module
        for module in model.modules()
        if type(module) is LoraLinear
        and type(module.get_base_layer()) is nn.Linear
        and not any(parameter.requires_grad for parameter in module.get_base_layer().parameters())
    ]
    for module in changed:
        module.__class__ = LeanLoraLinear
    try:
        yield
    finally:
        for module in changed:
            module.__class__ = LoraLinear
