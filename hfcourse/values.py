"""A plain value, from YAML or a word of the command line, as the type that a setting has."""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Union


def convert(value: Any, hint: Any) -> Any:
    """`value`, a word or already of its type, as `hint`: a number, text, a switch, a Literal, a tuple, a union of them.

    Raises:
        ValueError: it cannot be.
    """
    if type(None) in options(hint) and (value is None or str(value).lower() in {"none", "null"}):
        return None
    for option in options(hint):
        try:
            return _convert_one(value, option)
        except (TypeError, ValueError, OverflowError):
            continue
    raise ValueError(f"{value!r} is not {words(hint)}")


def options(hint: Any) -> tuple[Any, ...]:
    """The members of a union; a type that is none by itself."""
    return typing.get_args(hint) if typing.get_origin(hint) in {Union, types.UnionType} else (hint,)


def is_switch(hint: Any) -> bool:
    """Whether a flag of this type may stand alone."""
    return bool in options(hint)


def is_tuple(hint: Any) -> bool:
    """Whether a flag of this type takes several words."""
    return any(typing.get_origin(option) is tuple for option in options(hint))


def choices(hint: Any) -> list[str]:
    """The words that a Literal, a union of them, or a tuple of Literals allows; none for other types."""
    allowed: list[str] = []
    for option in options(hint):
        if typing.get_origin(option) is Literal:
            allowed += [str(choice) for choice in typing.get_args(option)]
        elif typing.get_origin(option) is tuple:
            allowed += choices(typing.get_args(option)[0])
    return allowed


def odd_one(value: Any, hint: Any) -> str:
    """What of a value, one word or several, is none of the choices."""
    given = split(value) if is_tuple(hint) and isinstance(value, str) else value
    items = given if isinstance(given, list | tuple) else [given]
    return next((str(item) for item in items if str(item) not in choices(hint)), str(value))


def split(text: str) -> list[str]:
    """The parts of a list that is written with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _convert_one(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        for choice in arguments:
            if value == choice or str(value) == str(choice):
                return choice
        raise ValueError
    if origin is tuple:
        items = split(value) if isinstance(value, str) else list(value)
        if arguments[-1] is Ellipsis:
            return tuple(_convert_one(item, arguments[0]) for item in items)
        if len(items) != len(arguments):
            raise ValueError
        return tuple(_convert_one(item, argument) for item, argument in zip(items, arguments, strict=True))
    if hint is bool:
        return _to_bool(value)
    if value is None or isinstance(value, bool | Mapping | list | tuple):
        raise TypeError
    if hint is int:
        number = float(value) if isinstance(value, str) and "e" in value.lower() else value
        if isinstance(number, float) and not number.is_integer():
            raise ValueError
        return int(number)
    if hint is float and not math.isfinite(float(value)):
        raise ValueError  # no setting means anything as nan or inf, and every comparison lets nan pass
    return hint(value)


def _to_bool(value: Any) -> bool:
    known = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if str(value).lower() not in known:
        raise ValueError
    return known[str(value).lower()]


def words(hint: Any) -> str:
    """A type as a person says it."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "none"}

    def one(option: Any) -> str:
        arguments = typing.get_args(option)
        if typing.get_origin(option) is Literal:
            return "one of " + ", ".join(map(str, arguments))
        if typing.get_origin(option) is tuple and arguments[-1] is not Ellipsis:
            return f"{len(arguments)} values, each {words(arguments[0])}"
        if typing.get_origin(option) is tuple:
            return "a list of " + words(arguments[0])
        return names.get(option, getattr(option, "__name__", str(option)))

    return " or ".join(one(option) for option in options(hint))
