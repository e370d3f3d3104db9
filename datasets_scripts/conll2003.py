"""CoNLL-2003 (cs/0306050) and other files of a word and its tags a line, blank lines between sentences.

``data_dir`` is a folder with ``train``, ``dev`` (``valid``, ``testa``) and ``test`` (``testb``) files, or one file. The
first column is the word, the last the tag; IOB1 tags become IOB2.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from .base import files_by_split, fingerprint_of, raw_files, read_text

_DOCUMENT = "-DOCSTART-"
_NAMES = r"\.(txt|conll|conll03|iob2?|bio|tsv|train|dev|test|test[ab])$|^[^.]+$"


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return fingerprint_of(__file__, raw_files(data_dir))


class Conll2003(datasets.GeneratorBasedBuilder):
    """Rows are sentences: ``tokens`` and ``tags``."""

    VERSION = datasets.Version("1.0.0")

    def _info(self) -> datasets.DatasetInfo:
        words = datasets.List(datasets.Value("string"))
        return datasets.DatasetInfo(features=datasets.Features({"tokens": words, "tags": words}))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return split_generators(self.config.data_dir, _NAMES)

    def _generate_examples(self, paths: list[Path]) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (words, tags) in enumerate(pair for path in paths for pair in sentences(path)):
            yield number, {"tokens": words, "tags": iob2(tags)}


def split_generators(data_dir: str | None, pattern: str) -> list[datasets.SplitGenerator]:
    """Files by split, read off their names; a lone file whose name tells none is ``train``.

    Raises:
        FileNotFoundError: no file whose name fits.
    """
    splits = files_by_split(data_dir, pattern)
    unnamed = splits.pop(None, [])
    if len(unnamed) == 1 and not splits:
        splits = {"train": unnamed}
    if not splits:
        raise FileNotFoundError(f"{data_dir or 'no data_dir'}: expected a file, or files named train, dev and test")
    return [datasets.SplitGenerator(str(split), {"paths": paths}) for split, paths in splits.items()]


def sentences(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """(words, tags) of each sentence; document marks are left out.

    Raises:
        ValueError: a line with a word but no tag.
    """
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        # A space that does not break (in "1 000") is part of a word.
        cells = line.split("\t") if "\t" in line else [cell for cell in line.split(" ") if cell]
        if not line.strip():
            if words:
                yield words, tags
            words, tags = [], []
        elif cells[0] != _DOCUMENT:
            if len(cells) < 2:
                raise ValueError(f"{path}, line {number}: a word without a tag: {line!r}")
            words.append(cells[0])
            tags.append(cells[-1].strip())
    if words:
        yield words, tags


def iob2(tags: list[str]) -> list[str]:
    """Every entity starts with B-: an I- after another type (or nothing) becomes one."""
    fixed = []
    before = "O"
    for tag in tags:
        if tag.startswith("I-") and before[2:] != tag[2:]:
            fixed.append("B-" + tag[2:])
        else:
            fixed.append(tag)
        before = tag if tag[:2] in {"B-", "I-"} else "O"
    return fixed
