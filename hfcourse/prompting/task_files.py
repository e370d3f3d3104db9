"""YAML of a task with the line of every value, what it includes, and ``!function`` as a name that is not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hfcourse.errors import ConfigError, unknown


@dataclass(frozen=True)
class Function:
    """``!function module.name``: a Python function of a file beside the YAML."""

    name: str
    folder: Path


@dataclass(frozen=True)
class Entry:
    """A mapping of a task file, and where each of its values stands."""

    values: Any
    lines: Mapping[str, str]
    """Dotted path -> file and line."""
    path: str = ""
    """Of this mapping, with a dot at its end."""

    def __contains__(self, key: str) -> bool:
        """Whether the file gives a value that is not null."""
        return self.plain(key) is not None

    def where(self, key: str = "") -> str:
        """File and line of a value."""
        place = (self.path + key).rstrip(".")
        return f"{self.lines.get(place, self.lines[''])}, {place}" if place else self.lines[""]

    def refused(self, key: str, why: str) -> ConfigError:
        """The error of a value that cannot be taken."""
        return ConfigError(f"{self.where(key)}: {why}")

    def plain(self, key: str, default: Any = None) -> Any:
        """A value as YAML gives it."""
        found = self.values.get(key)
        return default if found is None else found

    def mapping(self, key: str = "") -> Mapping[str, Any]:
        """A mapping of plain values, empty where it is not there."""
        found = self.values if not key else self.plain(key, {})
        if not isinstance(found, Mapping):
            raise self.refused(key, f"expected `key: value` lines, not {found!r}")
        return found

    def under(self, key: str) -> Entry:
        """A mapping inside this one."""
        return Entry(self.mapping(key), self.lines, f"{self.path}{key}.")

    def items(self, key: str) -> Iterator[Entry]:
        """The mappings of a list inside this one."""
        found = self.plain(key, [])
        if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
            raise self.refused(key, "expected a list of `- key: value` entries")
        for number, one in enumerate(found):
            yield Entry(one, self.lines, f"{self.path}{key}.{number}.")

    def only(self, known: set[str], kind: str) -> None:
        """Refuse a key that nobody reads."""
        for key, value in self.values.items():
            if key not in known and value is not None:
                raise self.refused(str(key), f"not supported: {unknown(kind, str(key), known)}")

    def choice(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        """A word out of some."""
        found = self.plain(key, default)
        if found != default and found not in allowed:
            name = found.name if isinstance(found, Function) else str(found)
            raise self.refused(key, f"not supported: {unknown(key, name, allowed)}")
        return str(found)

    def whole(self, key: str) -> int | None:
        """A whole number, 0 or more; None where it is not there."""
        found = self.plain(key)
        if found is not None and (not isinstance(found, int) or isinstance(found, bool) or found < 0):
            raise self.refused(key, f"expected a whole number, not {found!r}")
        return found

    def number(self, key: str, default: float) -> float:
        """A number, 0 or more."""
        try:
            found = float(self.plain(key, default))
        except (TypeError, ValueError):
            found = -1.0
        if not 0 <= found < float("inf"):
            raise self.refused(key, f"expected a number of 0 or more, not {self.plain(key)!r}")
        return found


def read(path: Path) -> Entry:
    """A file and all that it includes; what the file says itself goes before what it includes.

    Raises:
        ConfigError: a file that is not there, no YAML, files that include each other.
    """
    values, lines = _read(path.expanduser(), ())
    return Entry(values, lines)


def _read(path: Path, above: tuple[Path, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    if path.resolve() in above:
        raise ConfigError(f"{path}: it includes itself (through {above[-1].name}): take one include out")
    values, lines = _parsed(path)
    includes = values.pop("include", None) or []
    merged: dict[str, Any] = {}
    places: dict[str, str] = {}
    for name in includes if isinstance(includes, list) else [includes]:
        below, below_lines = _read(path.parent / str(name), (*above, path.resolve()))
        merged |= below
        places |= below_lines
    return merged | values, places | lines


def _parsed(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(f"{path}: cannot read the task ({reason}): give a .yaml file") from error
    loader = _loader(path.parent)(text)
    try:
        node = loader.get_single_node()
        values = loader.construct_document(node) if node is not None else None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(f"{path}{line}: not YAML ({problem})") from error
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected `key: value` lines of a task")
    try:
        return values, {"": str(path)} | dict(_lines(node, path, ""))
    except RecursionError as error:
        raise ConfigError(f"{path}: a value holds itself: take out its alias (*)") from error


def _loader(folder: Path) -> type[yaml.SafeLoader]:
    class Loader(yaml.SafeLoader):
        """Plain values, and functions by their names."""

    def function(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> Function:
        return Function(str(loader.construct_scalar(node)), folder)

    Loader.add_constructor("!function", function)
    return Loader


def _lines(node: yaml.Node | None, path: Path, place: str) -> Iterator[tuple[str, str]]:
    """(dotted path, file and line) of every value."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield f"{place}{key.value}", f"{path}, line {key.start_mark.line + 1}"
            yield from _lines(value, path, f"{place}{key.value}.")
    if isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield f"{place}{number}", f"{path}, line {value.start_mark.line + 1}"
            yield from _lines(value, path, f"{place}{number}.")
