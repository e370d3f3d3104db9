"""The arithmetic and word-scrambling tasks of GPT-3 (arXiv 2005.14165), and any file in their form.

``data_dir`` is a folder of ``NAME.jsonl`` or ``NAME.jsonl.gz`` (or one such file) whose lines are objects with
``context`` and ``completion``; a config is a name. A quarter of the contexts, drawn by their text alone, is ``train``,
where examples for a prompt come from; the rest is ``test``.

A context begins and ends without blanks: the blank lines before it in the published files part it from what a prompt
shows before. A completion keeps those that part it from the context, so that ``context + completion`` is the text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets

from . import _examples
from .base import fingerprint_of, raw_files, read_text

_COLUMNS = ("context", "completion")
_ENDINGS = (".jsonl", ".jsonl.gz")


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return fingerprint_of(__file__, [*raw_files(data_dir), Path(str(_examples.__file__))])


def configs(data_dir: str | None) -> list[str]:
    """The names of the files."""
    return list(_examples.files_by_name(data_dir, *_ENDINGS))


class Gpt3Tasks(datasets.GeneratorBasedBuilder):
    """Rows are questions, in the order of their file."""

    VERSION = datasets.Version("1.0.0")
    LAYOUT = "a folder of .jsonl or .jsonl.gz files with context and completion"

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=datasets.Features(dict.fromkeys(_COLUMNS, datasets.Value("string"))))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        path = _examples.file_of(self.config, self.LAYOUT, *_ENDINGS)
        rows = list(_rows(path))
        return _examples.split_generators(rows, [row["context"] for row in rows], path)

    def _generate_examples(self, rows: list[dict[str, str]]) -> Iterator[tuple[int, dict[str, str]]]:
        yield from enumerate(rows)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                item = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where}: not JSON ({error.msg})") from error
            context, completion = _examples.texts(item, _COLUMNS, where)
            body, answer = context.rstrip(), completion.lstrip()
            gap = context[len(body) :] + completion[: len(completion) - len(answer)]
            yield {"context": body.lstrip(), "completion": gap + answer.rstrip()}
