"""Universal Dependencies treebanks (CoNLL-U): words and parts of speech.

``data_dir`` is a folder with ``*-ud-train.conllu``, ``*-ud-dev.conllu``, ``*-ud-test.conllu`` (also .gz), or one file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from . import conll2003
from .base import fingerprint_of, raw_files, read_text

_COLUMNS = {"upos": 3, "xpos": 4}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return fingerprint_of(__file__, [Path(conll2003.__file__), *raw_files(data_dir)])


class Conllu(datasets.GeneratorBasedBuilder):
    """``upos``: universal parts of speech; ``xpos``: the treebank's own."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name) for name in _COLUMNS]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "upos"

    def _info(self) -> datasets.DatasetInfo:
        words = datasets.List(datasets.Value("string"))
        return datasets.DatasetInfo(features=datasets.Features({"tokens": words, "tags": words}))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return conll2003.split_generators(self.config.data_dir, r"\.conllu$")

    def _generate_examples(self, paths: list[Path]) -> Iterator[tuple[int, dict[str, Any]]]:
        pairs = (pair for path in paths for pair in _sentences(path, _COLUMNS[self.config.name]))
        for number, (words, tags) in enumerate(pairs):
            yield number, {"tokens": words, "tags": tags}


def _sentences(path: Path, column: int) -> Iterator[tuple[list[str], list[str]]]:
    """(words, tags) of each sentence: syntactic words, without the surface forms of ranges and without empty nodes."""
    words: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*read_text(path).split("\n"), ""], start=1):
        if not line.strip():
            if words:
                yield words, tags
            words, tags = [], []
            continue
        if line.startswith("#"):
            continue
        cells = line.split("\t")
        if len(cells) != 10:
            raise ValueError(f"{path}, line {number}: {len(cells)} columns, CoNLL-U has 10")
        if cells[0].isdigit():
            words.append(cells[1])
            tags.append(cells[column])
