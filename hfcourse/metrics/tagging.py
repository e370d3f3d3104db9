"""Scores of tag sequences, by seqeval."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

Tags = Sequence[Sequence[str]]


def entity_scores(predictions: Tags, references: Tags) -> dict[str, float]:
    """Precision, recall and F1 over whole entities (CoNLL), and accuracy over tags.

    An entity counts as found if its type and both ends are right. Without any entity all three are 0.
    """
    from seqeval.metrics import f1_score, precision_score, recall_score

    predicted, true = [list(tags) for tags in predictions], [list(tags) for tags in references]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # seqeval warns where a class was never predicted
        return {
            "f1": float(f1_score(true, predicted, zero_division=0)),
            "precision": float(precision_score(true, predicted, zero_division=0)),
            "recall": float(recall_score(true, predicted, zero_division=0)),
            "accuracy": tag_accuracy(predictions, references),
        }


def tag_accuracy(predictions: Tags, references: Tags) -> float:
    """Share of right tags over all words."""
    pairs = [(p, r) for ps, rs in zip(predictions, references, strict=True) for p, r in zip(ps, rs, strict=True)]
    return sum(p == r for p, r in pairs) / max(len(pairs), 1)
