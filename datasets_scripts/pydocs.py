"""pydocs: the documentation of what is installed, with gold labels that come from the code.

Always there, offline: Python's standard library and language reference, and the package's own dependencies, read with
`ast`. Built on the user's machine and never redistributed; it changes with the installed versions, so published
numbers name theirs. Splits go by top-level package (in the standard library: by module), for ``topic`` by module file;
``text`` holds back every module that any task tests on.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import datasets

from . import _docstrings as docs
from .base import fingerprint_of, raw_files

Record = dict[str, Any]

# Packages large enough to be a class of their own; the others count as test or dev material for the other tasks.
TOPICS = (
    "huggingface_hub",
    "matplotlib",
    "networkx",
    "numpy",
    "pandas",
    docs.STANDARD,
    "scipy",
    "sklearn",
    "sympy",
    "torch",
    "transformers",
)
_TEST, _DEV = {"networkx", "datasets", "accelerate", "aiohttp"}, {"huggingface_hub", "peft", "joblib", "fsspec"}
_TAGS = ("O", "B-PARAM", "B-TYPE", "B-EXC")
_CAPS = {"train": 20_000, "dev": 2000, "test": 2000}
_TOPIC_CAP = 1500
_TYPES = set("int float str bool list tuple dict set bytes ndarray array Tensor DataFrame Series callable".split())  # noqa: SIM905
CONFIGS = {
    "docstrings": "Every docstring with its signature and source: what the others are made from.",
    "text": "One row a module: its prose, in order. For pretraining.",
    "topic": "One sentence -> which package it documents.",
    "terms": "Words of a docstring -> parameter, type, exception or none.",
    "match": "Sentence + signature -> does one describe the other?",
    "answer": "Question + docstring -> span.",
    "summary": "A function's source -> the first line of its docstring.",
}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder, the installed versions or the folder that is read instead."""
    if data_dir is not None:
        return fingerprint_of(__file__, [Path(docs.__file__), *raw_files(data_dir)])
    versions = [f"{name}=={_version(name)}" for name in docs.PACKAGES]
    import platform

    extra = "\n".join([*versions, platform.python_version(), Path(docs.__file__).read_text(encoding="utf-8")])
    return fingerprint_of(__file__, extra=extra)


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
        features = {
            "docstrings": where
            | {"name": text, "kind": text, "doc": text, "parameters": parameters, "raises": words, "source": text},
            "text": {"text": text, **where},
            "topic": {"text": text, "label": datasets.ClassLabel(names=list(TOPICS)), "module": text},
            "terms": {"tokens": words, "tags": datasets.List(datasets.ClassLabel(names=list(_TAGS))), **where},
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
            return [datasets.SplitGenerator("train", {"rows": _distinct(docs.read_all(self.config.data_dir))})]
        table = self._docstrings()
        makers = (_text, _topic, _terms, _match, _answer, _summary)
        make = {maker.__name__.lstrip("_"): maker for maker in makers}
        rows: dict[str, list[Record]] = {"train": [], "dev": [], "test": []}
        for split, row in make[self.config.name](table):
            rows[split].append(row)
        if self.config.name != "text":
            rows = {split: _sampled(found, _CAPS[split]) for split, found in rows.items()}
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
        return builder.as_dataset(split="train").to_list()  # type: ignore[no-any-return]


def split_of(package: str, module: str) -> str:
    """Which split a module belongs to for all configs but ``topic``: decided by its top-level package."""
    if package in _TEST:
        return "test"
    if package in _DEV:
        return "dev"
    if package == docs.STANDARD:
        share = _share(f"{package}/{module.split('.')[0]}")
        return "test" if share < 0.06 else "dev" if share < 0.12 else "train"
    return "train"


def topic_split_of(package: str, module: str) -> str:
    """Which split a module file belongs to in ``topic``."""
    share = _share(f"topic/{package}/{module}")
    return "test" if share < 0.07 else "dev" if share < 0.14 else "train"


def _share(key: str) -> float:
    """A fixed number in [0, 1) for a name."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / 2**48


def _sampled(rows: list[Record], cap: int) -> list[Record]:
    """At most `cap` rows, in an order that has nothing to do with where they come from."""
    return sorted(rows, key=lambda row: hashlib.sha256(repr(row).encode()).digest())[:cap]


def _distinct(records: list[Record]) -> list[Record]:
    """Without copies, and with at most two of those that differ in names and numbers alone."""
    seen: Counter[str] = Counter()
    kept = []
    for record in records:
        rough = re.sub(r"[A-Z][A-Za-z0-9]*|[a-z0-9]*[_\d][\w]*", "#", record["doc"][:400])
        exact = hashlib.sha256(record["doc"].encode()).hexdigest()
        seen[rough] += 1
        seen[exact] += 1
        if seen[rough] <= 2 and seen[exact] == 1:
            kept.append(record)
    return kept


def _text(table: list[Record]) -> Iterator[tuple[str, Record]]:
    modules: dict[tuple[str, str], list[str]] = {}
    for record in table:
        module = record["module"] if record["kind"] != "topic" else f"{record['module']}.{record['name']}"
        paragraphs = [p for p in docs.prose(record["doc"]).split("\n\n") if docs.is_english(p)]
        modules.setdefault((record["package"], module), []).extend(paragraphs)
    for (package, module), paragraphs in modules.items():
        split, held_back = split_of(package, module), package in TOPICS and topic_split_of(package, module) != "train"
        if paragraphs and not (split == "train" and held_back):
            yield split, {"text": "\n\n".join(paragraphs), "package": package, "module": module}


def _topic(table: list[Record]) -> Iterator[tuple[str, Record]]:
    rows: dict[tuple[str, str], list[Record]] = {}
    for record in table:
        if record["package"] not in TOPICS or record["kind"] == "topic":
            continue
        sentence = _named(docs.first_sentence(docs.prose(record["doc"])), record["package"])
        if not (docs.is_english(sentence) and 5 <= len(sentence.split()) <= 60):
            continue
        split = topic_split_of(record["package"], record["module"])
        row = {"text": sentence, "label": record["package"], "module": record["module"]}
        rows.setdefault((split, record["package"]), []).append(row)
    texts_in: dict[str, set[str]] = {}
    for (split, _), found in rows.items():
        texts_in.setdefault(split, set()).update(row["text"] for row in found)
    for (split, _), found in rows.items():
        others = set().union(*(texts for name, texts in texts_in.items() if name != split))
        for row in _sampled([row for row in found if row["text"] not in others], _TOPIC_CAP):
            yield split, row


_ALIASES = {"python": ("python", "cpython"), "sklearn": ("scikit-learn", "scikit", "sklearn"), "torch": ("pytorch",)}


def _named(text: str, package: str) -> str:
    """The text without the package's own name, which would answer for itself."""
    for alias in (*_ALIASES.get(package, ()), package, package.replace("_", " ")):
        text = re.sub(rf"\b{re.escape(alias)}\b[.\w]*", "it", text, flags=re.IGNORECASE)
    return text


def _terms(table: list[Record]) -> Iterator[tuple[str, Record]]:
    seen: set[str] = set()
    for record in table:
        names = {p["name"] for p in record["parameters"] if len(p["name"]) > 1}
        if not names:
            continue
        types = _TYPES | {word for p in record["parameters"] for word in re.findall(r"[A-Za-z]\w+", p["annotation"])}
        for paragraph in docs.prose(record["doc"]).split("\n\n"):
            if not docs.is_english(paragraph) or " : " in paragraph or paragraph in seen:
                continue
            seen.add(paragraph)
            words = re.findall(r"[A-Za-z_]\w*|\d+(?:\.\d+)?|[.,;()]", paragraph)[:60]
            tags = [_tag(word, names, types) for word in words]
            if len(words) >= 8 and any(tag != "O" for tag in tags):
                row = {"tokens": words, "tags": tags, "package": record["package"], "module": record["module"]}
                yield split_of(record["package"], record["module"]), row


def _tag(word: str, names: set[str], types: set[str]) -> str:
    if word in names:
        return "B-PARAM"
    if re.fullmatch(r"[A-Z]\w*(Error|Exception|Warning)|KeyboardInterrupt|StopIteration", word):
        return "B-EXC"
    return "B-TYPE" if word in types and word not in {"set", "None", "Any", "Optional", "Union"} else "O"


def _match(table: list[Record]) -> Iterator[tuple[str, Record]]:
    """Half of the pairs have the signature of another function of the same package and split."""
    found: dict[tuple[str, str], list[tuple[str, Record]]] = {}
    for record in table:
        sentence = docs.first_sentence(docs.prose(record["doc"]))
        long_enough = docs.is_english(sentence) and 5 <= len(sentence.split()) <= 60
        if record["kind"] == "function" and record["parameters"] and long_enough:
            split = split_of(record["package"], record["module"])
            found.setdefault((split, record["package"]), []).append((sentence, record))
    for (split, package), pairs in found.items():
        for number, (sentence, record) in enumerate(pairs):
            key = f"match/{package}/{record['module']}/{record['name']}"
            own, yes = docs.signature(record), _share(key) < 0.5
            other = docs.signature(pairs[(number + 1 + int(_share(key + "/other") * (len(pairs) - 1))) % len(pairs)][1])
            if not yes and other.split("(")[0] == own.split("(")[0]:
                continue
            row = {"text": sentence, "text_pair": (own if yes else other)[:200], "label": "yes" if yes else "no"}
            yield split, row | {"package": package, "module": record["module"]}


_NUMPY = re.compile(r"^(\*{0,2}\w+)\s*:\s*(\S[^\n]*)\n((?:[ \t]+\S[^\n]*\n?)+)", re.MULTILINE)
_GOOGLE = re.compile(
    r"^[ \t]+(\w+)\s*\(([^()\n]+(?:\([^()\n]*\)[^()\n]*)*)\)\s*:\s*\n?((?:[ \t]+\S[^\n]*\n?)+|[^\n]+)", re.MULTILINE
)
_SPHINX = re.compile(r"^:param (\w+):\s*()(\S[^\n]*)", re.MULTILINE)


def _answer(table: list[Record]) -> Iterator[tuple[str, Record]]:
    """Questions about one parameter, over the signature and the descriptions of several."""
    for record in table:
        entries = [entry for pattern in (_NUMPY, _GOOGLE, _SPHINX) for entry in pattern.findall(record["doc"] + "\n")]
        names = {p["name"] for p in record["parameters"]}
        described = {name: (_plain(kind), _plain(text)) for name, kind, text in entries if name in names}
        if len(described) < 2:
            continue
        context, starts = _context(record, described)
        for name, (kind, text) in described.items():
            for question, answer in _questions(record, name, kind, text):
                start = context.find(answer, starts[name]) if name in starts else -1
                if start >= 0:
                    key = f"{record['package']}/{record['module']}/{record['name']}/{question}"
                    row = {"id": key, "question": question, "context": context}
                    row["answers"] = {"text": [answer], "answer_start": [start]}
                    yield split_of(record["package"], record["module"]), row


def _plain(text: str) -> str:
    return " ".join(docs.prose(text.replace("\n", " ")).split())


def _clause(text: str) -> str:
    """The first sentence of a description, without its full stop."""
    return docs.first_sentence(text).rstrip(".")


def _context(record: Record, described: dict[str, tuple[str, str]]) -> tuple[str, dict[str, int]]:
    """What is read: the summary, then each parameter with type and first sentence; and where each one starts."""
    context = docs.first_sentence(docs.prose(record["doc"]))
    starts = {}
    for name, (kind, text) in described.items():
        line = f" {name}: {kind}. {_clause(text)}." if kind else f" {name}: {_clause(text)}."
        if len((context + line).split()) > 120:
            break
        starts[name] = len(context) + 1 + len(name)
        context += line
    return context, starts


def _questions(record: Record, name: str, kind: str, text: str) -> Iterator[tuple[str, str]]:
    """At most two questions about one parameter, in one of several wordings each."""
    choice = _share(f"question/{record['module']}/{record['name']}/{name}")
    if kind and len(kind.split()) <= 12:
        wordings = ("What is the type of {}?", "Which type does {} have?", "What kind of value does {} take?")
        yield wordings[int(choice * 3)].format(name), kind
    clause = _clause(text)
    if 2 <= len(clause.split()) <= 20:
        wordings = ("What does {} mean?", "What is {}?", "What is {} for?")
        yield wordings[int(choice * 3)].format(name), clause


def _summary(table: list[Record]) -> Iterator[tuple[str, Record]]:
    for record in table:
        sentence = docs.first_sentence(docs.prose(record["doc"]))
        if record["source"] and docs.is_english(sentence) and len(sentence.split()) <= 40:
            row = {"source": record["source"], "summary": sentence}
            yield split_of(record["package"], record["module"]), row | {k: record[k] for k in ("package", "module")}
