"""Typed settings <-> command line and saved file. The one place that knows either syntax.

Settings are frozen keyword-only dataclasses, nested; a field whose type is a union of dataclasses says in ``kind``
which one it holds. A value is checked by one function wherever it comes from, so a mistake reads the same everywhere.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, Union

import yaml

from hfcourse.errors import ConfigError, unknown

T = TypeVar("T")


def to_dict(config: Any) -> dict[str, Any]:
    """Plain values, ready for YAML; parts that are one of several types carry their ``kind``."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            kind = getattr(type(value), "kind", None)
            values[field.name] = ({"kind": kind} if kind else {}) | to_dict(value)
        else:
            values[field.name] = list(value) if isinstance(value, tuple) else value
    return values


def from_dict(cls: type[T], values: Mapping[str, Any], *, where: str = "", prefix: str = "") -> T:
    """Settings from plain values; missing ones keep their defaults.

    Args:
        cls: the dataclass.
        values: as `to_dict` gives, or YAML.
        where: the file, for errors.
        prefix: the dotted name of this part, for errors.

    Raises:
        ConfigError: an unknown key (with the nearest known one), or a value of the wrong type.
    """
    hints = _hints(cls)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key == "kind" and key not in hints:
            continue
        if key not in hints:
            raise ConfigError(_at(where, unknown("setting", prefix + str(key), [prefix + name for name in hints])))
        arguments[key] = _convert(value, hints[key], where, prefix + key)
    try:
        return cls(**arguments)
    except ConfigError as error:  # a contradiction found by __post_init__
        raise ConfigError(_at(where, str(error))) from None


def override(config: T, arguments: Sequence[str]) -> T:
    """A changed copy: ``--optim.lr 1e-4 --task.text=question --train.compile``.

    Dashes and underscores are the same. A switch may stand alone or be negated (``--no-train.compile``).

    Raises:
        ConfigError: an unknown flag (with the nearest known one), a missing value or one of the wrong type.
    """
    values = to_dict(config)
    known = dict(_leaves(config))
    for flag, given in _flags(arguments):
        negated = flag not in known and flag.removeprefix("no_") in known
        name = flag.removeprefix("no_") if negated else flag
        if name not in known:
            raise ConfigError(unknown("setting", f"--{flag}", [f"--{key}" for key in known]))
        if known[name] is bool and not given:
            value: Any = not negated
        elif not given:
            raise ConfigError(f"--{flag} needs a value ({_words(known[name])})")
        else:
            value = given if _is_tuple(known[name]) else " ".join(given)
        *parents, leaf = name.split(".")
        part = functools.reduce(lambda tree, key: tree[key], parents, values)
        part[leaf] = _convert(value, known[name], "", f"--{name}")
    return _rebuild(config, values)


def commented_yaml(config: Any, head: Mapping[str, Any] | None = None) -> str:
    """The settings as YAML with each field's help above it; `from_dict` takes it back."""
    lines = [f"{key}: {_scalar(value)}" for key, value in (head or {}).items()]
    return "\n".join([*lines, *_commented(config, "")]) + "\n"


def read_yaml(text: str, where: str) -> dict[str, Any]:
    """A YAML mapping.

    Raises:
        ConfigError: it is no YAML or no mapping, with the line.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not YAML ({getattr(error, 'problem', error)})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected `key: value` lines as in a run's config.yaml")
    return values


def _rebuild(config: T, values: dict[str, Any]) -> T:
    """The same types as in `config`, with the values of `values`."""
    arguments = {
        field.name: _rebuild(getattr(config, field.name), values[field.name])
        if dataclasses.is_dataclass(getattr(config, field.name))
        else values[field.name]
        for field in dataclasses.fields(config)  # type: ignore[arg-type]
    }
    arguments = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    return type(config)(**arguments)


def _flags(arguments: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """(name, values) of each ``--name=value`` or ``--name value ...``."""
    position = 0
    while position < len(arguments):
        word = arguments[position]
        if not word.startswith("--"):
            raise ConfigError(f"{word!r} is out of place: variants come first, then --settings")
        name, equals, value = word[2:].partition("=")
        given = [value] if equals else []
        position += 1
        while position < len(arguments) and not equals and not arguments[position].startswith("--"):
            given.append(arguments[position])
            position += 1
        yield name.replace("-", "_"), given


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every single setting by its dotted name, with its type."""
    hints = _hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, hints[field.name]


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Field names and their types."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _options(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in {Union, types.UnionType} else (hint,)


def _is_tuple(hint: Any) -> bool:
    return any(typing.get_origin(option) is tuple for option in _options(hint))


def _convert(value: Any, hint: Any, where: str, key: str) -> Any:
    """`value`, a string or already of its type, as `hint`; ConfigError if it cannot be."""
    options = _options(hint)
    parts = [option for option in options if dataclasses.is_dataclass(option)]
    if parts:
        return _convert_part(value, parts, where, key)
    if type(None) in options and (value is None or str(value).lower() == "none"):
        return None
    for option in options:
        try:
            return _convert_one(value, option)
        except (TypeError, ValueError):
            continue
    if all(typing.get_origin(option) is Literal for option in options if option is not type(None)):
        raise ConfigError(_at(where, unknown(f"value of {key}", str(value), map(str, typing.get_args(options[0])))))
    raise ConfigError(_at(where, f"{key} is {value!r}: expected {_words(hint)}"))


def _convert_part(value: Any, parts: list[Any], where: str, key: str) -> Any:
    if not isinstance(value, Mapping):
        raise ConfigError(_at(where, f"{key} is {value!r}: expected a part with settings of its own"))
    cls = parts[0]
    if len(parts) > 1:
        kinds = {part.kind: part for part in parts}
        if value.get("kind") not in kinds:
            raise ConfigError(_at(where, unknown(f"{key}.kind", str(value.get("kind")), kinds)))
        cls = kinds[value["kind"]]
    return from_dict(cls, value, where=where, prefix=f"{key}.")


def _convert_one(value: Any, hint: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        for choice in arguments:
            if value == choice or str(value) == str(choice):
                return choice
        raise ValueError
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else list(value)
        items = [part for item in items for part in (item.split(",") if isinstance(item, str) else [item])]
        items = [item for item in items if item != ""]
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
    return hint(value)


def _to_bool(value: Any) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if str(value).lower() not in words:
        raise ValueError
    return words[str(value).lower()]


def _words(hint: Any) -> str:
    """A type as a person says it."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", type(None): "none"}

    def one(option: Any) -> str:
        arguments = typing.get_args(option)
        if typing.get_origin(option) is Literal:
            return "one of " + ", ".join(map(str, arguments))
        if typing.get_origin(option) is tuple:
            return "a list of " + _words(arguments[0])
        return names.get(option, getattr(option, "__name__", str(option)))

    return " or ".join(one(option) for option in _options(hint))


def _at(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message


def _commented(config: Any, indent: str) -> Iterator[str]:
    help_of = field_help(type(config))
    kind = getattr(type(config), "kind", None)
    if kind and indent:
        yield f"{indent}kind: {kind}"
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        for line in textwrap.wrap(help_of.get(field.name, ""), 110 - len(indent)):
            yield f"{indent}# {line}"
        if dataclasses.is_dataclass(value):
            yield f"{indent}{field.name}:"
            yield from _commented(value, indent + "  ")
        else:
            yield f"{indent}{field.name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).split("\n")[0]


@functools.cache
def field_help(cls: type) -> dict[str, str]:
    """The docstring under each field, its own class's and its bases'."""
    texts: dict[str, str] = {}
    for base in reversed([base for base in cls.__mro__ if dataclasses.is_dataclass(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                value = text.value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    texts[field.target.id] = " ".join(value.value.split())
    return texts
