"""What our tuners share beyond `peft`'s own base."""

from __future__ import annotations

from typing import Any

from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn


class Tuner(BaseTuner):  # type: ignore[misc]
    """A `BaseTuner` that also gives back what is more than one weight: heads of several layers, whole layers."""

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: Any) -> None:
        unwraps = isinstance(child, BaseTunerLayer) and new_module is child.get_base_layer()
        if unwraps or isinstance(child, AuxiliaryTrainingWrapper):  # peft takes what comes out for a single weight
            setattr(parent, child_name, new_module)
        else:
            super()._replace_module(parent, child_name, new_module, child)

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        """Saved without its name, to be loaded under another; peft does so for adapters of a single module alone."""
        for container in cls.tuner_layer_cls.adapter_layer_names:
            named = f".{container}.{adapter_name}."
            if named in key:
                return key.replace(named, f".{container}.", 1)
        return super()._remove_adapter_name_from_key(key, adapter_name)


def unwrap_heads(model: nn.Module) -> None:
    """Put every trained head in the place of its wrapper, in place.

    `peft` fails on heads of several layers (a pooler) when it merges or unloads a method of its own.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, AuxiliaryTrainingWrapper):
            active = [one for one in module.active_adapters if one in module.modules_to_save]
            parent, _, child = name.rpartition(".")
            setattr(
                model.get_submodule(parent),
                child,
                module.modules_to_save[active[0]] if active else module.original_module,
            )
