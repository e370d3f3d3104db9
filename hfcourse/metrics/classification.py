"""Scores of classes and numbers: plain functions over equally long sequences, defined for degenerate input too."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any


def accuracy(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """Share of equal pairs; 0 without any pair."""
    return float(sum(p == r for p, r in zip(predictions, references, strict=True))) / max(len(references), 1)


def f1(predictions: Sequence[Any], references: Sequence[Any], *, positive: Any = None) -> float:
    """F1 of the `positive` class, or the mean over the classes that occur (macro); 0 where nothing was found."""
    hits = Counter(p for p, r in zip(predictions, references, strict=True) if p == r)
    return _f1(hits, Counter(predictions), Counter(references), positive)


def micro_f1(predictions: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]) -> float:
    """F1 over all labels of all rows, for rows with any number of labels; 0 where there is none."""
    hits, predicted, true = _label_counts(predictions, references)
    total = predicted.total() + true.total()
    return 2 * hits.total() / total if total else 0.0


def matthews(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where one side is constant."""
    predicted, true = Counter(predictions), Counter(references)
    total = len(references)
    right = sum(p == r for p, r in zip(predictions, references, strict=True))
    covariance = right * total - sum(count * true[label] for label, count in predicted.items())
    spread = (total**2 - sum(n**2 for n in predicted.values())) * (total**2 - sum(n**2 for n in true.values()))
    return covariance / math.sqrt(spread) if spread else 0.0


def pearson(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Linear correlation; 0 where one side is constant."""
    import numpy as np

    x, y = np.asarray(predictions, dtype=float), np.asarray(references, dtype=float)
    if len(x) < 2 or (x == x[0]).all() or (y == y[0]).all():
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    # Scaled first: the squares of tiny or huge numbers would leave the range of floats.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()))


def spearman(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Correlation of ranks, ties sharing their mean rank; 0 where one side is constant."""
    return pearson(_ranks(predictions), _ranks(references))


def perplexity(negative_log_likelihood: float, tokens: float) -> float:
    """exp of the mean over tokens; infinite where that leaves the range of floats."""
    try:
        return math.exp(negative_log_likelihood / max(tokens, 1))
    except OverflowError:
        return math.inf


def _f1(hits: Counter[Any], predicted: Counter[Any], true: Counter[Any], positive: Any) -> float:
    classes = sorted({*predicted, *true}, key=str) if positive is None else [positive]
    totals = [predicted[one] + true[one] for one in classes]
    scores = [2 * hits[one] / total if total else 0.0 for one, total in zip(classes, totals, strict=True)]
    return sum(scores) / max(len(scores), 1)


def _label_counts(
    predictions: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]
) -> tuple[Counter[Any], Counter[Any], Counter[Any]]:
    """How often each label is right, predicted, true."""
    hits = Counter(label for p, r in zip(predictions, references, strict=True) for label in set(p) & set(r))
    predicted = Counter(label for p in predictions for label in set(p))
    return hits, predicted, Counter(label for r in references for label in set(r))


def _ranks(values: Sequence[float]) -> Any:
    """Ranks from 0; equal values share the mean of theirs. float64 (values,)."""
    import numpy as np

    _, group, sizes = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    return ((ends - 1 + ends - sizes) / 2)[group]
