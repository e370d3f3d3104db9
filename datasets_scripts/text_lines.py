"""Any plain-text corpus: .txt and .gz files, one row a line, a paragraph or a file.

``data_dir`` is a folder or one file; files whose names hold train, dev or test make splits, others are ``train``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from .base import files_by_split, fingerprint_of, raw_files, read_text

CONFIGS = {"line": "A row a line.", "paragraph": "A row a stretch between blank lines.", "document": "A row a file."}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return fingerprint_of(__file__, raw_files(data_dir))


class TextLines(datasets.GeneratorBasedBuilder):
    """See `CONFIGS`."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "line"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=datasets.Features({"text": datasets.Value("string")}))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        lone = len(raw_files(self.config.data_dir)) == 1  # a single file is text whatever it is called
        splits = files_by_split(self.config.data_dir, "" if lone else r"\.(txt|text|raw|tokens)$")
        if not splits:
            raise FileNotFoundError(f"{self.config.data_dir or 'no data_dir'}: expected .txt or .txt.gz files")
        splits["train"] = splits.get("train", []) + splits.pop(None, [])
        return [datasets.SplitGenerator(str(split), {"paths": paths}) for split, paths in splits.items() if paths]

    def _generate_examples(self, paths: list[Path]) -> Iterator[tuple[int, dict[str, str]]]:
        pieces = (piece for path in paths for piece in _pieces(read_text(path), self.config.name))
        for number, piece in enumerate(piece for piece in pieces if piece.strip()):
            yield number, {"text": piece.strip()}


def _pieces(text: str, kind: str) -> list[str]:
    if kind == "document":
        return [text]
    return re.split(r"\n\s*\n", text) if kind == "paragraph" else text.split("\n")
