"""Scores of tag sequences: whole entities as CoNLL counts them (the meaning of seqeval's default), and words."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

Tags = Sequence[Sequence[str]]
Entity = tuple[str, int, int]
"""Type, first word, last word."""


def entity_scores(predictions: Tags, references: Tags) -> dict[str, float]:
    """Precision, recall and F1 over whole entities (CoNLL), and accuracy over tags.

    An entity counts as found if its type and both ends are right. Where there is nothing to divide by, 0.
    """
    hits = predicted = true = 0
    for guess, truth in zip(predictions, references, strict=True):
        found, gold = entities(tuple(guess)), entities(tuple(truth))
        hits, predicted, true = hits + len(found & gold), predicted + len(found), true + len(gold)
    return {
        "f1": 2 * hits / max(predicted + true, 1),
        "precision": hits / max(predicted, 1),
        "recall": hits / max(true, 1),
        "accuracy": tag_accuracy(predictions, references),
    }


def tag_accuracy(predictions: Tags, references: Tags) -> float:
    """Share of right tags over all words."""
    right = sum(p == r for ps, rs in zip(predictions, references, strict=True) for p, r in zip(ps, rs, strict=True))
    return right / max(sum(map(len, references)), 1)


@lru_cache(maxsize=2**16)  # scores are computed on many resamples of the same answers
def entities(tags: tuple[str, ...]) -> frozenset[Entity]:
    """Entities of one tag sequence (IOB1, IOB2, IOBES, BILOU), read leniently as conlleval does.

    ``I-PER`` after ``O`` or after another type begins an entity of its own.
    """
    found: list[Entity] = []
    start, kind, open_ = 0, "", False
    for position, tag in enumerate(tags):
        mark, _, name = tag.partition("-") if tag[1:2] == "-" else ("O", "", "")
        mark = {"L": "E", "U": "S"}.get(mark, mark)
        if open_ and (mark in "OBS" or name != kind):
            found.append((kind, start, position - 1))
            open_ = False
        if mark != "O" and not open_:
            start, kind, open_ = position, name, True
        if open_ and mark in "ES":
            found.append((kind, start, position))
            open_ = False
    if open_:
        found.append((kind, start, len(tags) - 1))
    return frozenset(found)


def has_entities(labels: Sequence[str]) -> bool:
    """Whether a tag set marks the beginnings and insides of entities (``B-PER``), not parts of speech (``NOUN``)."""
    marked = [label for label in labels if label[:2] in {"B-", "I-", "E-", "S-", "L-", "U-"}]
    return bool(marked) and all(label in marked or label == "O" for label in labels)
