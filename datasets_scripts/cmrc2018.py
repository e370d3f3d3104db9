"""CMRC 2018 (arXiv 1810.07366): extractive question answering in simplified Chinese.

``data_dir`` is a folder with ``cmrc2018_train.json``, ``cmrc2018_dev.json``, ``cmrc2018_trial.json`` (also .gz), in the
original flat layout (a list of passages with ``context_text`` and ``qas``) or in SQuAD's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from . import squad
from .base import fingerprint_of, raw_files, read_json


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return fingerprint_of(__file__, [Path(squad.__file__), *raw_files(data_dir)])


class Cmrc2018(datasets.GeneratorBasedBuilder):
    """Rows are questions."""

    VERSION = datasets.Version("1.0.0")

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=datasets.Features(squad.FEATURES))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return squad.split_generators(self.config.data_dir, "cmrc2018_train.json and cmrc2018_dev.json")

    def _generate_examples(self, paths: list[Path]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(row for path in paths for row in _questions(path))


def _questions(path: Path) -> Iterator[dict[str, Any]]:
    passages = read_json(path)
    if isinstance(passages, dict):
        yield from squad.questions(path)
        return
    try:
        for passage in passages:
            context = passage["context_text"]
            for question in passage["qas"]:
                answers = [{"text": text, "answer_start": context.find(text)} for text in question["answers"]]
                row = {"id": question["query_id"], "question": question["query_text"], "answers": answers}
                yield squad.row(passage.get("title", ""), context, row)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not CMRC's layout: context_text and qas, lacking {error}") from error
