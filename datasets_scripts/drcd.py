"""DRCD (arXiv 1806.00920): extractive question answering in traditional Chinese, in SQuAD's layout.

``data_dir`` is a folder with ``DRCD_training.json``, ``DRCD_dev.json``, ``DRCD_test.json`` (also .gz), or one file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from . import squad
from .base import fingerprint_of, raw_files


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return fingerprint_of(__file__, [Path(squad.__file__), *raw_files(data_dir)])


class Drcd(datasets.GeneratorBasedBuilder):
    """Rows are questions."""

    VERSION = datasets.Version("1.0.0")

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=datasets.Features(squad.FEATURES))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return squad.split_generators(self.config.data_dir, "DRCD_training.json, DRCD_dev.json and DRCD_test.json")

    def _generate_examples(self, paths: list[Path]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(row for path in paths for row in squad.questions(path))
