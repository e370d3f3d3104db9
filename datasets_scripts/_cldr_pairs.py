"""Two languages side by side: rows of cldr by split."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from babel import Locale

from ._cldr_locales import opened
from ._cldr_phrases import has_letters, joined, joins, phrases
from ._cldr_splits import SPLITS, Splits
from ._splits import share

Row = dict[str, str]
Sides = dict[str, Locale]

_WORDS = ("territory", "language", "script", "currency", "city", "unit", "month", "day", "number", "ordinal")
_LISTED = ("territory", "language", "city")


def made(source: str, target: str) -> dict[str, list[Row]]:
    """Each split's pairs, each pair once; with lists of names that stand in the same split.

    Raises:
        ValueError: an unknown language.
    """
    locales = {"source": opened(source), "target": opened(target)}
    pairs = _distinct(_pairs(locales, {"source_language": source, "target_language": target}))
    splits = Splits((row["concept"], row[side]) for row in pairs for side in locales)
    found: dict[str, list[Row]] = {split: [] for split in SPLITS}
    for row in pairs:
        found[splits[row["concept"]]].append(row)
    for split, rows in found.items():
        lists = _lists(rows, locales)
        allowed = [row for row in lists if all(splits.may_hold(split, row[side]) for side in locales)]
        found[split] = _distinct([*rows, *allowed])
    return found


def one_to_one(splits: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """The pairs of single words that differ, but for those one word of which stands in an earlier pair."""
    seen: dict[str, set[str]] = {"source": set(), "target": set()}
    kept: dict[str, list[Row]] = {split: [] for split in splits}
    for split, row in ((split, row) for split, rows in splits.items() for row in rows):
        words = {side: row[side].casefold() for side in seen}
        single = row["kind"] in _WORDS and not any(" " in word for word in words.values())
        if single and words["source"] != words["target"] and all(words[side] not in seen[side] for side in seen):
            kept[split].append(row)
            for side, word in words.items():
                seen[side].add(word)
    return kept


def _pairs(locales: Sides, languages: Row) -> Iterator[Row]:
    """What both languages say; digits alone are left out, a time would be the same in most languages."""
    source, target = (phrases(locale) for locale in locales.values())
    for said, text in source.items():
        if said in target and (has_letters(text) or has_letters(target[said])):
            yield {"source": text, "target": target[said], "kind": said.kind, "concept": said.concept} | languages


def _lists(rows: list[Row], locales: Sides) -> Iterator[Row]:
    """Two or three names of a kind joined by and, and by or; every name about once in each."""
    styles = [style for style in ("standard", "or") if all(joins(style, locale) for locale in locales.values())]
    for kind, style in itertools.product(_LISTED, styles):
        named = [row for row in rows if row["kind"] == kind]
        named.sort(key=lambda row: share(f"{style} {row['concept']}"))
        for start, end in _chunks(len(named)):
            chosen = named[start:end]
            texts = {side: joined([row[side] for row in chosen], style, locale) for side, locale in locales.items()}
            concept = "/".join(["list", style, *(row["concept"] for row in chosen)])
            yield chosen[0] | texts | {"kind": "list", "concept": concept}


def _chunks(length: int) -> Iterator[tuple[int, int]]:
    """Two, three, two, three of so many; what is left over at the end stays out."""
    start, size = 0, 2
    while start + size <= length:
        yield start, start + size
        start, size = start + size, 5 - size


def _distinct(rows: Iterable[Row]) -> list[Row]:
    """Each pair once, under the first kind that has it."""
    found: dict[tuple[str, str], Row] = {}
    for row in rows:
        found.setdefault((row["source"], row["target"]), row)
    return list(found.values())
