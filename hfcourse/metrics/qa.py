"""Exact match and F1 of extracted answers: SQuAD v1 and v2, and Chinese by characters (DRCD, CMRC 2018).

All scores are shares; the `squad` modules of `hfcourse.metrics.metric` give per cent, as SQuAD's own script does.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

Units = Callable[[str], list[str]]
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")
_PUNCTUATION = set(string.punctuation)
_CHINESE_PUNCTUATION = set("，。：？！；、「」『』（）《》〈〉【】〔〕“”‘’…—～·．－") | _PUNCTUATION


def is_chinese(text: str) -> bool:
    """Whether a good part of the text is Chinese characters."""
    return len(_CHINESE.findall(text)) > 0.2 * max(len("".join(text.split())), 1)


def normalise(text: str) -> str:
    """SQuAD's: lower case, no punctuation, no articles, single spaces."""
    text = "".join(character for character in text.lower() if character not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def words(text: str) -> list[str]:
    """English: the words of the normalised text."""
    return normalise(text).split()


def characters(text: str) -> list[str]:
    """Chinese: each Chinese character alone, runs of anything else as words, no punctuation."""
    spaced = "".join(" " if c in _CHINESE_PUNCTUATION else f" {c} " if _CHINESE.match(c) else c for c in text.lower())
    return spaced.split()


def segmenter(text: str) -> Units:
    """How answers in the language of `text` are cut into units."""
    return characters if is_chinese(text) else words


def exact_match(prediction: str, references: Sequence[str], units: Units = words) -> float:
    """1 if the units equal those of any reference, which may be the empty answer; else 0."""
    return float(any(units(prediction) == units(reference) for reference in _golds(references, units)))


def f1(prediction: str, references: Sequence[str], units: Units = words) -> float:
    """Overlap of units with the nearest reference; no answer is right only where there is none."""
    return max(_overlap(units(prediction), units(reference)) for reference in _golds(references, units))


def best_threshold(null_differences: Sequence[float], with_answer: Sequence[float], without: Sequence[float]) -> float:
    """SQuAD v2: from which difference (null score less best span's) on "no answer" should be given.

    Args:
        null_differences: one for each question.
        with_answer: score of each question if its span is given.
        without: score of each question if no answer is given.

    Returns:
        The threshold with the best mean; "no answer" is given where the difference is above it.
    """
    import numpy as np

    if not len(null_differences):
        return 0.0
    differences = np.asarray(null_differences, dtype=float)
    order = differences.argsort(kind="stable")
    differences = differences[order]
    gains = np.asarray(with_answer, dtype=float)[order] - np.asarray(without, dtype=float)[order]
    totals = np.concatenate([[0.0], gains.cumsum()])
    # A threshold cannot part questions with the same difference: only the ends of such runs count.
    is_end = np.concatenate([[True], differences[1:] != differences[:-1], [True]])
    best = int(np.where(is_end, totals, -np.inf).argmax())
    return float(differences[best - 1]) if best else float(differences[0]) - 1.0


def _golds(references: Sequence[str], units: Units) -> Sequence[str]:
    """References that are more than articles and punctuation; the empty answer where there is none."""
    return [reference for reference in references if units(reference)] or [""]


def _overlap(predicted: list[str], true: list[str]) -> float:
    if not predicted or not true:
        return float(predicted == true)
    shared = sum((Counter(predicted) & Counter(true)).values())
    return 2 * shared / (len(predicted) + len(true))
