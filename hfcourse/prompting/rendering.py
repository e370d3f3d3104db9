"""How a row of a table becomes text: Jinja in its sandbox, columns by their names, values as they are.

A template comes out of a file that somebody else may have written: it can read the row and nothing else.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hfcourse.errors import ConfigError, DataError, unknown

Row = Mapping[str, Any]
Field = str | int | tuple[Any, ...] | Callable[[Row], Any]
"""Where a value comes from: a column's name or a template, a fixed value, or a function of the row."""


@functools.cache
def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["regex_replace"] = _regex_replace
    return environment


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    return re.sub(pattern, replacement, text, count=count)


@functools.lru_cache(maxsize=1024)
def _compiled(source: str) -> Template:
    return _environment().from_string(source)


def check(source: Any, where: str) -> None:
    """Refuse text that is no template.

    Raises:
        ConfigError: with the place and what Jinja says.
    """
    if not isinstance(source, str):
        return
    try:
        _compiled(source)
    except TemplateSyntaxError as error:
        raise ConfigError(f"{where}: not a Jinja template ({error.message}): {_short(source)}") from error


def render(source: str, row: Row, where: str) -> str:
    """A template with the columns of a row as its names.

    Raises:
        DataError: a name that is no column (with the nearest), or what the row's values cannot do.
        ConfigError: the template reaches for what the sandbox forbids.
    """
    try:
        return _compiled(source).render(**{str(name): value for name, value in row.items()})
    except UndefinedError as error:
        raise DataError(f"{where}: {_undefined(str(error), row)}, in {_short(source)}") from error
    except SecurityError as error:
        raise ConfigError(f"{where}: the template may not do this ({error}): {_short(source)}") from error
    except Exception as error:  # whatever a filter trips over
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{where}: {reason}, in {_short(source)}") from error


def value(field: Field, row: Row, where: str, *, numbers: bool = False, lists: bool = False) -> Any:
    """What a field says of a row: the column of its name as it is, the text of a template, or the value itself.

    Args:
        field: see `Field`.
        row: the columns.
        where: the task and the field's name, for errors.
        numbers: a text of digits is a number: the place of a choice.
        lists: a text in brackets is a list.
    """
    if callable(field):
        return field(row)
    if not isinstance(field, str):
        return list(field) if isinstance(field, tuple) else field
    if field in row:
        return row[field]
    text = render(field, row, where)
    if numbers and text.isdecimal():
        return int(text)
    if lists and len(text) >= 2 and text[0] == "[" and text[-1] == "]":
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            return text
    return text


def choices(field: Field, row: Row, where: str) -> list[str]:
    """The answers to choose from.

    Raises:
        DataError: the field gives no list, or an empty one.
    """
    found = value(field, row, where, lists=True)
    if isinstance(found, str):  # a list with white space around it, or in round brackets
        with contextlib.suppress(SyntaxError, ValueError):
            found = ast.literal_eval(found.strip())
    if not isinstance(found, list | tuple) or not found:
        raise DataError(f"{where}: expected a list of choices, and a row gives {_short(str(found))}")
    return [str(one) for one in found]


def _undefined(message: str, row: Row) -> str:
    """Jinja's "'x' is undefined" with the nearest column; its other messages as they are."""
    name = re.fullmatch(r"'(\w+)' is undefined", message)
    if name is None:
        return message
    return unknown("column", name.group(1), row) + f" (columns: {', '.join(row)})"


def _short(text: str) -> str:
    line = repr(text)
    return line if len(line) <= 80 else line[:76] + "...'"
