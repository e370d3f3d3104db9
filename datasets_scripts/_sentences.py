"""Rows of pydocs' configs of whole sentences: ``text``, ``topic``, ``match`` and ``summary``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from . import _docstrings as docs
from ._prose import Entry, clean, first_sentence, is_english
from ._splits import Plan, sampled, share

Record = dict[str, Any]

_TOPIC_CAPS = {"train": 1500, "dev": 150, "test": 150}
_ALIASES = {"python": ("python", "cpython"), "sklearn": ("scikit-learn", "scikit", "sklearn"), "torch": ("pytorch",)}
_LONGEST_SIGNATURE = 150
_LONGEST_DESCRIPTION = 30


def entry_line(entry: Entry) -> str:
    """``name (type): what it is``, on one line."""
    kind = clean(entry.kind)
    return clean(f"{entry.name} ({kind}): {clean(entry.text)}" if kind else f"{entry.name}: {clean(entry.text)}")


def opening(record: Record) -> str:
    """The first sentence of a docstring, without markup; empty if it is no prose of 4 to 60 words."""
    sentence = first_sentence(clean(record["paragraphs"][0])) if record["paragraphs"] else ""
    return sentence if len(sentence.split()) <= 60 and is_english(sentence) else ""


def text(table: list[Record], plan: Plan) -> Iterator[tuple[str, Record]]:
    """A module's docstrings in order, each function's after its signature.

    Modules on which ``topic`` is tested are held back from train, so that pretraining sees no text of any test split.
    """
    modules: dict[tuple[str, str], list[str]] = {}
    for record in table:
        module = record["module"] if record["kind"] != "topic" else f"{record['module']}.{record['name']}"
        modules.setdefault((record["package"], module), []).extend(_document(record))
    held_back = plan.topic_splits(table)
    for (package, module), paragraphs in modules.items():
        split = plan.split_of(package, module)
        if paragraphs and not (split == "train" and held_back.get((package, module), "train") != "train"):
            yield split, {"text": "\n\n".join(paragraphs), "package": package, "module": module}


def _document(record: Record) -> list[str]:
    """The paragraphs of one docstring; parameters and exceptions make one, a line each."""
    paragraphs = [clean(paragraph) for paragraph in record["paragraphs"]]
    paragraphs = [paragraph for paragraph in paragraphs if is_english(paragraph)]
    lines = [entry_line(Entry(**entry)) for entry in record["entries"] if entry["text"]]
    lines = [line for line in lines if is_english(line)]
    if lines:
        paragraphs[1:1] = ["\n".join(lines)]
    if paragraphs and record["kind"] == "function" and record["parameters"]:
        signature = docs.signature(record)
        if len(signature) <= _LONGEST_SIGNATURE:
            paragraphs[0] = f"{signature}\n{paragraphs[0]}"
    return paragraphs


def topic(table: list[Record], plan: Plan) -> Iterator[tuple[str, Record]]:
    """First sentences with the name of their package taken out; each sentence once, and only where it has one label."""
    splits = plan.topic_splits(table)
    rows: dict[tuple[str, str], list[Record]] = {}
    labels: dict[str, set[str]] = {}
    for record in table:
        package = record["package"]
        if package not in plan.topics or record["kind"] == "topic":
            continue
        sentence = _without_name(opening(record), package)
        if len(sentence.split()) < 5:
            continue
        new = sentence not in labels
        labels.setdefault(sentence, set()).add(package)
        if new:
            row = {"text": sentence, "label": package, "module": record["module"]}
            rows.setdefault((splits[package, record["module"]], package), []).append(row)
    for (split, _), found in rows.items():
        for row in sampled([row for row in found if len(labels[row["text"]]) == 1], _TOPIC_CAPS[split]):
            yield split, row


def _without_name(sentence: str, package: str) -> str:
    """The sentence without the package's own name, which would answer for itself."""
    for alias in (*_ALIASES.get(package, ()), package, package.replace("_", " ")):
        sentence = re.sub(rf"\b{re.escape(alias)}(?:\.\w+)*\b", "it", sentence, flags=re.IGNORECASE)
    # What is left of it inside longer names: ``NetworkXError``, ``PyTorchModel``, ``torch_dtype``.
    return re.sub(rf"{re.escape(package)}", "it", sentence, flags=re.IGNORECASE)


def match(table: list[Record], plan: Plan) -> Iterator[tuple[str, Record]]:
    """What a docstring says of a function and its parameters, and a signature: half of them of another package.

    The names of the parameters tell, and what the text is about; functions of fewer than two parameters say too little.
    """
    found: dict[str, list[tuple[str, Record]]] = {}
    for record in table:
        described = _description(record)
        if described:
            found.setdefault(plan.split_of(record["package"], record["module"]), []).append((described, record))
    for split, pairs in found.items():
        for described, record in pairs:
            shown = record if share(_key(record)) < 0.5 else _elsewhere(record, pairs)
            if shown is not None:
                row = {"text": described, "text_pair": _shortened(shown)}
                row |= {"label": "yes" if shown is record else "no"}
                yield split, row | {k: record[k] for k in ("package", "module")}


def _description(record: Record) -> str:
    """Opening sentence and described parameters of a function, at most 30 words; empty where there is too little."""
    names = {parameter["name"] for parameter in record["parameters"]}
    entries = [Entry(**entry) for entry in record["entries"] if entry["name"] in names and entry["text"]]
    sentence = opening(record)
    if record["kind"] != "function" or len(names) < 2 or not entries or not sentence:
        return ""
    words = " ".join([sentence, *map(entry_line, entries)]).split()
    return " ".join(words[:_LONGEST_DESCRIPTION]) if len(words) >= 10 else ""


def _shortened(record: Record) -> str:
    """A signature without the last parameters of a long one."""
    names = [p["name"] for p in record["parameters"]]
    while len(names) > 1 and len(docs.signature(record, names)) > _LONGEST_SIGNATURE:
        names.pop()
    return docs.signature(record, names)


def _key(record: Record) -> str:
    return f"match/{record['package']}/{record['module']}/{record['name']}"


def _elsewhere(record: Record, pairs: list[tuple[str, Record]]) -> Record | None:
    """A function of another name; of another package, unless a few draws find none."""
    draws = [pairs[int(share(f"{_key(record)}/{turn}") * len(pairs))][1] for turn in range(8)]
    others = [other for other in draws if other["name"] != record["name"]]
    return next((other for other in others if other["package"] != record["package"]), others[0] if others else None)


def summary(table: list[Record], plan: Plan) -> Iterator[tuple[str, Record]]:
    """A function's code and the first sentence of its docstring."""
    for record in table:
        sentence = opening(record)
        if record["source"] and 4 <= len(sentence.split()) <= 40:
            row = {"source": record["source"], "summary": sentence}
            yield (
                plan.split_of(record["package"], record["module"]),
                row | {k: record[k] for k in ("package", "module")},
            )
