"""The plain functions of this folder behind evaluate's interface. Importing this costs evaluate's own six seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import datasets
import evaluate

from hfcourse.metrics import classification, qa, tagging

Scores = dict[str, float]


@dataclass(frozen=True)
class _Row:
    """One metric: what it takes and what it answers."""

    compute: Callable[..., Scores]
    prediction: Any
    reference: Any
    help: str


class LocalMetric(evaluate.Metric):  # type: ignore[misc]
    """An `evaluate.Metric` that reads nothing from the network and writes no cache file."""

    def __init__(self, name: str) -> None:
        self._row = _ROWS[name]
        super().__init__(config_name=name, experiment_id=name, keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": self._row.prediction, "references": self._row.reference})
        return evaluate.MetricInfo(
            description=self._row.help, citation="", inputs_description=self._row.help, features=features
        )

    def _compute(self, predictions: list[Any], references: list[Any], **options: Any) -> Scores:
        return self._row.compute(predictions, references, **options)


def make(name: str) -> LocalMetric:
    """The metric of this name; see `hfcourse.metrics.metric`."""
    return LocalMetric(name)


def _single(name: str, function: Callable[..., float]) -> Callable[..., Scores]:
    return lambda predictions, references, **options: {name: function(predictions, references, **options)}


def _f1(predictions: list[int], references: list[int], pos_label: int = 1, average: str = "binary") -> Scores:
    if average == "binary":
        return {"f1": classification.f1(predictions, references, positive=pos_label)}
    if average == "macro":
        return {"f1": classification.f1(predictions, references)}
    if average == "micro":
        return {"f1": classification.micro_f1([[p] for p in predictions], [[r] for r in references])}
    raise ValueError(f"average is {average!r}: expected binary, macro or micro")


def _squad(predictions: list[str], references: list[list[str]]) -> Scores:
    triples = [(p, r, qa.segmenter("".join(r) or p)) for p, r in zip(predictions, references, strict=True)]
    share = 100 / max(len(triples), 1)
    return {
        "exact_match": share * sum(qa.exact_match(*triple) for triple in triples),
        "f1": share * sum(qa.f1(*triple) for triple in triples),
    }


def _squad_v2(predictions: list[dict[str, Any]], references: list[list[str]], threshold: float = 0.0) -> Scores:
    """Scores with "no answer" given above the threshold, on both kinds of question, and at the best threshold."""
    texts = [one["text"] for one in predictions]
    differences = [one["no_answer"] for one in predictions]
    given = [text if d <= threshold else "" for text, d in zip(texts, differences, strict=True)]
    scores = _squad(given, references)
    for name, answerable in (("has_answer", True), ("no_answer", False)):
        part = [(g, r) for g, r in zip(given, references, strict=True) if bool(r) is answerable]
        if part:
            scores |= {f"{name}_{key}": value for key, value in _squad(*map(list, zip(*part, strict=True))).items()}
    with_answer = [qa.f1(t, r, qa.segmenter("".join(r) or t)) for t, r in zip(texts, references, strict=True)]
    without = [float(not r) for r in references]
    at = qa.best_threshold(differences, with_answer, without)
    best = [w if d <= at else n for d, w, n in zip(differences, with_answer, without, strict=True)]
    return scores | {"best_f1": 100 * sum(best) / max(len(best), 1), "best_f1_threshold": at}


def _perplexity(predictions: list[float], references: list[float]) -> Scores:
    return {"perplexity": classification.perplexity(sum(predictions), sum(references))}


_INT, _FLOAT, _TEXT = datasets.Value("int64"), datasets.Value("float64"), datasets.Value("string")
_INTS, _TEXTS = datasets.List(_INT), datasets.List(_TEXT)
_ROWS = {
    "accuracy": _Row(_single("accuracy", classification.accuracy), _INT, _INT, "Share of right classes."),
    "f1": _Row(_f1, _INT, _INT, "F1 of class `pos_label` (1); average='macro' or 'micro' for all classes."),
    "macro_f1": _Row(_single("macro_f1", classification.f1), _INT, _INT, "Mean F1 over classes."),
    "micro_f1": _Row(_single("micro_f1", classification.micro_f1), _INTS, _INTS, "F1 over all labels of all rows."),
    "mcc": _Row(_single("mcc", classification.matthews), _INT, _INT, "Matthews correlation, any number of classes."),
    "pearson": _Row(_single("pearson", classification.pearson), _FLOAT, _FLOAT, "Linear correlation."),
    "spearman": _Row(_single("spearman", classification.spearman), _FLOAT, _FLOAT, "Rank correlation."),
    "seqeval": _Row(tagging.entity_scores, _TEXTS, _TEXTS, "Entity precision, recall, F1 and tag accuracy."),
    "squad": _Row(_squad, _TEXT, _TEXTS, "Exact match and F1 in per cent; Chinese answers by characters."),
    "squad_v2": _Row(
        _squad_v2,
        {"text": _TEXT, "no_answer": _FLOAT},
        _TEXTS,
        "SQuAD v2 in per cent: `no_answer` is the null score less the span's; no references: no answer.",
    ),
    "perplexity": _Row(
        _perplexity, _FLOAT, _FLOAT, "predictions: summed negative log-likelihoods; references: their tokens."
    ),
}
