"""Texts made of templates: what a template has in braces is drawn from the list of that name.

Lists stand in plain text, ``name: one two three`` or ``name: one thing | another``; a line that begins with a space
goes on with the one before. Parallel templates draw the same row of a table for every language.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from ._splits import share

Item = TypeVar("Item")
Row = tuple[str, ...]

# Where the shares of the splits end.
_ENDS = {"test": 0.3, "dev": 0.5, "train": 1.0}
_MOST_DRAWS, _PATIENCE = 2000, 60


def lists(text: str) -> dict[str, list[str]]:
    """The lists that a text holds, by name."""
    found = {}
    for line in re.sub(r"\n\s+", " ", text.strip()).splitlines():
        name, _, items = line.partition(": ")
        found[name] = [item.strip() for item in items.split("|")] if "|" in items else items.split()
    return found


def tables(text: str) -> dict[str, list[Row]]:
    """The tables that a text holds, by name: a row a line, a language a column."""
    found: dict[str, list[Row]] = {}
    for line in text.strip().splitlines():
        if line.endswith(":") and not line.startswith(" "):
            rows = found.setdefault(line[:-1], [])
        else:
            rows.append(tuple(cell.strip() for cell in line.split("|")))
    return found


def pick(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    """One of the items."""
    return items[int(rng.integers(len(items)))]


def filled(
    rng: np.random.Generator, template: str, named: Mapping[str, Sequence[str]], inside: str = ""
) -> Iterator[tuple[str, str]]:
    """The words of a template, each with the list in capitals that it comes from (in small letters; empty: none)."""
    for piece in re.findall(r"{\w+}|[^{}\s]+", template):
        if piece.startswith("{"):
            name = piece[1:-1]
            yield from filled(rng, pick(rng, named[name]), named, name.lower() if name.isupper() else inside)
        else:
            yield piece, inside


def parallel(rng: np.random.Generator, templates: Sequence[Row], named: Mapping[str, Sequence[Row]]) -> list[str]:
    """One template in all languages. ``{who}`` and ``{who2}`` are different rows of the table ``who``."""
    template = pick(rng, templates)
    names = sorted(set(re.findall(r"{(\w+)}", " ".join(template))))
    orders = {name: rng.permutation(len(named[name])) for name in dict.fromkeys(name.rstrip("2") for name in names)}
    rows = {name: named[name.rstrip("2")][orders[name.rstrip("2")][int(name.endswith("2"))]] for name in names}
    texts = [re.sub(r"{(\w+)}", lambda match, k=k: rows[match[1]][k], text) for k, text in enumerate(template)]
    return [" ".join(text.split()) for text in texts]


def split_of(text: str) -> str:
    """The one split in which a text may be said: train (half of them), dev or test."""
    return next(split for split, end in _ENDS.items() if share(f"spoken/{text}") < end)


def drawn(make: Callable[[], Item], split: str, said: set[str], text: Callable[[Item], str] = str) -> Item:
    """The first draw whose text belongs to a split and was not said yet; a repeated one where there are few others.

    Raises:
        ValueError: no text of that split in many draws.
    """
    for turn in range(_MOST_DRAWS):
        item = make()
        words = text(item)
        if split_of(words) == split and (words not in said or turn >= _PATIENCE):
            said.add(words)
            return item
    raise ValueError(f"no text of split {split!r} in {_MOST_DRAWS} draws: give the templates more words")


def written(text: str) -> str:
    """A transcript: small letters, a space between Chinese characters, no punctuation but ' and - inside words."""
    return " ".join(re.findall(r"[\u4e00-\u9fff]|[^\W\d_\u4e00-\u9fff]+(?:['-][^\W\d_]+)*", text.lower()))
