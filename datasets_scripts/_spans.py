"""Rows of pydocs' configs of words and spans: ``terms`` and ``answer``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from . import _docstrings as docs
from ._prose import Entry, clean, first_sentence, is_english, type_of
from ._sentences import opening
from ._splits import Plan, share

Record = dict[str, Any]

TAGS = ("O", "B-PARAM", "B-TYPE", "I-TYPE", "B-EXC")
_MARK = "\x01"
_WORD = re.compile(_MARK + r"?[A-Za-z_]\w*|\d+(?:\.\d+)?|[.,;()]")
_EXCEPTION = re.compile(r"[A-Z]\w*(?:Error|Exception|Warning)|KeyboardInterrupt|StopIteration|SystemExit")
# Words that are types wherever they stand, and those that are some only where they are written as code.
_PLAIN_TYPES = set("int str bool dict tuple ndarray Tensor DataFrame Series bytes bytearray".split())  # noqa: SIM905
_CODE_TYPES = set("float list set array object callable complex frozenset type string".split())  # noqa: SIM905
_MOST_WORDS = 60
_CONTEXT_WORDS = 50


def terms(table: list[Record], plan: Plan) -> Iterator[tuple[str, Record]]:
    """Words with what they are: a parameter (by the signature), a type (by annotations and entries), an exception.

    The marks by which authors set code apart decide what an everyday word is (the *weight* of an edge, or `weight`),
    and are then taken away. Where a text has such a word and no marks at all, nobody can tell, and it is left out.
    """
    for record in table:
        names = {p["name"] for p in record["parameters"] if len(p["name"]) > 1 or p["name"] not in "aAI"}
        if not names or record["kind"] == "topic":
            continue
        types = {word for p in record["parameters"] for word in re.findall(r"\b[A-Z]\w+", p["annotation"])}
        texts = [clean(paragraph, _MARK) for paragraph in record["paragraphs"]]
        careful = any(_MARK + name in text for text in texts for name in names)
        rows = [_tagged(text, names, types, careful) for text in texts if is_english(text.replace(_MARK, ""))]
        rows.append(_tagged_entries(record, names, types))
        where = {"package": record["package"], "module": record["module"]}
        for words, tags in rows:
            if len(words) >= 8 and set(tags) != {"O"}:
                yield plan.split_of(**where), {"tokens": words[:_MOST_WORDS], "tags": tags[:_MOST_WORDS], **where}


def _tagged(text: str, names: set[str], types: set[str], careful: bool) -> tuple[list[str], list[str]]:
    """Words and tags of running text; none if an everyday word may or may not be the parameter."""
    words, tags = [], []
    for word in _WORD.findall(text):
        marked, word = word.startswith(_MARK), word.lstrip(_MARK)
        if word in names and not marked and _everyday(word):
            if not careful:
                return [], []
            tag = "O"
        elif word in names:
            tag = "B-PARAM"
        elif _EXCEPTION.fullmatch(word):
            tag = "B-EXC"
        else:
            tag = "B-TYPE" if word in _PLAIN_TYPES or (marked and word in _CODE_TYPES | types) else "O"
        words.append(word)
        tags.append(tag)
    return words, tags


def _everyday(name: str) -> bool:
    """Whether a parameter's name could be an English word."""
    return name.isalpha() and name.islower() and len(name) > 1


def _tagged_entries(record: Record, names: set[str], types: set[str]) -> tuple[list[str], list[str]]:
    """What is said about several parameters and exceptions one after the other, without the signs between them."""
    words: list[str] = []
    tags: list[str] = []
    for entry in (Entry(**entry) for entry in record["entries"]):
        if entry.section == "parameters" and entry.name not in names:
            continue
        written = type_of(entry.kind)
        kind = re.findall(r"\w+", written) if written[:1].isalpha() else []  # no {"big", "little"}
        more_words, more_tags = _tagged(clean(entry.text, _MARK), names, types, careful=True)
        words += [entry.name, *kind, *more_words]
        tags += ["B-EXC" if entry.section == "raises" else "B-PARAM", *["B-TYPE", *["I-TYPE"] * len(kind)][: len(kind)]]
        tags += more_tags
    return words, tags


def answer(table: list[Record], plan: Plan) -> Iterator[tuple[str, Record]]:
    """Questions about a parameter or an exception; what is read is the signature, a summary and the descriptions."""
    seen: set[str] = set()
    for record in table:
        known = {p["name"]: p["default"] for p in record["parameters"]}
        entries = [Entry(**entry) for entry in record["entries"]]
        described = [_Described(e, known.get(e.name, "")) for e in entries if e.section == "raises" or e.name in known]
        described = [d for d in described if len(d.sentence.split()) >= 2]
        if len(described) < 2 or not is_english(" ".join(d.sentence for d in described)):
            continue
        context, starts = _context(record, described)
        key = f"{record['package']}/{record['module']}/{record['name']}"
        if key in seen:  # overloads, and what is defined differently on different systems
            continue
        seen.add(key)
        for one, start in zip(described, starts, strict=False):
            alone = sum(other.sentence == one.sentence for other in described) == 1
            for question, text, at in _questions(one, start, context, alone, share(f"{key}/{one.entry.name}")):
                if f"{key}/{question}" in seen:  # described twice
                    continue
                seen.add(f"{key}/{question}")
                row = {"id": f"{key}/{question}", "question": question, "context": context}
                row |= {"answers": {"text": [text], "answer_start": [at]}}
                yield plan.split_of(record["package"], record["module"]), row


class _Described:
    """One entry as it stands in a context: ``name (kind): sentence.``"""

    def __init__(self, entry: Entry, default: str) -> None:
        self.entry, self.default = entry, default
        self.kind = type_of(entry.kind)
        self.sentence = first_sentence(clean(entry.text)).rstrip(". ")
        self.head = f"{entry.name} ({self.kind}): " if self.kind else f"{entry.name}: "
        self.line = f"{self.head}{self.sentence}."


def _context(record: Record, described: list[_Described]) -> tuple[str, list[int]]:
    """The text and where each description starts; those past `_CONTEXT_WORDS` words are left out."""
    room = _CONTEXT_WORDS - len(opening(record).split())
    shown = []
    for one in described:
        room -= len(one.line.split()) + 1
        if room < 0:
            break
        shown.append(one)
    summary = opening(record)
    summary += "." if summary and summary[-1] not in ".!?:" else ""
    context = f"{docs.signature(record, {one.entry.name for one in shown})} {summary}".strip()
    starts = []
    for one in shown:
        starts.append(len(context) + 1)
        context = f"{context} {one.line}"
    return context, starts


_WORDINGS = {
    "type": ("What is the type of {}?", "Which type does {} have?", "What kind of value does {} take?"),
    "default": ("What is the default of {}?", "Which value has {} by default?", "What is {} if it is not given?"),
    "meaning": ("What does {} mean?", "What does the parameter {} say?", "What is {} for?"),
    "name": ("Which parameter is described as: {}?", "What is the name of this parameter: {}?", "Which one is it: {}?"),
    "raised": ("Which exception is raised {}?", "What is raised {}?", "Which error is there {}?"),
}


def _questions(one: _Described, start: int, context: str, alone: bool, drawn: float) -> list[tuple[str, str, int]]:
    """At most two (question, answer, start of the answer) about one description, of kinds and wordings drawn.

    `alone`: no other parameter of the function is described by the same words, so they may ask for its name.
    """
    name, sentence = one.entry.name, one.sentence
    length = len(sentence.split())
    found = []
    if one.entry.section == "raises":
        if re.match(r"(if|when|for|in case|on)\b", sentence, re.IGNORECASE) and length <= 20:
            found.append(("raised", sentence[0].lower() + sentence[1:], name, start))
    else:
        if 1 <= len(one.kind.split()) <= 12:
            found.append(("type", name, one.kind, start + len(name) + 2))
        if length <= 20:
            found.append(("meaning", name, sentence, start + len(one.head)))
        if alone and 4 <= length <= 15:
            found.append(("name", sentence, name, start))
        place = re.search(rf"[(\s]{re.escape(name)}={re.escape(one.default)}(?=[,)])", context) if one.default else None
        if place and len(one.default) <= 30:
            found.append(("default", name, one.default, place.end() - len(one.default)))
    first = int(drawn * 997)
    chosen = [found[(first + turn) % len(found)] for turn in range(min(2, len(found)))]
    return [(_WORDINGS[kind][first % 3].format(about), text, at) for kind, about, text, at in chosen]
