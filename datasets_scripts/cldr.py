"""cldr: phrase pairs in any two of some 300 languages, from Babel's copy of Unicode's CLDR tables and num2words.

Always there, offline. A config is ``phrases`` or ``lexicon`` (English and French) or one of them with two BCP 47 tags:
``phrases_en_de``, ``lexicon_en_zh-Hant``. Of languages that num2words lacks there are no numbers in words.

The splits go by what is said (a territory, a number, a date). No phrase of a later split stands in an earlier one, in
either language, alone or as a part of another; so the small words that others are made of (months, numbers to a
hundred, units) are all in ``train``. That holds within a pair: a phrase of this pair's ``test`` may be one that
another pair, where other phrases hold it, has in ``train``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import datasets

from . import _splits
from .base import fingerprint_of

Row = dict[str, str]

CONFIGS = {
    "phrases": "Names, numbers, dates, times, durations, measures, money and lists of names, in two languages.",
    "lexicon": "Those that are one word in both languages, and not the same: each word stands in one pair.",
}
_DEFAULT_PAIR = ("en", "fr")
_PACKAGES = ("Babel", "num2words")
_MODULES = ("_cldr_locales.py", "_cldr_pairs.py", "_cldr_phrases.py", "_cldr_splits.py")
_COLUMNS = ("source", "target", "kind", "concept", "source_language", "target_language")


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the installed tables.

    Raises:
        FileNotFoundError: they are not installed.
        ValueError: a folder is given.
    """
    if data_dir is not None:
        raise ValueError(f"it reads the tables that are installed, and no files: leave out {data_dir}")
    try:
        versions = [f"{name}=={metadata.version(name)}" for name in _PACKAGES]
    except metadata.PackageNotFoundError as error:
        raise FileNotFoundError(f"no package {error.name}: pip install {' '.join(_PACKAGES)}") from error
    sources = [Path(str(_splits.__file__)), *(Path(__file__).with_name(name) for name in _MODULES)]
    return fingerprint_of(
        __file__, extra="\n".join([*versions, *(path.read_text(encoding="utf-8") for path in sources)])
    )


def configs(data_dir: str | None) -> list[str]:
    """None are listed, for there are as many as pairs of languages: `pair_of` judges a name."""
    return []


class Cldr(datasets.GeneratorBasedBuilder):
    """See `CONFIGS`."""

    VERSION = datasets.Version("1.0.0")
    DEFAULT_CONFIG_NAME = "phrases"

    def _info(self) -> datasets.DatasetInfo:
        text = datasets.Value("string")
        return datasets.DatasetInfo(features=datasets.Features(dict.fromkeys(_COLUMNS, text)))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        from ._cldr_pairs import made, one_to_one

        kind, source, target = pair_of(self.config.name)
        splits = made(source, target)
        if kind == "lexicon":
            splits = one_to_one(splits)
        if not any(splits.values()):
            raise ValueError(f"{self.config.name}: CLDR says nothing in both {source} and {target}")
        splits = {split: _splits.sampled(rows, len(rows)) for split, rows in splits.items()}  # the first: of all kinds
        return [datasets.SplitGenerator(split, {"rows": rows}) for split, rows in splits.items() if rows]

    def _generate_examples(self, rows: list[Row]) -> Iterator[tuple[int, Row]]:
        yield from enumerate(rows)


def pair_of(config: str) -> tuple[str, str, str]:
    """``lexicon_en_zh-Hant`` -> ``lexicon``, ``en``, ``zh-Hant``.

    Raises:
        ValueError: no such kind, or not two languages.
    """
    kind, *pair = config.split("_")
    if kind not in CONFIGS:
        near = difflib.get_close_matches(kind, CONFIGS, n=1) or [" or ".join(CONFIGS)]
        raise ValueError(f"unknown config {config!r}: did you mean {'_'.join([near[0], *pair])!r}?")
    source, target = pair if len(pair) == 2 else ("", "") if pair else _DEFAULT_PAIR
    if not source or not target or source.lower() == target.lower():
        raise ValueError(
            f"config {config!r} names no two languages: write them as in {kind}_en_de or {kind}_en_zh-Hant"
        )
    return kind, source, target
