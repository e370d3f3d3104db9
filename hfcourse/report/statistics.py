"""Scores as functions of weights on the answers, so that a thousand resamples are a few products of matrices.

Names alone do not say everything (is ``f1`` of the second class or the mean over classes?), so `find` tries each
meaning of a name and takes the one that gives the number the run recorded; where none does there is no interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from hfcourse.metrics.tagging import entities
from hfcourse.report.bootstrap import Array, Statistic

Kind = Literal[
    "classification", "multi_label", "multiple_choice", "regression", "tagging", "span_qa", "pretraining", "unknown"
]
Answer = dict[str, Any]
_TOLERANCE = 1e-4


def kind_of(answers: Sequence[Answer], hint: str = "") -> Kind:
    """What kind of answers these are; `hint` is the task's own word for it (``task.kind`` of the config)."""
    if not answers or hint == "together":  # of several kinds: each task's own run shows them
        return "unknown"
    first = answers[0]
    predictions: list[Any] = [answer.get("prediction") for answer in answers]
    if isinstance(first.get("prediction"), dict):
        return "pretraining"
    if "em" in first or hint == "span_qa":
        return "span_qa"
    if all(isinstance(prediction, list) for prediction in predictions):
        items = [item for prediction in predictions for item in prediction]
        if items and all(isinstance(item, float) for item in items):
            return "regression" if max(map(len, predictions)) == 1 else "unknown"
        same = all(len(answer["prediction"]) == len(answer.get("reference") or ()) for answer in answers)
        return "tagging" if hint == "tagging" or (same and hint != "classification") else "multi_label"
    if all(isinstance(prediction, float) for prediction in predictions):
        return "regression"
    return "multiple_choice" if hint == "multiple_choice" else "classification"


def labelled(answers: Sequence[Answer]) -> list[Answer]:
    """The answers that have a reference."""
    return [answer for answer in answers if answer.get("reference") is not None]


def find(name: str, kind: Kind, answers: Sequence[Answer], recorded: float | None) -> Statistic | None:
    """The statistic called `name` whose value is the recorded one (as a share or in per cent), or None.

    With `recorded` None the first meaning of the name is taken.
    """
    known = labelled(answers)
    if not known:
        return None
    for statistic in meanings(name, kind, known):
        if recorded is None:
            return statistic
        for scale in (1.0, 100.0):
            scaled = replace(statistic, scale=scale)
            if math.isclose(scaled.point, recorded, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE * scale):
                return scaled
    return None


def _plain(name: str) -> str:
    """``eval/Macro-F1`` -> ``macro_f1``."""
    return name.rsplit("/", 1)[-1].lower().replace("-", "_").removeprefix("eval_").removeprefix("overall_")


def meanings(name: str, kind: Kind, answers: Sequence[Answer]) -> Iterator[Statistic]:
    """What a score's name can mean, the likeliest first; every answer has a reference."""
    makers: dict[str, Callable[[str, Sequence[Answer]], Iterator[Statistic]]] = {
        "classification": _of_classes,
        "multi_label": _of_label_sets,
        "multiple_choice": _of_classes,
        "regression": _of_numbers,
        "tagging": _of_tags,
        "span_qa": _of_spans,
        "pretraining": _of_sums,
    }
    if kind in makers:
        yield from makers[kind](_plain(name), answers)


def _mean(values: Sequence[float] | Array) -> Statistic:
    return Statistic(np.asarray(values, np.float64)[:, None], lambda w, u: (w @ u[:, 0]) / w.sum(1))


_SPAN_KEYS = {"em", "f1", "best_em", "best_f1"}


def _of_spans(name: str, answers: Sequence[Answer]) -> Iterator[Statistic]:
    key = {"exact_match": "em", "exact": "em"}.get(name, name)
    if key in _SPAN_KEYS and all(key in answer for answer in answers):
        yield _mean([float(answer[key]) for answer in answers])


_PARTS = {
    "masked_accuracy": ("right_words", "words"),
    "perplexity": ("nll", "words"),
    "loss": ("nll", "words"),
    "bits_per_byte": ("nll", "bytes"),
    "bits_per_character": ("nll", "characters"),
    "pair_accuracy": ("right_pairs", ""),
    "replaced_accuracy": ("right_tokens", "tokens"),
    "replaced_recall": ("found", "replaced"),
}
"""Scores of self-supervision: sum of the one over sum of the other (or the number of blocks)."""


def _of_sums(name: str, answers: Sequence[Answer]) -> Iterator[Statistic]:
    """Blocks of text that each bring their own sums."""
    if name not in _PARTS:
        return
    part, whole = _PARTS[name]
    sums = [answer["prediction"] for answer in answers]
    units = np.array([[one.get(part, 0.0), one.get(whole, 0.0) if whole else 1.0] for one in sums], np.float64)
    finish: dict[str, Callable[[Array], Array]] = {"perplexity": np.exp}
    finish |= dict.fromkeys(("bits_per_byte", "bits_per_character"), lambda nats: nats / math.log(2))
    yield Statistic(units, lambda w, u: finish.get(name, np.asarray)((w @ u[:, 0]) / (w @ u[:, 1])))


def _of_classes(name: str, answers: Sequence[Answer]) -> Iterator[Statistic]:
    truth = [str(answer["reference"]) for answer in answers]
    guess = [str(answer["prediction"]) for answer in answers]
    if name in {"accuracy", "acc", "exact_match", "em"}:
        yield _mean(np.array([t == g for t, g in zip(truth, guess, strict=True)], np.float64))
        return
    classes, codes = np.unique([truth, guess], return_inverse=True)
    identity = np.eye(len(classes))
    units = codes.reshape(2, -1).T.astype(np.float64)

    def with_counts(score: Callable[[Array, Array, Array], Array]) -> Statistic:
        def value(weights: Array, cases: Array) -> Array:
            is_true, is_guess = identity[cases[:, 0].astype(int)], identity[cases[:, 1].astype(int)]
            return score(weights @ (is_true * is_guess), weights @ is_guess, weights @ is_true)

        return Statistic(units, value)

    if name in {"mcc", "matthews", "matthews_correlation"}:
        yield with_counts(_matthews)
    for measure in ("f1", "precision", "recall"):
        if measure in name.split("_"):
            yield from map(with_counts, _averages(measure, name, len(classes)))


def _of_label_sets(name: str, answers: Sequence[Answer]) -> Iterator[Statistic]:
    truth = [set(map(str, answer["reference"])) for answer in answers]
    guess = [set(map(str, answer["prediction"])) for answer in answers]
    if name in {"accuracy", "acc", "exact", "exact_match", "subset_accuracy"}:
        yield _mean(np.array([t == g for t, g in zip(truth, guess, strict=True)], np.float64))
        return
    classes = sorted(set().union(*truth, *guess))
    rows = [
        [float(c in t) for c in classes] + [float(c in g) for c in classes] for t, g in zip(truth, guess, strict=True)
    ]
    size = len(classes)

    def with_counts(score: Callable[[Array, Array, Array], Array]) -> Statistic:
        def value(weights: Array, cases: Array) -> Array:
            is_true, is_guess = cases[:, :size], cases[:, size:]
            return score(weights @ (is_true * is_guess), weights @ is_guess, weights @ is_true)

        return Statistic(np.asarray(rows), value)

    for measure in ("f1", "precision", "recall"):
        if measure in name.split("_") and size:
            yield from map(with_counts, _averages(measure, name, size))


def _of_tags(name: str, answers: Sequence[Answer]) -> Iterator[Statistic]:
    pairs = [(answer["prediction"], answer["reference"]) for answer in answers]
    if name in {"accuracy", "acc"}:
        right = [sum(g == t for g, t in zip(guess, truth, strict=False)) for guess, truth in pairs]
        units = np.array([right, [len(truth) for _, truth in pairs]], np.float64).T
        yield Statistic(units, lambda w, u: (w @ u[:, 0]) / (w @ u[:, 1]))
    measure = next((m for m in ("f1", "precision", "recall") if m in name.split("_")), None)
    if measure is None:
        return
    found = [(entities(tuple(guess)), entities(tuple(truth))) for guess, truth in pairs]
    units = np.array([[len(g & t), len(g), len(t)] for g, t in found], np.float64)
    of = _MEASURES[measure]
    yield Statistic(units, lambda w, u: of(w @ u[:, 0], w @ u[:, 1], w @ u[:, 2]))


def _of_numbers(name: str, answers: Sequence[Answer]) -> Iterator[Statistic]:
    units = np.array([[number(answer["prediction"]), number(answer["reference"])] for answer in answers], np.float64)
    if name in {"pearson", "pearsonr", "pearson_r"}:
        yield Statistic(units, lambda w, u: _correlation(w, u[None, :, 0], u[None, :, 1]))
    if name in {"spearman", "spearmanr", "spearman_r", "spearman_rho"}:
        yield Statistic(units, lambda w, u: _correlation(w, _ranks(w, u[:, 0]), _ranks(w, u[:, 1])))
    if name in {"mse", "rmse"}:
        power = 0.5 if name == "rmse" else 1.0
        yield Statistic(units, lambda w, u: ((w @ (u[:, 0] - u[:, 1]) ** 2) / w.sum(1)) ** power)
    if name == "mae":
        yield _mean(np.abs(units[:, 0] - units[:, 1]))


def number(value: Any) -> float:
    """A regression's answer, which may stand in a list of one."""
    return float(value[0] if isinstance(value, list) else value)


def _correlation(weights: Array, x: Array, y: Array) -> Array:
    """Pearson's correlation under weights, each of shape (draws or 1, cases)."""
    total = weights.sum(1, keepdims=True)
    x = x - (weights * x).sum(1, keepdims=True) / total
    y = y - (weights * y).sum(1, keepdims=True) / total
    spread = (weights * x * x).sum(1) * (weights * y * y).sum(1)
    return np.where(spread > 1e-24, (weights * x * y).sum(1) / np.sqrt(spread), np.nan)


def _ranks(weights: Array, values: Array) -> Array:
    """Mean ranks of `values` (cases,) in draws that hold each case `weights` (draws, cases) times; ties share one."""
    _, first, group = np.unique(np.sort(values), return_index=True, return_inverse=True)
    order = values.argsort(kind="stable")
    sizes = np.add.reduceat(weights[:, order], first, axis=1)
    ends = sizes.cumsum(1)
    ranks = np.empty_like(weights)
    ranks[:, order] = (ends - sizes / 2 + 0.5)[:, group]
    return ranks


def _matthews(hits: Array, guessed: Array, true: Array) -> Array:
    """Matthews' correlation of any number of classes (Gorodkin 2004), from counts of shape (draws, classes)."""
    total = true.sum(1)
    above = hits.sum(1) * total - (guessed * true).sum(1)
    below = (total**2 - (guessed**2).sum(1)) * (total**2 - (true**2).sum(1))
    return np.where(below > 0, above / np.sqrt(below), 0.0)


def _share(part: Array, whole: Array) -> Array:
    """part / whole, 0 where there is nothing to share."""
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1.0), 0.0)


_MEASURES: dict[str, Callable[[Array, Array, Array], Array]] = {
    "f1": lambda hits, guessed, true: _share(2 * hits, guessed + true),
    "precision": lambda hits, guessed, true: _share(hits, guessed),
    "recall": lambda hits, guessed, true: _share(hits, true),
}


def _averages(measure: str, name: str, classes: int) -> Iterator[Callable[[Array, Array, Array], Array]]:
    """The ways to make one number of a measure per class: named in `name`, or all of them."""
    of = _MEASURES[measure]
    named = next((word for word in ("macro", "micro", "weighted") if word in name.split("_")), None)

    def macro(hits: Array, guessed: Array, true: Array) -> Array:
        seen = (guessed + true) > 0
        return _share((of(hits, guessed, true) * seen).sum(1), seen.sum(1).astype(np.float64))

    def micro(hits: Array, guessed: Array, true: Array) -> Array:
        return of(hits.sum(1), guessed.sum(1), true.sum(1))

    def weighted(hits: Array, guessed: Array, true: Array) -> Array:
        return _share((of(hits, guessed, true) * true).sum(1), true.sum(1))

    def single(column: int) -> Callable[[Array, Array, Array], Array]:
        return lambda hits, guessed, true: of(hits[:, column], guessed[:, column], true[:, column])

    # The second class of two is "positive" by convention, so the last class comes first.
    if named is None:
        yield from (single(column) for column in reversed(range(classes)))
    yield from (
        way for word, way in [("macro", macro), ("micro", micro), ("weighted", weighted)] if named in (None, word)
    )
