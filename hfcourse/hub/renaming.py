"""Weights of another toolkit under the names of ours: by tables, and every name accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from hfcourse.errors import ModelError
from hfcourse.hub.torch_files import StoredTensor

_PARTS = {"N": r"(\d+)", "P": "(weight|bias)", "PATH": "(.+)"}
"""What stands for a number, for a parameter and for the rest of a name in a table."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a checkpoint is, in terms of what it becomes."""

    kind: str
    """The method, for messages and the page of the result."""
    model_class: type[PreTrainedModel]
    config: PreTrainedConfig
    weights: Mapping[str, StoredTensor]
    """By the toolkit's names."""
    names: Mapping[str, str]
    """Table of names: theirs -> ours."""
    training_only: tuple[str, ...] = ()
    """Names, as in the table, that served training alone and are left out."""
    finish: Callable[[dict[str, Tensor]], dict[str, Tensor]] = lambda weights: weights
    """Makes what is more than a name, from weights under our names."""
    normalize: bool = False
    """Whether it hears waveforms of mean 0 and variance 1."""
    notes: tuple[str, ...] = field(default=())
    """Sentences for the page of the result."""


def shapes_of(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of each weight.

    Raises:
        ModelError: something that is no tensor.
    """
    other = [name for name, weight in weights.items() if not isinstance(weight, StoredTensor)]
    if other:
        raise ModelError(f"{other[0]!r} among its weights is no tensor")
    return {name: weight.shape for name, weight in weights.items()}


def numbered(shapes: Mapping[str, tuple[int, ...]], name: str) -> dict[int, tuple[int, ...]]:
    """Shapes by number of the weights that a name of a table with one N stands for, in the order of their numbers."""
    matches = ((re.fullmatch(_pattern(name), one), shape) for one, shape in shapes.items())
    return dict(sorted((int(match[1]), shape) for match, shape in matches if match))


def shape_of(shapes: Mapping[str, tuple[int, ...]], name: str) -> tuple[int, ...]:
    """Shape of a weight that must be there.

    Raises:
        ModelError: it is not.
    """
    if name not in shapes:
        raise ModelError(f"the checkpoint lacks the weight {name!r}")
    return shapes[name]


def converted(found: Found) -> tuple[PreTrainedModel, list[str]]:
    """The model with the checkpoint's weights in fp32, and the names of those that were left out.

    Raises:
        ModelError: a weight without a place, a place without a weight, or one of another shape.
    """
    places, left_out = _renamed(found)
    weights = found.finish({ours: found.weights[theirs].load().float() for ours, theirs in places.items()})
    model = found.model_class._from_config(found.config)
    target = model.state_dict()
    label = f"{found.model_class.__name__} of its settings"
    if missing := [name for name in target if name not in weights]:
        raise ModelError(f"the checkpoint ({found.kind}) lacks what is {missing[0]!r} in the {label}")
    if extra := [name for name in weights if name not in target]:
        theirs = places.get(extra[0], extra[0])
        raise ModelError(f"the checkpoint's weight {theirs!r} ({found.kind}) has no place in the {label}")
    for name, weight in weights.items():
        if weight.shape != target[name].shape:
            shapes = f"{tuple(weight.shape)}, not {tuple(target[name].shape)}"
            raise ModelError(f"the checkpoint's weight {places.get(name, name)!r} has the shape {shapes}")
    model.load_state_dict(weights)
    return model, left_out


def _renamed(found: Found) -> tuple[dict[str, str], list[str]]:
    """The toolkit's name for each of ours, and the names that are left out."""
    table = [(re.compile(_pattern(theirs)), _template(theirs, ours)) for theirs, ours in found.names.items()]
    dropped = [re.compile(_pattern(name)) for name in found.training_only]
    places: dict[str, str] = {}
    left_out: list[str] = []
    for name in found.weights:
        ours = next((match.expand(new) for old, new in table if (match := old.fullmatch(name))), "")
        if ours:
            places[ours] = name
        elif any(pattern.fullmatch(name) for pattern in dropped):
            left_out.append(name)
        else:
            raise ModelError(f"the checkpoint's weight {name!r} is none of a {found.kind} net that is known here")
    return places, left_out


def _pattern(name: str) -> str:
    return r"\.".join(_PARTS.get(part, re.escape(part)) for part in name.split("."))


def _template(theirs: str, ours: str) -> str:
    """Ours, with references to what stands in their name for numbers and parameters."""
    order = [part for part in theirs.split(".") if part in _PARTS]
    return ".".join(rf"\{order.index(part) + 1}" if part in _PARTS else part for part in ours.split("."))
