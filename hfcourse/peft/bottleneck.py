"""Bottleneck adapters behind `peft`'s interface: Houlsby, Pfeiffer, parallel; AdapterDrop, Compacter, AdapterFusion.

    from hfcourse.peft import BottleneckConfig, get_peft_model
    model = get_peft_model(model, BottleneckConfig(placement="pfeiffer"))

The `peft` library has none of them. Where an adapter stands is in `bottleneck_layers`, what it computes in `adapters`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig, PeftType
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from hfcourse.errors import ConfigError, ModelError
from hfcourse.peft.adapters import Adapter, CompactAdapter, FusedAdapters, NormChange
from hfcourse.peft.bottleneck_layers import (
    AfterLayer,
    AfterProjection,
    AroundNorm,
    BottleneckLayer,
    ChangedNorm,
    ParallelInput,
    ParallelOutput,
    Switches,
)
from hfcourse.peft.places import Layer, layers_of, linear
from hfcourse.peft.register import register
from hfcourse.peft.tuner import Tuner


@dataclass
class BottleneckConfig(PeftConfig):  # type: ignore[misc]
    """Where adapters stand and how wide they are. The defaults are Pfeiffer's."""

    placement: str = field(
        default="pfeiffer",
        metadata={
            "help": "houlsby: behind attention and feed-forward (arXiv 1902.00751); pfeiffer: behind feed-forward and "
            "its norm (2005.00247); parallel: beside feed-forward (2110.04366)"
        },
    )
    reduction_factor: int = field(default=16, metadata={"help": "width of the backbone / width of the bottleneck"})
    activation: str = field(default="", metadata={"help": "empty: silu for houlsby, relu otherwise"})
    scaling: float = field(default=0.0, metadata={"help": "factor of what is added; 0: 4 for parallel, 1 otherwise"})
    init: str = field(default="", metadata={"help": "normal, or zero: adds nothing at first; empty: by placement"})
    norms: bool = field(
        default=False, metadata={"help": "learn weights of its own for the norms of post-norm layers as well"}
    )
    skip_layers: int = field(default=0, metadata={"help": "no adapters in so many of the lowest layers (AdapterDrop)"})
    drop_layers: int = field(
        default=0,
        metadata={"help": "in training each batch leaves out those of 0 to so many of the lowest layers (2010.11918)"},
    )
    rules: int = field(default=0, metadata={"help": "Compacter's n: matrices are sums of n Kronecker products"})
    fuse: list[str] | None = field(
        default=None, metadata={"help": "names of adapters that are there: mix them by attention (AdapterFusion)"}
    )
    fused: bool = field(default=False, metadata={"help": "whether the mixed adapters are saved inside this one"})
    target_modules: list[str] | set[str] | None = field(
        default=None, metadata={"help": "found by placement where not given; part of those narrows them"}
    )
    modules_to_save: list[str] | None = field(default=None, metadata={"help": "modules trained whole: the head"})
    inference_mode: bool = field(default=False, metadata={"help": "whether the adapter is frozen"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType("BOTTLENECK")
        if self.placement not in _PLACES:
            raise ConfigError(f"placement is {self.placement!r}: it is one of {', '.join(_PLACES)}")
        if self.reduction_factor < 1:
            raise ConfigError(f"reduction_factor is {self.reduction_factor}: it must be 1 or more")
        parallel = self.placement == "parallel"
        self.activation = self.activation or ("silu" if self.placement == "houlsby" else "relu")
        self.scaling = self.scaling or (4.0 if parallel else 1.0)
        self.init = self.init or ("zero" if parallel else "normal")


@dataclass
class CompacterConfig(BottleneckConfig):
    """Compacter as published (arXiv 2106.04647): both places, four rules."""

    placement: str = "houlsby"
    reduction_factor: int = 32
    activation: str = "gelu"
    rules: int = 4


class BottleneckModel(Tuner):
    """A backbone whose layers carry adapters. Several may be active: what they add is summed."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer

    def __init__(self, model: Any, peft_config: Any, adapter_name: str, **arguments: Any) -> None:
        nn.Module.__init__(self)  # the base does so again, and keeps what is set here
        self.__dict__["switches"] = Switches()
        self.__dict__["_places"] = {}
        self.__dict__["_rules"] = {}
        super().__init__(model, peft_config, adapter_name, **arguments)

    @contextlib.contextmanager
    def dropped(self, layers: int) -> Iterator[None]:
        """Within the block the adapters of so many of the lowest layers are left out (AdapterDrop at inference)."""
        before, self.switches.dropped = self.switches.dropped, layers
        try:
            yield
        finally:
            self.switches.dropped = before

    @contextlib.contextmanager
    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """Around each forward pass. ``adapter_names``: one a row, as in peft's LoRA; ``__base__`` for none.

        In training with AdapterDrop the lowest adapters may be left out.
        """
        names = kwargs.get("adapter_names")
        configs: dict[str, Any] = self.peft_config
        most = max((configs[name].drop_layers for name in self.active_adapters), default=0)
        with contextlib.ExitStack() as stack:
            if names is not None:
                stack.enter_context(self.by_row(names))
            if most and self.training:
                stack.enter_context(self.dropped(int(torch.randint(most + 1, ()))))
            yield

    @contextlib.contextmanager
    def by_row(self, names: Sequence[str]) -> Iterator[None]:
        """Within the block row i of a batch goes through adapter ``names[i]`` alone."""
        unknown = sorted({*names} - {*self.peft_config, "__base__"})
        if unknown:
            raise ModelError(f"no adapter {unknown[0]!r} here: there are {', '.join(self.peft_config)}")
        self.switches.rows = list(names)
        try:
            yield
        finally:
            self.switches.rows = None

    def delete_adapter(self, adapter_name: str) -> None:
        """As the library's own; the rules of a Compacter go too."""
        super().delete_adapter(adapter_name)
        for key in [key for key in self._rules if key[0] == adapter_name]:
            del self._rules[key]

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        places = _places(self.model, peft_config)
        wanted = peft_config.target_modules
        if wanted is None:
            peft_config.target_modules = list(places)
        elif not all(any(_matches(name, [one]) for name in places) for one in wanted):
            odd = next(one for one in sorted(wanted) if not any(_matches(name, [one]) for name in places))
            kind = model_config.get("model_type", "model")
            raise ModelError(
                f"{odd!r} is no place for {peft_config.placement} adapters in this {kind} (they stand at "
                f"{next(iter(places))!r}, ...): is the adapter of another backbone?"
            )
        for name, place in places.items():
            here = self.model.get_submodule(name)
            if isinstance(here, BottleneckLayer) and not isinstance(here, place.layer_class):
                raise ModelError(f"{name!r} carries adapters of another placement: use a model of its own for these")
        if peft_config.fuse and not peft_config.fused:
            self._check_members(peft_config, places)
            peft_config.fused = True
        self._places |= places
        return peft_config

    def _check_members(self, config: Any, places: Iterable[str]) -> None:
        """A fusion's adapters must be here, alike, and stand where it does."""
        for name in config.fuse:
            if name not in self.peft_config:
                raise ModelError(f"fuse names {name!r}, which is not here: load that adapter into the model first")
            for key in ("placement", "reduction_factor", "activation", "scaling", "rules", "norms", "skip_layers"):
                theirs, ours = getattr(self.peft_config[name], key), getattr(config, key)
                if theirs != ours:
                    raise ModelError(f"cannot fuse {name!r}: its {key} is {theirs!r}, the fusion's {ours!r}")
            members: Any = self.peft_config
            theirs, ours = (
                {place for place in places if _matches(place, one.target_modules)} for one in (members[name], config)
            )
            if theirs != ours:
                raise ModelError(
                    f"cannot fuse {name!r}: it stands at {len(theirs)} places of this model, the fusion at "
                    f"{len(ours)}: was it trained on another backbone?"
                )

    @staticmethod
    def _check_target_module_exists(peft_config: Any, key: str) -> bool:
        return _matches(key, peft_config.target_modules)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        place = self._places[current_key]
        layer = target
        if not isinstance(layer, BottleneckLayer):
            layer = place.layer_class(target, place.number, self.switches, place.channel)
        if parts := self._make(peft_config, adapter_name, target, place):
            layer.add(adapter_name, parts, inference_mode=peft_config.inference_mode)
        if layer is not target:
            if adapter_name not in self.active_adapters:
                layer.requires_grad_(False)
            self._replace_module(parent, target_name, layer, target)

    def _make(self, config: BottleneckConfig, name: str, target: nn.Module, place: _Place) -> dict[str, nn.Module]:
        """What an adapter has at one place, by the attribute that holds it."""
        parts: dict[str, nn.Module] = {}
        if place.carries:
            parts["bottleneck_adapters"] = self._bottleneck(config, name, target, place)
        if config.norms and issubclass(place.layer_class, ChangedNorm):
            change = NormChange(place.width)
            here = getattr(target, "bottleneck_norms", {})
            change.start_as_mean_of([here[one] for one in config.fuse or () if one in here])
            parts["bottleneck_norms"] = change
        return parts

    def _bottleneck(self, config: BottleneckConfig, name: str, target: nn.Module, place: _Place) -> nn.Module:
        if not config.fuse:
            return self._single(config, (name, ""), place)
        here = getattr(target, "bottleneck_adapters", {})
        return FusedAdapters(  # of a saved fusion, whose members come with it, none need be here
            place.width,
            (
                copy.deepcopy(here[one]) if one in here else self._single(config, (name, one), place)
                for one in config.fuse
            ),
        )

    def _single(self, config: BottleneckConfig, name: tuple[str, str], place: _Place) -> nn.Module:
        """One adapter; Compacter's share their rules by `name`: of the adapter, and of the member in a fusion."""
        hidden = max(1, place.width // config.reduction_factor)
        if not config.rules:
            return Adapter(place.width, hidden, config.activation, config.scaling, config.init)
        n = config.rules
        hidden = max(n, hidden // n * n)
        if place.width % n:
            raise ConfigError(f"rules is {n}: it must divide the width of the backbone, {place.width}")
        if name not in self._rules:
            self._rules[name] = nn.Parameter(torch.randn(n, n, n) / n)
        return CompactAdapter(place.width, hidden, config.activation, config.scaling, self._rules[name])

    def _check_merge_allowed(self) -> None:
        raise ModelError("bottleneck adapters are not linear: they cannot be merged; unload() gives the backbone back")


@dataclass(frozen=True)
class _Place:
    """One module that an adapter stands at."""

    layer_class: type[BottleneckLayer]
    number: int
    """Of its layer, from 0."""
    width: int
    channel: dict[str, Any] = field(default_factory=dict)
    """What two places of one layer share."""

    @property
    def carries(self) -> bool:
        """Whether a bottleneck's weights lie here."""
        return self.layer_class not in {ParallelInput, ChangedNorm}


_PLACES = {"houlsby": (AfterProjection,), "pfeiffer": (AroundNorm, AfterLayer), "parallel": (ParallelOutput,)}


def _places(model: nn.Module, config: BottleneckConfig) -> dict[str, _Place]:
    """Every module that the placement asks for, by name."""
    found: dict[str, _Place] = {}
    for number, layer in enumerate(layers_of(model)):
        if number >= config.skip_layers:
            width = linear(_bare(model, layer.ffn_out))[1]
            found |= _of_layer(config.placement, number, layer, width)
            if config.norms and layer.last_norm:
                norms = layer.norms if layer.last_norm in found else (*layer.norms, layer.last_norm)
                found |= {name: _Place(ChangedNorm, number, width) for name in norms}
    if not found:
        raise ConfigError(f"skip_layers is {config.skip_layers}: no layer is left for an adapter")
    return found


def _of_layer(placement: str, number: int, layer: Layer, width: int) -> dict[str, _Place]:
    if placement == "houlsby":
        return {name: _Place(AfterProjection, number, width) for name in (layer.attention_out, layer.ffn_out)}
    if placement == "parallel":
        channel: dict[str, Any] = {}
        return {
            layer.ffn_in[0]: _Place(ParallelInput, number, width, channel),
            layer.ffn_out: _Place(ParallelOutput, number, width, channel),
        }
    if layer.last_norm:
        return {layer.last_norm: _Place(AroundNorm, number, width)}
    return {layer.name: _Place(AfterLayer, number, width)}


def _bare(model: nn.Module, name: str) -> nn.Module:
    module = model.get_submodule(name)
    return module.get_base_layer() if isinstance(module, BaseTunerLayer) else module


def _matches(name: str, targets: Any) -> bool:
    return any(name == target or name.endswith(f".{target}") for target in targets or ())


register("bottleneck", BottleneckConfig, BottleneckModel)
