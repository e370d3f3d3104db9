"""The places of bottleneck adapters: a module of the backbone, wrapped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.errors import ModelError
from hfcourse.peft.adapters import FusedAdapters, NormChange


@dataclass
class Switches:
    """What all places of one model look at while it runs."""

    dropped: int = 0
    """So many of the lowest layers go without adapters."""
    rows: list[str] | None = None
    """The adapter of each row of the batch; None: the active ones, for all rows."""


class BottleneckLayer(nn.Module, BaseTunerLayer):  # type: ignore[misc]
    """A module of the backbone and, by name, the adapters that stand at it."""

    adapter_layer_names: tuple[str, ...] = ("bottleneck_adapters",)

    def __init__(self, base_layer: nn.Module, number: int, switches: Switches, channel: dict[str, Any]) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_adapters = nn.ModuleDict()
        self.number = number
        self.switches = switches
        self.channel = channel
        self.merged_adapters: list[str] = []

    def add(self, name: str, parts: dict[str, nn.Module], *, inference_mode: bool) -> None:
        """One more adapter, where the base layer is; the active one if it is the first.

        Args:
            name: the adapter's.
            parts: what it has here, by the attribute (of `adapter_layer_names`) that holds its like.
            inference_mode: whether it is frozen.
        """
        weight = next(self.base_layer.parameters())
        dtype = weight.dtype if weight.is_floating_point() else torch.float32  # a quantised weight holds integers
        for attribute, part in parts.items():
            getattr(self, attribute)[name] = part.to(weight.device, dtype)
        if len(self._all_available_adapter_names()) == 1:
            self.set_adapter(name, inference_mode=inference_mode)
        else:
            self.set_adapter(self.active_adapters)

    def set_adapter(self, adapter_names: str | list[str], inference_mode: bool = False) -> None:
        """Make these active and trainable; the members of a fusion stay frozen."""
        super().set_adapter(adapter_names, inference_mode=inference_mode)
        for adapter in self.bottleneck_adapters.values():
            if isinstance(adapter, FusedAdapters):
                adapter.freeze()

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Not defined.

        Raises:
            ModelError: always.
        """
        raise ModelError("bottleneck adapters are not linear: they cannot be merged; unload() gives the backbone back")

    def added(self, states: Tensor) -> Tensor | None:
        """What the adapters add to `states` (B, ..., H); None where there is nothing to add."""
        if self._disable_adapters or self.number < self.switches.dropped:
            return None
        if self.switches.rows is not None:
            return self._added_by_row(states, self.switches.rows)
        active = [name for name in self.active_adapters if name in self.bottleneck_adapters]
        if not active:
            return None
        total: Tensor = self.bottleneck_adapters[active[0]](states)
        for name in active[1:]:
            total = total + self.bottleneck_adapters[name](states)
        return total

    def _added_by_row(self, states: Tensor, names: list[str]) -> Tensor | None:
        if len(names) != len(states):
            raise ModelError(f"adapter_names has {len(names)} names, the batch has {len(states)} rows")
        found = [name for name in dict.fromkeys(names) if name in self.bottleneck_adapters]
        if not found:
            return None
        total = torch.zeros_like(states)
        for name in found:
            rows = torch.tensor([i for i, one in enumerate(names) if one == name], device=states.device)
            part = self.bottleneck_adapters[name](states.index_select(0, rows))
            total = total.index_copy(0, rows, part.to(total.dtype))
        return total


class AfterProjection(BottleneckLayer):
    """Houlsby: on what a projection gives, before it is added to the layer's states."""

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """The projection's answer with the adapters' on top."""
        output: Tensor = self.base_layer(*args, **kwargs)
        added = self.added(output)
        return output if added is None else output + added


class ChangedNorm(BottleneckLayer):
    """A norm that each adapter has weights of its own for, as in Houlsby et al. (arXiv 1902.00751)."""

    adapter_layer_names = ("bottleneck_adapters", "bottleneck_norms")

    def __init__(self, base_layer: nn.Module, number: int, switches: Switches, channel: dict[str, Any]) -> None:
        super().__init__(base_layer, number, switches, channel)
        self.bottleneck_norms = nn.ModuleDict()

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, H)."""
        return self.normed(states)

    def normed(self, states: Tensor) -> Tensor:
        """The norm's answer under the active adapters' weights, or under those of each row's."""
        changes = self._changes()
        if not changes:
            return self.base_layer(states)  # type: ignore[no-any-return]
        norm: Any = self.base_layer
        old = 0.0 if norm.bias is None else norm.bias
        if self.switches.rows is None:
            weight, bias = (sum(parts) for parts in zip(*changes, strict=True))
            return F.layer_norm(states, norm.normalized_shape, norm.weight + weight, old + bias, norm.eps)
        weight, bias = (torch.stack(parts).unsqueeze(1) for parts in zip(*changes, strict=True))
        normed = F.layer_norm(states, norm.normalized_shape, eps=norm.eps)
        return normed * (norm.weight + weight) + (old + bias)  # type: ignore[no-any-return]

    def _changes(self) -> list[tuple[Tensor, Tensor]]:
        """Weight's and bias's, of each active adapter, or of each row where rows have their own; else none."""
        if self._disable_adapters or self.number < self.switches.dropped:
            return []
        changes: dict[str, NormChange] = dict(self.bottleneck_norms.items())  # type: ignore[arg-type]
        names = self.active_adapters if self.switches.rows is None else self.switches.rows
        if not changes.keys() & {*names}:
            return []
        pairs = {name: (change.weight, change.bias) for name, change in changes.items()}
        if self.switches.rows is None:
            return [pairs[name] for name in names if name in pairs]
        nothing = torch.zeros_like(next(iter(changes.values())).weight)
        return [pairs.get(name, (nothing, nothing)) for name in names]


class AroundNorm(ChangedNorm):
    """Pfeiffer in a post-norm layer: LN(s + adapter(LN(s))), s the sum that the norm is given."""

    def forward(self, states: Tensor) -> Tensor:
        """(B, T, H) -> (B, T, H)."""
        normed = self.normed(states)
        added = self.added(normed)
        return normed if added is None else self.normed(states + added)


class AfterLayer(BottleneckLayer):
    """Pfeiffer in a pre-norm layer: on the states that leave it."""

    def __getattr__(self, name: str) -> Any:
        """Models read attributes of their layers (kind of attention, ...)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(super().__getattr__("base_layer"), name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Whatever the layer gives, its states changed."""
        output = self.base_layer(*args, **kwargs)
        states = output[0] if isinstance(output, tuple) else output
        added = self.added(states)
        if added is None:
            return output
        return (states + added, *output[1:]) if isinstance(output, tuple) else states + added


class ParallelInput(BottleneckLayer):
    """Where a feed-forward begins: keeps its input for `ParallelOutput` of the same layer."""

    def forward(self, states: Tensor) -> Tensor:
        """The projection's own answer."""
        self.channel["states"] = states
        return self.base_layer(states)  # type: ignore[no-any-return]


class ParallelOutput(BottleneckLayer):
    """Where a feed-forward ends: adds what the adapters make of its input."""

    def forward(self, states: Tensor) -> Tensor:
        """The projection's answer with the adapters' on top."""
        output: Tensor = self.base_layer(states)
        added = self.added(self.channel.pop("states"))
        return output if added is None else output + added
