"""Offline `evaluate` modules over plain functions. Tasks call the functions; `metric(name)` gives the module.

`evaluate.load` by name fetches a script from the network; these are ordinary `evaluate.Metric` objects with the same
interface (``compute``, ``add``, ``add_batch``), made here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from hfcourse.errors import ConfigError, unknown
from hfcourse.metrics import classification, qa, tagging

if TYPE_CHECKING:
    import evaluate


def _squad(predictions: list[str], references: list[list[str]]) -> dict[str, float]:
    pairs = [(p, r, qa.segmenter("".join(r) or p)) for p, r in zip(predictions, references, strict=True)]
    return {
        "exact_match": sum(qa.exact_match(p, r, units) for p, r, units in pairs) / max(len(pairs), 1),
        "f1": sum(qa.f1(p, r, units) for p, r, units in pairs) / max(len(pairs), 1),
    }


def _perplexity(predictions: list[float], references: list[float]) -> float:
    """predictions: negative log-likelihoods; references: how many tokens each one covers."""
    return classification.perplexity(sum(predictions), sum(references))


# name -> (function, type of a prediction, type of a reference); "[x]" is a list of x.
_METRICS: dict[str, tuple[Callable[..., Any], str, str]] = {
    "accuracy": (classification.accuracy, "int64", "int64"),
    "f1": (partial(classification.f1, positive=1), "int64", "int64"),
    "macro_f1": (classification.f1, "int64", "int64"),
    "micro_f1": (classification.micro_f1, "[int64]", "[int64]"),
    "matthews": (classification.matthews, "int64", "int64"),
    "pearson": (classification.pearson, "float64", "float64"),
    "spearman": (classification.spearman, "float64", "float64"),
    "seqeval": (tagging.entity_scores, "[string]", "[string]"),
    "squad": (_squad, "string", "[string]"),
    "perplexity": (_perplexity, "float64", "float64"),
}


def names() -> list[str]:
    """Every metric there is."""
    return list(_METRICS)


def metric(name: str) -> evaluate.Metric:
    """An `evaluate.Metric`: ``metric("accuracy").compute(predictions=[1], references=[1])``.

    Raises:
        ConfigError: no such metric; the nearest ones are named.
    """
    if name not in _METRICS:
        raise ConfigError(unknown("metric", name, _METRICS))
    import datasets
    import evaluate

    function, predicted, true = _METRICS[name]

    def feature(kind: str) -> Any:
        return datasets.List(datasets.Value(kind[1:-1])) if kind.startswith("[") else datasets.Value(kind)

    class Local(evaluate.Metric):  # type: ignore[misc]
        """One of the functions above behind evaluate's interface."""

        def _info(self) -> evaluate.MetricInfo:
            features = datasets.Features({"predictions": feature(predicted), "references": feature(true)})
            return evaluate.MetricInfo(description=function.__doc__ or name, citation="", features=features)

        def _compute(self, predictions: list[Any], references: list[Any]) -> dict[str, float]:
            scores = function(predictions, references)
            return scores if isinstance(scores, dict) else {name: scores}

    return Local(config_name=name, experiment_id=name, keep_in_memory=True)
