"""Text files as they are, to the last character: what character-level language models learn from.

``data_dir`` is one file of any name, or a folder of .txt files (also .gz). A file is one document, line ends and blank
lines included. Files whose names hold train, dev or test make splits; of every other one the first 90 % of the
characters are ``train`` and the rest is ``dev``, as in nanoGPT.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from .base import files_by_split, fingerprint_of, raw_files, read_text

_TRAIN = 0.9


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return fingerprint_of(__file__, raw_files(data_dir))


class Charlm(datasets.GeneratorBasedBuilder):
    """A row is a file, or a part of it."""

    VERSION = datasets.Version("1.0.0")
    LAYOUT = "a text file, or a folder of .txt files"

    def _info(self) -> datasets.DatasetInfo:
        # An Arrow array of ordinary strings ends at 2 GB.
        return datasets.DatasetInfo(features=datasets.Features({"text": datasets.Value("large_string")}))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        root = self.config.data_dir
        lone = len(raw_files(root)) == 1  # a single file is text whatever it is called
        found = {None: raw_files(root)} if lone else files_by_split(root, r"\.(txt|text|raw|tokens)$")
        if not any(found.values()):
            raise FileNotFoundError(f"{root or 'no data_dir'}: expected {self.LAYOUT}")
        whole = {str(split): [(path, 0.0, 1.0) for path in paths] for split, paths in found.items() if split}
        for path in found.get(None, []):
            whole.setdefault("train", []).append((path, 0.0, _TRAIN))
            whole.setdefault("dev", []).append((path, _TRAIN, 1.0))
        return [datasets.SplitGenerator(split, {"parts": parts}) for split, parts in whole.items()]

    def _generate_examples(self, parts: list[tuple[Path, float, float]]) -> Iterator[tuple[int, dict[str, str]]]:
        for number, (path, start, end) in enumerate(parts):
            text = read_text(path, exact=True)
            if piece := text[int(start * len(text)) : int(end * len(text))]:
                yield number, {"text": piece}
