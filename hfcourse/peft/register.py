"""Our methods beside those of the `peft` library: in its list of types, so that its own functions build and load them.

A saved adapter names its method in ``adapter_config.json``; `peft` reads it only after the method's module was
imported, which ``import hfcourse.peft`` does for all of ours.
"""

from __future__ import annotations

from typing import Any

from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.utils import register_peft_method


def register(name: str, config: type[PeftConfig], tuner: type[Any]) -> None:
    """Make a method known to `peft` under a name that none of its own has; again for the same class does nothing.

    Args:
        name: in lower case; saved in upper case as the config's ``peft_type``.
        config: its settings; they set ``self.peft_type = name.upper()`` in ``__post_init__``.
        tuner: a `BaseTuner` whose ``prefix`` begins the names of its parameters.
    """
    kind = PeftType.__members__.get(name.upper()) or _new_member(name.upper())
    known = PEFT_TYPE_TO_CONFIG_MAPPING.get(kind)
    if known is not None and known.__qualname__ == config.__qualname__ and known.__module__ == config.__module__:
        return
    register_peft_method(name=name, config_cls=config, model_cls=tuner, prefix=tuner.prefix)


def _new_member(name: str) -> PeftType:
    """One more member of the enumeration, which Python otherwise closes when its class is made."""
    member = str.__new__(PeftType, name)
    member._name_, member._value_ = name, name
    type.__setattr__(PeftType, name, member)
    PeftType._member_names_.append(name)
    PeftType._member_map_[name] = member
    PeftType._value2member_map_[name] = member
    return member
