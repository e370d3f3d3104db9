"""SQuAD v1.1 and v2 (arXiv 1606.05250, 1806.03822), or any file of their layout.

``data_dir`` is a folder with ``train-*.json`` and ``dev-*.json``, or one file (.gz too).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from .base import files_by_split, fingerprint_of, raw_files, read_json

FEATURES = {
    "id": datasets.Value("string"),
    "title": datasets.Value("string"),
    "context": datasets.Value("string"),
    "question": datasets.Value("string"),
    "answers": {
        "text": datasets.List(datasets.Value("string")),
        "answer_start": datasets.List(datasets.Value("int32")),
    },
}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return fingerprint_of(__file__, raw_files(data_dir))


class Squad(datasets.GeneratorBasedBuilder):
    """Rows are questions; ``answers`` is empty where there is none (v2)."""

    VERSION = datasets.Version("1.0.0")

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=datasets.Features(FEATURES))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        return split_generators(self.config.data_dir, "train-v1.1.json and dev-v1.1.json")

    def _generate_examples(self, paths: list[Path]) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(row for path in paths for row in questions(path))


def split_generators(data_dir: str | None, expected: str) -> list[datasets.SplitGenerator]:
    """JSON files by split, read off their names; those whose names tell none are ``train``.

    Raises:
        FileNotFoundError: no JSON file, with what is expected.
    """
    splits = files_by_split(data_dir, r"\.json$")
    if not splits:
        raise FileNotFoundError(f"{data_dir or 'no data_dir'}: expected a file or a folder with {expected} (also .gz)")
    splits["train"] = splits.get("train", []) + splits.pop(None, [])
    return [datasets.SplitGenerator(str(split), {"paths": paths}) for split, paths in splits.items() if paths]


def questions(path: Path) -> Iterator[dict[str, Any]]:
    """All questions of one file.

    Raises:
        ValueError: not JSON (with the line), or not SQuAD's layout.
    """
    articles = read_json(path)
    try:
        for article in articles["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    yield row(article.get("title", ""), paragraph["context"], question)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path}: not SQuAD's layout: data > paragraphs > qas, lacking {error}") from error


def row(title: str, context: str, question: dict[str, Any]) -> dict[str, Any]:
    """One question of SQuAD's layout as a row; none of its answers if it is marked as impossible."""
    given = [] if question.get("is_impossible") else question.get("answers", [])
    # Some sets repeat an answer for each annotator.
    answers = list(dict.fromkeys((answer["text"], int(answer.get("answer_start", -1))) for answer in given))
    answers = [(text, _nearest(context, text, start)) for text, start in answers]
    return {
        "id": str(question["id"]),
        "title": title or "",
        "context": context,
        "question": question["question"],
        "answers": {"text": [text for text, _ in answers], "answer_start": [start for _, start in answers]},
    }


def _nearest(context: str, text: str, start: int) -> int:
    """`start`, or where the text stands nearest to it; `start` again where it stands nowhere (the task decides)."""
    if context[start : start + len(text)] == text and start >= 0:
        return start
    found = [match.start() for match in re.finditer(re.escape(text), context)]
    return min(found, key=lambda at: abs(at - start)) if found else start
