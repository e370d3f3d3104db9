"""Right and wrong answers of a run, as a reader wants to see them: the surest mistakes first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hfcourse.report.runs import Run
from hfcourse.report.statistics import Answer, Kind, labelled, number
from hfcourse.report.text import show

_CUT = 320
_WORDS = 60
_OWN_KEYS = {"id", "prediction", "reference", "confidence", "words", "tokens", "start", "end", "row"}
_OWN_KEYS |= {"em", "f1", "best_em", "best_f1", "span", "null_difference"}
_WORD_KEYS = ("words", "tokens", "text")


@dataclass(frozen=True)
class Word:
    """One word of a tagged sentence."""

    text: str
    guess: str
    truth: str

    @property
    def state(self) -> str:
        if self.guess != self.truth:
            return "wrong"
        return "right" if self.truth not in ("O", "_") else "plain"


@dataclass(frozen=True)
class Text:
    """A text of an example, with the true answer marked where it stands in it."""

    name: str
    before: str
    hit: str = ""
    after: str = ""


@dataclass(frozen=True)
class Example:
    """One answer for people."""

    id: str
    right: bool
    prediction: str
    reference: str
    confidence: float | None
    texts: list[Text]
    words: list[Word] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Examples:
    """A choice of a run's answers on one split."""

    split: str
    wrong: list[Example]
    right: list[Example]
    wrong_count: int
    right_count: int
    order: str
    """In which order the mistakes stand, in words."""
    kind: Kind

    @property
    def title(self) -> str:
        if self.kind == "regression":
            return f"the {len(self.wrong)} largest errors"
        if not self.wrong:
            return f"no mistake among {self.right_count:,}"
        return f"{len(self.wrong)} of {self.wrong_count:,} mistakes, {self.order}"

    @property
    def right_title(self) -> str:
        if self.kind == "regression":
            return "Drawn by chance from the better half:"
        return f"Drawn by chance from the {self.right_count:,} right ones:"


def choose(run: Run, split: str, *, wrong: int = 8, right: int = 4, seed: int = 0) -> Examples | None:
    """The surest mistakes, and right answers drawn by chance; None without labelled answers or for pretraining."""
    answers = labelled(run.answers.get(split, ()))
    kind = run.kind
    if not answers or kind == "pretraining":
        return None
    costs = np.array([_cost(answer, kind) for answer in answers])
    # A regression has no right or wrong: its worse half is taken for the mistakes.
    failed = costs > (np.median(costs) if kind == "regression" else 0)
    bad, good = np.flatnonzero(failed), np.flatnonzero(~failed)
    sure = np.array([float(answer.get("confidence") or 0) for answer in answers])
    has_confidence = bool(sure.any())
    keys = (-costs[bad], -sure[bad]) if has_confidence and kind != "regression" else (-sure[bad], -costs[bad])
    bad = bad[np.lexsort(keys)]
    drawn = np.sort(np.random.default_rng(seed).permutation(good)[:right])
    return Examples(
        split,
        [_example(answers[i], kind, right=False) for i in bad[:wrong]],
        [_example(answers[i], kind, right=True) for i in drawn],
        len(bad),
        len(good),
        "largest error first" if kind == "regression" else "most confident first" if has_confidence else "worst first",
        kind,
    )


def _cost(answer: Answer, kind: Kind) -> float:
    """How wrong an answer is, 0 for right."""
    guess, truth = answer["prediction"], answer["reference"]
    if kind == "span_qa":
        return 0.0 if answer.get("em", guess in truth) else 2.0 - float(answer.get("f1", 0.0))
    if kind == "regression":
        return abs(number(guess) - number(truth))
    if kind == "tagging":
        wrong = sum(g != t for g, t in zip(guess, truth, strict=False)) + abs(len(guess) - len(truth))
        return float(wrong)
    if kind == "multi_label":
        return float(len(set(map(str, guess)) ^ set(map(str, truth))))
    return float(str(guess) != str(truth))


def _example(answer: Answer, kind: Kind, *, right: bool) -> Example:
    guess, truth = answer["prediction"], answer["reference"]
    words = _words(answer) if kind == "tagging" else []
    note = ""
    if kind == "span_qa" and not right and "f1" in answer:
        note = f"F1 {show(float(answer['f1']))}"
    if kind == "regression":
        note = f"error {show(abs(number(guess) - number(truth)))}"
    sure = answer.get("confidence")
    return Example(
        id=str(answer.get("id", "")),
        right=right,
        prediction=plain(guess, empty="(no answer)"),
        reference=plain(truth, empty="(no answer)", between=" / " if kind == "span_qa" else ", "),
        confidence=float(sure) if isinstance(sure, int | float) and math.isfinite(sure) else None,
        texts=_texts(answer, truth if kind == "span_qa" else None, skip=("text",) if words else ()),
        words=words,
        note=note,
    )


def _words(answer: Answer) -> list[Word]:
    """The words of a tagged sentence with both tags, if the answer holds as many words as tags."""
    guess, truth = answer["prediction"], answer["reference"]
    for key in _WORD_KEYS:
        found = answer.get(key)
        found = found.split() if isinstance(found, str) else found
        if isinstance(found, list) and len(found) == len(truth) == len(guess):
            words = [Word(str(w), str(g), str(t)) for w, g, t in zip(found, guess, truth, strict=True)]
            return _around_mistake(words)
    return []


def _around_mistake(words: list[Word]) -> list[Word]:
    """At most `_WORDS` words, with the first mistake among them."""
    first = next((i for i, word in enumerate(words) if word.state == "wrong"), 0)
    start = max(0, min(first - _WORDS // 3, len(words) - _WORDS))
    return words[start : start + _WORDS]


def _texts(answer: Answer, truths: Any, skip: Sequence[str]) -> list[Text]:
    """What else the answer holds, cut to a readable length; a long text is cut around the true answer."""
    wanted = [plain(item) for item in truths if item] if isinstance(truths, list) else []
    texts = []
    for key, value in answer.items():
        if key in _OWN_KEYS or key in skip or value is None:
            continue
        text = plain(value, between=" / " if key == "choices" else " ")
        # Marked only where there is no doubt which of the places is meant.
        hit = next((item for item in wanted if text.count(item) == 1), "")
        text = cut(text, around=text.find(hit))
        before, hit, after = text.partition(hit) if hit else (text, "", "")
        texts.append(Text(key, before, hit, after))
    return texts


def cut(text: str, *, length: int = _CUT, around: int = 0) -> str:
    """At most `length` characters in one line, with the place `around` among them."""
    if len(text) <= length:
        return text
    start = max(0, min(around - length // 3, len(text) - length))
    end = start + length
    # At a space if there is one near; Chinese has none.
    start = text.find(" ", start, min(start + 15, around + 1)) + 1 or start if start else 0
    end = max(text.rfind(" ", end - 15, end), 0) or end if end < len(text) else end
    return ("… " if start else "") + text[start:end].strip() + (" …" if end < len(text) else "")


def plain(value: Any, *, empty: str = "", between: str = ", ") -> str:
    """A prediction or reference as one line."""
    if isinstance(value, list):
        value = (
            between.join(dict.fromkeys(plain(item) for item in value)) if between != " " else " ".join(map(str, value))
        )
    if isinstance(value, float):
        value = show(value)
    return " ".join(str(value).split()) or empty
