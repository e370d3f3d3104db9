"""Offline `evaluate` modules over plain functions. Tasks call the functions; `metric(name)` gives the module.

`evaluate.load` by name fetches a script from the network; these are ordinary `evaluate.Metric` objects with the same
interface (``compute``, ``add``, ``add_batch``), made here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hfcourse.errors import ConfigError, unknown

if TYPE_CHECKING:
    import evaluate

_NAMES = (
    "accuracy",
    "f1",
    "macro_f1",
    "micro_f1",
    "mcc",
    "pearson",
    "spearman",
    "seqeval",
    "squad",
    "squad_v2",
    "perplexity",
)
# What the Hub's modules and scikit-learn call them.
_ALIASES = {
    "matthews": "mcc",
    "matthews_correlation": "mcc",
    "matthews_corrcoef": "mcc",
    "pearsonr": "pearson",
    "spearmanr": "spearman",
}


def names() -> list[str]:
    """Every metric there is."""
    return list(_NAMES)


def metric(name: str) -> evaluate.Metric:
    """An `evaluate.Metric`: ``metric("accuracy").compute(predictions=[1], references=[1])``.

    Raises:
        ConfigError: no such metric; the nearest ones are named.
    """
    name = _ALIASES.get(name, name)
    if name not in _NAMES:
        raise ConfigError(unknown("metric", name, {*_NAMES, *_ALIASES}))
    from hfcourse.metrics.modules import make  # evaluate takes seconds to import

    return make(name)
