"""The small networks of bottleneck adapters: plain, by products of hypercomplex numbers (Compacter), and fused.

Each maps states (..., H) to what is added to them (..., H).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN


class Adapter(nn.Module):
    """Down to few features, a non-linearity, up again (Houlsby et al., arXiv 1902.00751)."""

    def __init__(self, width: int, hidden: int, activation: str, scaling: float, init: str) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.activation = ACT2FN[activation]
        self.up = nn.Linear(hidden, width)
        self.scaling = scaling
        for layer in (self.down, self.up):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        if init == "zero":  # nothing is added before the first step (arXiv 2110.04366)
            nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
            nn.init.zeros_(self.up.weight)

    def forward(self, states: Tensor) -> Tensor:
        """What is added to `states`."""
        inner: Tensor = self.activation(self.down(states))
        if self.scaling == 1.0:
            return self.up(inner)  # type: ignore[no-any-return]
        return F.linear(inner * self.scaling, self.up.weight, self.up.bias * self.scaling)


class NormChange(nn.Module):
    """What an adapter adds to the weights (H) of a norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def start_as_mean_of(self, others: Iterable[nn.Module]) -> None:
        """Begin where others ended, as the norms of a fusion do."""
        for name, mine in self.named_parameters():
            theirs = [other.get_parameter(name).detach() for other in others]
            if theirs:
                mine.data.copy_(torch.stack(theirs).mean(0))


class CompactAdapter(nn.Module):
    """An adapter whose matrices are sums of Kronecker products (Compacter, arXiv 2106.04647).

    A matrix (out, in) is the sum over n rules A_i (n, n), shared by all adapters of a model, with B_i (out/n, in/n)
    of rank 1.
    """

    def __init__(self, width: int, hidden: int, activation: str, scaling: float, rules: nn.Parameter) -> None:
        super().__init__()
        self.rules = rules
        self.down = _Kronecker(width, hidden, len(rules))
        self.activation = ACT2FN[activation]
        self.up = _Kronecker(hidden, width, len(rules))
        self.scaling = scaling
        nn.init.zeros_(self.up.right)

    def forward(self, states: Tensor) -> Tensor:
        """What is added to `states`."""
        added: Tensor = self.up(self.activation(self.down(states, self.rules)), self.rules)
        return added if self.scaling == 1.0 else added * self.scaling


class _Kronecker(nn.Module):
    def __init__(self, features_in: int, features_out: int, rules: int) -> None:
        super().__init__()
        self.left = nn.Parameter(torch.empty(rules, features_out // rules, 1))
        self.right = nn.Parameter(torch.empty(rules, 1, features_in // rules))
        self.bias = nn.Parameter(torch.zeros(features_out))
        for factor in (self.left, self.right):
            nn.init.xavier_uniform_(factor)

    def forward(self, states: Tensor, rules: Tensor) -> Tensor:
        matrix: Tensor = torch.einsum("rij,rkl->ikjl", rules, self.left * self.right)
        return F.linear(states, matrix.reshape(len(self.bias), -1), self.bias)


class FusedAdapters(nn.Module):
    """Trained adapters of several tasks, frozen, mixed by attention for a new one (AdapterFusion, arXiv 2005.00247).

    The layer's state asks, each adapter's output answers; the softmax runs over the adapters. At the start the values
    are the outputs themselves.
    """

    def __init__(self, width: int, members: Iterable[nn.Module]) -> None:
        super().__init__()
        # By number: peft leaves out of a file whatever carries the name of another adapter.
        self.members = nn.ModuleList(members)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width, bias=False)
        for layer in (self.query, self.key):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        nn.init.eye_(self.value.weight)
        self.freeze()

    def freeze(self) -> None:
        """The members never learn."""
        self.members.requires_grad_(False)

    def forward(self, states: Tensor) -> Tensor:
        """What is added to `states`."""
        outputs = torch.stack([member(states) for member in self.members], dim=-2)  # (..., members, H)
        scores = torch.einsum("...h,...mh->...m", self.query(states), self.key(outputs))
        mixed = torch.einsum("...m,...mh->...h", scores.softmax(dim=-1), outputs)
        return self.value(mixed)  # type: ignore[no-any-return]
