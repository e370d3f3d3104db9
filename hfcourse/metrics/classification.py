"""Scores of classes and numbers: plain functions over equally long sequences, defined for degenerate input too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def accuracy(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """Share of equal pairs."""
    return sum(p == r for p, r in zip(predictions, references, strict=True)) / max(len(references), 1)


def f1(predictions: Sequence[Any], references: Sequence[Any], *, positive: Any = None) -> float:
    """F1 of the `positive` class, or the mean over the classes that occur (macro); 0 where nothing was found."""
    classes = [positive] if positive is not None else sorted(set(predictions) | set(references), key=str)
    scores = []
    for one in classes:
        hits = sum(p == r == one for p, r in zip(predictions, references, strict=True))
        total = sum(p == one for p in predictions) + sum(r == one for r in references)
        scores.append(2 * hits / total if total else 0.0)
    return sum(scores) / max(len(scores), 1)


def micro_f1(predictions: Sequence[Sequence[Any]], references: Sequence[Sequence[Any]]) -> float:
    """F1 over all labels of all rows, for rows that may have several."""
    hits = sum(len(set(p) & set(r)) for p, r in zip(predictions, references, strict=True))
    total = sum(len(set(p)) for p in predictions) + sum(len(set(r)) for r in references)
    return 2 * hits / total if total else 1.0


def matthews(predictions: Sequence[Any], references: Sequence[Any]) -> float:
    """Matthews correlation for any number of classes (Gorodkin 2004); 0 where one side is constant."""
    pairs = list(zip(predictions, references, strict=True))
    classes = set(predictions) | set(references)
    total, right = len(pairs), sum(p == r for p, r in pairs)
    predicted = {c: sum(p == c for p, _ in pairs) for c in classes}
    true = {c: sum(r == c for _, r in pairs) for c in classes}
    covariance = right * total - sum(predicted[c] * true[c] for c in classes)
    spread = (total**2 - sum(v**2 for v in predicted.values())) * (total**2 - sum(v**2 for v in true.values()))
    return covariance / math.sqrt(spread) if spread else 0.0


def pearson(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Linear correlation; 0 where one side is constant."""
    import numpy as np

    x, y = np.asarray(predictions, dtype=float), np.asarray(references, dtype=float)
    x, y = x - x.mean(), y - y.mean()
    spread = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / spread if spread > 1e-12 else 0.0


def spearman(predictions: Sequence[float], references: Sequence[float]) -> float:
    """Correlation of ranks, ties sharing their mean rank; 0 where one side is constant."""
    from scipy.stats import rankdata

    return pearson(rankdata(predictions), rankdata(references))


def perplexity(negative_log_likelihood: float, tokens: float) -> float:
    """exp of the mean over tokens."""
    return math.exp(min(negative_log_likelihood / max(tokens, 1), 700.0))
