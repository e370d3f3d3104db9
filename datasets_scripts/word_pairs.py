"""Word-pair tasks for prompts (antonyms, capitals, translation), in the form of function vectors (arXiv 2310.15213).

``data_dir`` is a folder of ``NAME.json`` (or one such file), each a list of objects with ``input`` and ``output``; a
config is a name, such as ``country-capital``. A quarter of the inputs, drawn by their text alone, is ``train``, where
examples for a prompt come from; the rest is ``test``. An input with several outputs is in one of them, and so is a pair
whose mirror image is there too (``hot``: ``cold``, ``cold``: ``hot``), lest an example give the answer away.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from . import _examples
from .base import fingerprint_of, raw_files, read_json

_COLUMNS = ("input", "output")
_ENDINGS = (".json", ".json.gz")


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return fingerprint_of(__file__, [*raw_files(data_dir), Path(str(_examples.__file__))])


def configs(data_dir: str | None) -> list[str]:
    """The names of the files."""
    return list(_examples.files_by_name(data_dir, *_ENDINGS))


class WordPairs(datasets.GeneratorBasedBuilder):
    """Rows are pairs, in the order of their file."""

    VERSION = datasets.Version("1.0.0")
    LAYOUT = "a folder of .json files, each a list of objects with input and output"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=datasets.Features(dict.fromkeys(_COLUMNS, datasets.Value("string"))))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        path = _examples.file_of(self.config, self.LAYOUT, *_ENDINGS)
        rows = list(_rows(path))
        return _examples.split_generators(rows, _keys(rows), path)

    def _generate_examples(self, rows: list[dict[str, str]]) -> Iterator[tuple[int, dict[str, str]]]:
        yield from enumerate(rows)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    items = read_json(path)
    if not isinstance(items, list):
        raise ValueError(f"{path}: expected a list of objects with input and output")
    for number, item in enumerate(items, start=1):
        texts = _examples.texts(item, _COLUMNS, f"{path}, item {number}")
        yield {name: text.strip() for name, text in zip(_COLUMNS, texts, strict=True)}


def _keys(rows: list[dict[str, str]]) -> list[str]:
    """Each row's input, or the first of the inputs that mirrored pairs tie to it."""
    pairs = {(row["input"], row["output"]) for row in rows}
    first = {word: word for word, _ in pairs}

    def home(word: str) -> str:
        while first[word] != word:
            word = first[word]
        return word

    for one, other in sorted(pairs):
        if (other, one) in pairs:
            low, high = sorted((home(one), home(other)))
            first[high] = low
    return [home(row["input"]) for row in rows]
