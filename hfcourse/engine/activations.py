"""GPT-2's activation in one kernel instead of eight.

transformers computes the tanh form of GELU step by step, each step a new tensor as large as the widest states and kept
for the backward pass. torch has the same function as one kernel, which keeps its input alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from transformers.activations import NewGELUActivation


class FusedGELU(NewGELUActivation):  # type: ignore[misc]
    """`NewGELUActivation` as torch computes it."""

    def forward(self, input: Tensor) -> Tensor:
        """Any shape."""
        return nn.functional.gelu(input, approximate="tanh")


@contextmanager
def fused_gelu_in(model: nn.Module) -> Iterator[None]:
    """Within the block the model's tanh GELUs are one kernel each."""
    changed = [module for module in model.modules() if type(module) is NewGELUActivation]
    for module in changed:
        module.__class__ = FusedGELU
    try:
        yield
    finally:
        for module in changed:
            module.__class__ = NewGELUActivation
