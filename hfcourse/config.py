"""Typed settings <-> command line and saved file. The one place that knows either syntax.

Settings are frozen keyword-only dataclasses, nested; a field whose type is a union of dataclasses says in ``kind``
which one it holds. A value is checked by one function wherever it comes from, so a mistake reads the same everywhere.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import json
import math
import textwrap
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import yaml

from hfcourse import values as typed
from hfcourse.errors import ConfigError, unknown

T = TypeVar("T")


class _Loader(yaml.SafeLoader):
    """Plain values alone, and no key twice: the first would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if str(key.value) in seen:
                problem = f"the key {key.value!r} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(str(key.value))
        return dict(super().construct_mapping(node, deep))


def to_dict(config: Any) -> dict[str, Any]:
    """Plain values, ready for YAML; parts that are one of several types carry their ``kind``."""
    values: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            kind = _kind(type(value))
            values[field.name] = ({"kind": kind} if kind else {}) | to_dict(value)
        else:
            values[field.name] = _plain(value)
    return values


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, tuple | list) else value


def from_dict(cls: type[T], values: Mapping[str, Any], *, where: str = "", prefix: str = "") -> T:
    """Settings from plain values; missing ones keep their defaults.

    Args:
        cls: the dataclass.
        values: as `to_dict` gives, or YAML.
        where: the file, for errors.
        prefix: the dotted name of this part, for errors.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a value of the wrong type, or a missing one.
    """
    hints = _hints(cls)
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key == "kind" and key not in hints:
            if value != getattr(cls, "kind", value):
                raise ConfigError(_at(where, f"{prefix}kind is {value!r}: this part is {getattr(cls, 'kind', None)!r}"))
            continue
        if key not in hints:
            raise ConfigError(_at(where, unknown("setting", prefix + str(key), [prefix + name for name in hints])))
        arguments[key] = _convert(value, hints[key], where, prefix + key)
    lacking = [prefix + field.name for field in _required(cls) if field.name not in arguments]
    if lacking:
        raise ConfigError(_at(where, f"{lacking[0]} is missing: it has no default"))
    try:
        return cls(**arguments)
    except ConfigError as error:  # a contradiction found by __post_init__
        raise ConfigError(_at(where, str(error))) from None


def override(config: T, arguments: Sequence[str], *, others: Sequence[str] = ()) -> T:
    """A changed copy: ``--optim.lr 1e-4 --task.text=question --train.compile``.

    Dashes and underscores are the same. A switch may stand alone or be negated (``--no-train.compile``). A part with
    ``named_by`` takes the value of that setting: ``--peft lora`` is ``--peft.method lora``. A part that is one of
    several types takes the ``kind`` of another: ``--task tagging`` is that task with its own defaults.

    Args:
        config: the settings.
        arguments: words of a command line.
        others: flags that are no settings but known to the caller: offered too where a flag is mistyped.

    Raises:
        ConfigError: an unknown flag (with the nearest known one), a missing value or one of the wrong type.
    """
    words = [(_spelt_out(flag, getattr(config, "aliases", {})), given) for flag, given in _flags(arguments)]
    config = _with_kinds(config, dict(words))
    unions = {name for name, _ in _unions(config)}
    known = dict(_leaves(config))
    short = dict(_short_names(config))
    changes: dict[str, Any] = {}
    for flag, given in words:
        if flag in unions:
            continue
        flag = short.get(flag, flag)
        name = flag.removeprefix("no_")
        negated = flag not in known and typed.is_switch(known.get(name))
        if negated and given:
            raise ConfigError(f"--{flag} takes no value: write --{flag}, or --{name} {given[0]}")
        if not negated and flag not in known:
            raise ConfigError(_unknown_flag(flag, [*known, *others]))
        *parents, leaf = (name if negated else flag).split(".")
        part = functools.reduce(lambda tree, key: tree.setdefault(key, {}), parents, changes)
        part[leaf] = False if negated else _from_words(flag, given, known[flag])
    return _changed(config, changes)


def from_flags(cls: type[T], arguments: Sequence[str]) -> T:
    """Settings of one level from the words of a command line; fields without a default must be among them.

    Raises:
        ConfigError: as for `override`; a setting that is missing.
    """
    hints = _hints(cls)
    values: dict[str, Any] = {}
    for flag, given in _flags(arguments):
        if flag not in hints:
            raise ConfigError(_unknown_flag(flag, hints))
        values[flag] = _from_words(flag, given, hints[flag])
    for field in _required(cls):
        if field.name not in values:
            raise ConfigError(f"--{field.name} is missing")
    return from_dict(cls, values)


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
        values = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{where}{line}: not YAML ({problem})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected `key: value` lines as in a run's config.yaml")
    return values


def _changed(config: T, changes: Mapping[str, Any]) -> T:
    """A copy with some of the settings replaced; what is not named stays as it is."""
    values = {
        key: _changed(getattr(config, key), value) if isinstance(value, Mapping) else value
        for key, value in changes.items()
    }
    return dataclasses.replace(config, **values)  # type: ignore[type-var]


def _with_kinds(config: T, flags: Mapping[str, list[str]], prefix: str = "") -> T:
    """A copy whose parts are of the kinds that flags name; a part of another kind has its own defaults."""
    for name, parts in _unions(config, deep=False):
        flag = prefix + name
        if flag not in flags:
            continue
        kinds = {part.kind: part for part in parts}
        given = flags[flag]
        if len(given) != 1:
            raise ConfigError(f"--{flag} takes one of {', '.join(kinds)}")
        if given[0] not in kinds:
            raise ConfigError(unknown(f"value of --{flag}", given[0], kinds))
        if type(getattr(config, name)) is not kinds[given[0]]:
            config = dataclasses.replace(config, **{name: kinds[given[0]]()})  # type: ignore[type-var]
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            changed = _with_kinds(value, flags, f"{prefix}{field.name}.")
            if changed is not value:
                config = dataclasses.replace(config, **{field.name: changed})  # type: ignore[type-var]
    return config


def _unions(config: Any, prefix: str = "", *, deep: bool = True) -> Iterator[tuple[str, list[Any]]]:
    """Parts that are one of several types, with those types."""
    hints = _hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not dataclasses.is_dataclass(value):
            continue
        parts = [option for option in typed.options(hints[field.name]) if dataclasses.is_dataclass(option)]
        if len(parts) > 1:
            yield prefix + field.name, parts
        if deep:
            yield from _unions(value, f"{prefix}{field.name}.")


def _from_words(flag: str, given: list[str], hint: Any) -> Any:
    """The value of a flag from the words behind it."""
    if not given:
        if typed.is_switch(hint):
            return True
        raise ConfigError(f"--{flag} needs a value ({typed.words(hint)})")
    if len(given) > 1 and not typed.is_tuple(hint):
        raise ConfigError(
            f"{given[1]!r} after --{flag} {given[0]} is out of place: variants come before --settings, "
            "and a value with spaces is quoted"
        )
    value = [part for word in given for part in typed.split(word)] if typed.is_tuple(hint) else given[0]
    return _convert(value, hint, "", f"--{flag}")


def _unknown_flag(flag: str, known: Iterable[str]) -> str:
    """One line with the nearest flags: those that end alike (``--lr``: ``--optim.lr``), then those spelt alike."""
    names = list(known)
    last = flag.rpartition(".")[2]
    near = [name for name in names if name.rpartition(".")[2] == last]
    near += difflib.get_close_matches(flag, names, n=3, cutoff=0.6)
    if not near:
        ends = {name.rpartition(".")[2]: name for name in reversed(names)}
        near = [ends[end] for end in difflib.get_close_matches(last, ends, n=3, cutoff=0.6)]
    offered = ", ".join(repr(f"--{name}") for name in list(dict.fromkeys(near))[:3])
    hint = f"did you mean {offered}?" if offered else "`hfcourse show NAME` prints every setting"
    return f"unknown setting '--{flag}': {hint}"


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


def _kind(cls: Any) -> str | None:
    """What tells a part from the others of its union; None where `kind` is a setting like any other."""
    return None if "kind" in _hints(cls) else getattr(cls, "kind", None)


def _required(cls: Any) -> list[dataclasses.Field[Any]]:
    """Fields that have no default."""
    missing = dataclasses.MISSING
    return [f for f in dataclasses.fields(cls) if f.init and f.default is missing and f.default_factory is missing]


def _leaves(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every single setting by its dotted name, with its type."""
    hints = _hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, hints[field.name]


def _spelt_out(flag: str, aliases: Mapping[str, str]) -> str:
    """``peft.rank`` as ``finetune.peft.rank``, where settings lend a nested part a name of its own."""
    first, dot, rest = flag.partition(".")
    if first.removeprefix("no_") in aliases and first not in aliases:
        return f"no_{aliases[first.removeprefix('no_')]}{dot}{rest}"
    return aliases.get(first, first) + dot + rest


def _short_names(config: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Parts whose own name stands for one of their settings: ``peft`` for ``peft.method``."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            name = prefix + field.name
            if hasattr(value, "named_by"):
                yield name, f"{name}.{value.named_by}"
            yield from _short_names(value, f"{name}.")


def _hints(cls: Any) -> dict[str, Any]:
    """Field names and their types."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _convert(value: Any, hint: Any, where: str, key: str) -> Any:
    """`value`, a string or already of its type, as `hint`; ConfigError if it cannot be."""
    parts = [option for option in typed.options(hint) if dataclasses.is_dataclass(option)]
    if parts and not (value is None and type(None) in typed.options(hint)):
        return _convert_part(value, parts, where, key)
    try:
        return typed.convert(value, hint)
    except ValueError:
        choices = typed.choices(hint)
        if choices and not isinstance(value, Mapping):
            raise ConfigError(_at(where, unknown(f"value of {key}", typed.odd_one(value, hint), choices))) from None
        raise ConfigError(_at(where, f"{key} is {value!r}: expected {typed.words(hint)}")) from None


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


def _at(where: str, message: str) -> str:
    return f"{where}: {message}" if where else message


def _commented(config: Any, indent: str) -> Iterator[str]:
    help_of, hints = field_help(type(config)), _hints(type(config))
    kind = _kind(type(config))
    if kind and indent:
        yield f"{indent}kind: {kind}"
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        text = help_of.get(field.name, "")
        choices = typed.choices(hints[field.name])
        if choices:
            text += f" [{' | '.join(choices)}]"
        for line in textwrap.wrap(text.strip(), 110 - len(indent)):
            yield f"{indent}# {line}"
        if dataclasses.is_dataclass(value):
            yield f"{indent}{field.name}:"
            yield from _commented(value, indent + "  ")
        else:
            yield f"{indent}{field.name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    """A value on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True)
    lines = text.removesuffix("...\n").strip("\n").split("\n")
    return lines[0] if len(lines) == 1 else json.dumps(value)  # a line break inside: JSON is YAML too


def field_help(cls: Any) -> dict[str, str]:
    """The docstring under each field, its own class's and its bases'."""
    texts: dict[str, str] = {}
    bases: list[Any] = [base for base in cls.__mro__ if dataclasses.is_dataclass(base)]
    for base in reversed(bases):
        body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr):
                value = text.value
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    texts[field.target.id] = " ".join(value.value.split())
    return texts
