"""Exact match and F1 of extracted answers: SQuAD v1 and v2, and Chinese by characters (DRCD, CMRC 2018)."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f]")
_PUNCTUATION = set(string.punctuation)
_CHINESE_PUNCTUATION = set("，。：？！；、「」『』（）《》〈〉【】〔〕“”‘’…—～·．－") | _PUNCTUATION


def is_chinese(text: str) -> bool:
    """Whether a good part of the text is Chinese characters."""
    return len(_CHINESE.findall(text)) > 0.2 * max(len(text.replace(" ", "")), 1)


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


def segmenter(text: str) -> Callable[[str], list[str]]:
    """How answers in the language of `text` are cut into units."""
    return characters if is_chinese(text) else words


def exact_match(prediction: str, references: Sequence[str], units: Callable[[str], list[str]] = words) -> float:
    """1 if the units equal those of any reference, which may be the empty answer; else 0."""
    return float(any(units(prediction) == units(reference) for reference in references or [""]))


def f1(prediction: str, references: Sequence[str], units: Callable[[str], list[str]] = words) -> float:
    """Overlap of units with the nearest reference; no answer is right only where there is none."""
    return max(_overlap(units(prediction), units(reference)) for reference in references or [""])


def _overlap(predicted: list[str], true: list[str]) -> float:
    if not predicted or not true:
        return float(predicted == true)
    shared = sum((Counter(predicted) & Counter(true)).values())
    return 2 * shared / (len(predicted) + len(true))


def best_threshold(null_differences: Sequence[float], with_answer: Sequence[float], without: Sequence[float]) -> float:
    """SQuAD v2: from which difference (null score less best span's) on "no answer" should be given.

    Args:
        null_differences: one for each question.
        with_answer: score of each question if its span is given.
        without: score of each question if no answer is given.

    Returns:
        The threshold with the best mean; "no answer" is given where the difference is above it.
    """
    order = sorted(range(len(null_differences)), key=lambda n: null_differences[n])
    total = best = sum(without)
    threshold = float("-inf")
    for n in order:
        total += with_answer[n] - without[n]
        if total > best:
            best, threshold = total, null_differences[n]
    return threshold
