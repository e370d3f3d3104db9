"""pydocs: the documentation of what is installed, with gold labels that come from the code.

Always there, offline: Python's standard library and language reference, and the package's own dependencies, read with
`ast`. Built on the user's machine and never redistributed; it changes with the installed versions, so published
numbers name theirs. Splits go by top-level package (in the standard library: by module), for ``topic`` by module file;
``text`` holds back every module that any task tests on.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import datasets

from . import _docstrings as docs
from . import _prose, _sentences, _spans, _splits
from .base import fingerprint_of, raw_files

Record = dict[str, Any]

_CAPS = {"train": 20_000, "dev": 2000, "test": 2000}
CONFIGS = {
    "docstrings": "Every docstring with its signature and source: what the others are made from.",
    "text": "One row a module: its prose, in order. For pretraining.",
    "topic": "One sentence -> which package it documents.",
    "terms": "Words of a docstring -> parameter, type, exception or none.",
    "match": "Description + signature -> does one describe the other?",
    "answer": "Question + docstring -> span.",
    "summary": "A function's source -> the first line of its docstring.",
}
_MAKERS = {
    "text": _sentences.text,
    "topic": _sentences.topic,
    "terms": _spans.terms,
    "match": _sentences.match,
    "answer": _spans.answer,
    "summary": _sentences.summary,
}
# What no two splits of a config may share.
_KEYS = {"text": "text", "topic": "text", "terms": "tokens", "match": "text", "answer": "context", "summary": "source"}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder, the installed versions or the folder that is read instead."""
    sources = [Path(str(module.__file__)) for module in (docs, _prose, _sentences, _spans, _splits)]
    extra = "".join(path.read_text(encoding="utf-8") for path in sources)
    if data_dir is None:
        versions = [f"{name}=={_version(name)}" for name in docs.PACKAGES]
        extra += "\n".join([*versions, platform.python_version()])
    return fingerprint_of(__file__, raw_files(data_dir), extra)


def _version(name: str) -> str:
    try:
        return metadata.version({"sklearn": "scikit-learn"}.get(name, name))
    except metadata.PackageNotFoundError:
        return "none"


class Pydocs(datasets.GeneratorBasedBuilder):
    """See `CONFIGS`."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012

    def _info(self) -> datasets.DatasetInfo:
        text, words = datasets.Value("string"), datasets.List(datasets.Value("string"))
        where = {"package": text, "module": text}
        parameters = datasets.List({"name": text, "annotation": text, "default": text})
        entries = datasets.List({"section": text, "name": text, "kind": text, "text": text})
        features = {
            "docstrings": where
            | {"name": text, "kind": text, "doc": text, "paragraphs": words, "entries": entries}
            | {"parameters": parameters, "raises": words, "source": text},
            "text": {"text": text, **where},
            "topic": {
                "text": text,
                "label": datasets.ClassLabel(names=list(_splits.plan_of(self.config.data_dir).topics)),
                "module": text,
            },
            "terms": {"tokens": words, "tags": datasets.List(datasets.ClassLabel(names=list(_spans.TAGS))), **where},
            "match": {"text": text, "text_pair": text, "label": datasets.ClassLabel(names=["no", "yes"]), **where},
            "answer": {
                "id": text,
                "question": text,
                "context": text,
                "answers": {"text": words, "answer_start": datasets.List(datasets.Value("int32"))},
            },
            "summary": {"source": text, "summary": text, **where},
        }
        description = CONFIGS[self.config.name]
        return datasets.DatasetInfo(description, features=datasets.Features(features[self.config.name]))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        if self.config.name == "docstrings":
            records = _distinct(docs.read_all(self.config.data_dir))
            if not records:
                raise ValueError(f"{self.config.data_dir}: no folders of Python files with docstrings in there")
            return [datasets.SplitGenerator("train", {"rows": records})]
        rows: dict[str, list[Record]] = {"train": [], "dev": [], "test": []}
        found = _MAKERS[self.config.name](self._docstrings(), _splits.plan_of(self.config.data_dir))
        for split, row in _without_leaks(found, _KEYS[self.config.name]):
            rows[split].append(row)
        if self.config.name != "text":
            rows = {split: _splits.sampled(found, _CAPS[split]) for split, found in rows.items()}
        return [datasets.SplitGenerator(split, {"rows": found}) for split, found in rows.items() if found]

    def _generate_examples(self, rows: list[Record]) -> Iterator[tuple[int, Record]]:
        yield from enumerate(rows)

    def _docstrings(self) -> list[Record]:
        """The table of all docstrings, built once for all configs."""
        hash_ = fingerprint(self.config.data_dir)
        builder = Pydocs(
            config_name="docstrings", data_dir=self.config.data_dir, hash=hash_, cache_dir=self._cache_dir_root
        )
        builder.download_and_prepare()
        return builder.as_dataset(split="train").remove_columns("doc").to_list()  # type: ignore[no-any-return]


def _without_leaks(rows: Iterator[tuple[str, Record]], key: str) -> Iterator[tuple[str, Record]]:
    """Each row once, and none in train whose `key` stands in dev or test, nor in dev what stands in test."""
    found: dict[str, tuple[str, Record]] = {}
    first_split: dict[str, set[str]] = {}
    for split, row in rows:
        found.setdefault(json.dumps(row), (split, row))
        first_split.setdefault(json.dumps(row[key]), set()).add(split)
    for split, row in found.values():
        if split == max(first_split[json.dumps(row[key])], key=("train", "dev", "test").index):
            yield split, row


def _distinct(records: list[Record]) -> list[Record]:
    """Without copies, without what several packages say word for word, and with at most two of near-copies.

    Near-copies differ in names and numbers alone, as in the many models of one library.
    """
    owners: dict[str, set[str]] = {}
    for record in records:
        owners.setdefault(record["doc"], set()).add(record["package"])
    seen: Counter[str] = Counter()
    kept = []
    for record in records:
        rough = re.sub(r"[A-Z][A-Za-z0-9]*|[a-z0-9]*[_\d][\w]*", "#", record["doc"][:400])
        exact = hashlib.sha256(record["doc"].encode()).hexdigest()
        seen[rough] += 1
        seen[exact] += 1
        if seen[rough] <= 2 and seen[exact] == 1 and len(owners[record["doc"]]) == 1:
            kept.append(record)
    return kept
