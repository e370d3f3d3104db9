"""From a model's answers to scores: filters on generated text, scores of one row, scores of all rows.

A record is what is known of one answered row, ready for a line of JSON; scores are computed from records alone.
Names and meanings are those of lm-evaluation-harness, but for ``f1`` of generated text, which is SQuAD's. A row that
did not fit the model has no record.
"""

from __future__ import annotations

import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hfcourse.errors import ConfigError
from hfcourse.metrics import classification, qa

Record = Mapping[str, Any]
Filter = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class MetricUse:
    """One metric of one task."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """Such as ``ignore_case``."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """How a metric is computed: from each record by itself, then the mean; or from all of them at once."""

    outputs: tuple[str, ...]
    one: Callable[..., float] | None = None
    """(record, prediction, options) -> the score of a row."""
    every: Callable[..., float] | None = None
    """(records, predictions, options) -> the score."""
    aggregation: str = "mean"
    """What lm-evaluation-harness calls it."""
    per_cent: bool = True
    """A share, shown in per cent; otherwise shown as it is."""
    is_accuracy: bool = False
    """Share of right answers: counts in the mean over tasks."""
    higher: bool = True
    """Whether more is better."""


# Filters


def regex(pattern: str, group: int = 0, fallback: str = "[invalid]") -> Filter:
    """The `group`-th match of a pattern; of a match with groups its first group that is not empty."""
    compiled = re.compile(pattern)

    def found(answer: str) -> str:
        matches = compiled.findall(answer)
        if not -len(matches) <= group < len(matches):
            return fallback
        match = matches[group]
        if isinstance(match, tuple):
            match = next((part for part in match if part), fallback)
        return str(match).strip()

    return found


def filtered(answer: str, steps: Sequence[Filter]) -> str:
    """An answer after each filter in turn."""
    for step in steps:
        answer = step(answer)
    return answer


# One row


def is_right(place: int, gold: int | list[int]) -> float:
    """1 where a choice is the right one, or one of several."""
    return float(place in gold if isinstance(gold, list) else place == gold)


def _picked(record: Record, how: str) -> float:
    return is_right(record["picks"][how], record["gold"])


def _picks(how: str) -> Callable[..., float]:
    return lambda record, prediction, options: _picked(record, how)


def _greedy(record: Record, prediction: Any, options: Mapping[str, Any]) -> float:
    gold = record["gold"]
    return float(any(record["greedy"][place] for place in (gold if isinstance(gold, list) else [gold])))


def _target_is_greedy(record: Record, prediction: Any, options: Mapping[str, Any]) -> float:
    return float(record["greedy"][0])


def exact_match(
    prediction: str,
    references: Sequence[str],
    *,
    ignore_case: bool = False,
    ignore_punctuation: bool = False,
    ignore_numbers: bool = False,
    regexes_to_ignore: Sequence[str] = (),
) -> float:
    """1 if the prediction equals any reference after what is ignored has been taken out of both."""
    dropped = (string.punctuation if ignore_punctuation else "") + (string.digits if ignore_numbers else "")
    table = str.maketrans("", "", dropped)

    def bare(text: str) -> str:
        for pattern in regexes_to_ignore:
            text = re.sub(pattern, "", text)
        return (text.lower() if ignore_case else text).translate(table)

    return float(bare(prediction) in {bare(reference) for reference in references})


def _match(record: Record, prediction: str, options: Mapping[str, Any]) -> float:
    return exact_match(prediction, record["gold"], **options)


def _brier(record: Record, prediction: Any, options: Mapping[str, Any]) -> float:
    top = max(record["logprobs"])
    weights = [math.exp(value - top) for value in record["logprobs"]]
    shares = [weight / sum(weights) for weight in weights]
    return float(sum((share - is_right(place, record["gold"])) ** 2 for place, share in enumerate(shares)))


# All rows


def _classes(metric: Callable[..., float], **more: Any) -> Callable[..., float]:
    def score(records: Sequence[Record], predictions: Any, options: Mapping[str, Any]) -> float:
        golds = [one["gold"][0] if isinstance(one["gold"], list) else one["gold"] for one in records]
        return metric([one["picks"]["sum"] for one in records], golds, **more)

    return score


def _f1(records: Sequence[Record], predictions: Sequence[Any], options: Mapping[str, Any]) -> float:
    """Of choices, that of choice 1; of texts, the mean overlap of words (Chinese: characters) with the nearest gold."""
    if records[0]["output"] == "multiple_choice":
        return _classes(classification.f1, positive=1)(records, predictions, options)
    golds = [one["gold"] for one in records]
    units = [qa.segmenter("".join(gold) or answer) for answer, gold in zip(predictions, golds, strict=True)]
    return sum(map(qa.f1, predictions, golds, units)) / len(records)


def _numbers(metric: Callable[..., float]) -> Callable[..., float]:
    """Choices and targets that are numbers, as numbers."""

    def score(records: Sequence[Record], predictions: Any, options: Mapping[str, Any]) -> float:
        picked = [float(one["choices"][one["picks"]["sum"]]) for one in records]
        return metric(picked, [float(one["target"]) for one in records])

    return score


def _perplexity(records: Sequence[Record], predictions: Any, options: Mapping[str, Any]) -> float:
    return classification.perplexity(-sum(one["logprobs"][0] for one in records), len(records))


def _sacrebleu(name: str, **more: Any) -> Callable[..., float]:
    def score(records: Sequence[Record], predictions: Sequence[str], options: Mapping[str, Any]) -> float:
        import sacrebleu

        most = max(len(one["gold"]) for one in records)
        # sacrebleu wants as many references of every row: the last one again adds nothing.
        columns = [[one["gold"][min(n, len(one["gold"]) - 1)] for one in records] for n in range(most)]
        return float(getattr(sacrebleu, name)(list(predictions), columns, **more).score)

    return score


_CHOICE, _LIKELY, _TEXT = ("multiple_choice",), ("loglikelihood",), ("generate_until",)


def _by_output(**forms: Callable[..., float]) -> Callable[..., float]:
    """A row's score by the kind of task it is from."""
    return lambda record, prediction, options: forms[record["output"]](record, prediction, options)


METRICS = {
    "acc": Metric(
        outputs=_CHOICE + _LIKELY,
        one=_by_output(multiple_choice=_picks("sum"), loglikelihood=_target_is_greedy),
        is_accuracy=True,
    ),
    "acc_norm": Metric(outputs=_CHOICE, one=_picks("character"), is_accuracy=True),
    "acc_bytes": Metric(outputs=_CHOICE, one=_picks("byte"), is_accuracy=True),
    "acc_token": Metric(outputs=_CHOICE, one=_picks("token"), is_accuracy=True),
    "acc_mutual_info": Metric(outputs=_CHOICE, one=_picks("mutual_info"), is_accuracy=True),
    "acc_calibrated": Metric(outputs=_CHOICE, one=_picks("calibrated"), is_accuracy=True),
    "exact_match": Metric(
        outputs=_CHOICE + _TEXT, one=_by_output(multiple_choice=_greedy, generate_until=_match), is_accuracy=True
    ),
    "brier_score": Metric(outputs=_CHOICE, one=_brier, aggregation="brier_score", per_cent=False, higher=False),
    "f1": Metric(outputs=_CHOICE + _TEXT, every=_f1, aggregation="f1"),
    "mcc": Metric(outputs=_CHOICE, every=_classes(classification.matthews), aggregation="matthews_corrcoef"),
    "pearson": Metric(outputs=_CHOICE, every=_numbers(classification.pearson), aggregation="pearson"),
    "spearman": Metric(outputs=_CHOICE, every=_numbers(classification.spearman), aggregation="spearman"),
    "perplexity": Metric(outputs=_LIKELY, every=_perplexity, aggregation="perplexity", per_cent=False, higher=False),
    "bleu": Metric(outputs=_TEXT, every=_sacrebleu("corpus_bleu"), aggregation="bleu", per_cent=False),
    "chrf": Metric(outputs=_TEXT, every=_sacrebleu("corpus_chrf"), aggregation="chrf", per_cent=False),
    "chrf++": Metric(
        outputs=_TEXT, every=_sacrebleu("corpus_chrf", word_order=2), aggregation="chrf++", per_cent=False
    ),
    "ter": Metric(outputs=_TEXT, every=_sacrebleu("corpus_ter"), aggregation="ter", per_cent=False, higher=False),
}
DEFAULT = {
    "multiple_choice": ("acc", "acc_norm"),
    "loglikelihood": ("perplexity", "acc"),
    "generate_until": ("exact_match",),
}
"""lm-evaluation-harness's metrics of a task that names none."""


NEED_ONE_QUESTION = {"acc_mutual_info", "acc_calibrated"}
"""Metrics for which the choices must be answers to the same question."""


def by_number(uses: Sequence[MetricUse]) -> bool:
    """Whether answers are judged by how near their number is alone: the target need be none of the choices."""
    return len(correlates(uses)) == len(uses)


def correlates(uses: Sequence[MetricUse]) -> list[str]:
    """The metrics that read choices and targets as numbers."""
    return [use.name for use in uses if use.name in {"pearson", "spearman"}]


def check_numbers(uses: Sequence[MetricUse], choices: Sequence[str], task: str) -> None:
    """Refuse a correlation over choices, or a target, that are no numbers."""
    wanted = correlates(uses)
    if wanted and not all(_is_number(choice) for choice in choices):
        raise ConfigError(f"task {task}: {wanted[0]} needs choices that are numbers, not {', '.join(choices)[:60]!r}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def row_scores(record: Record, uses: Sequence[MetricUse]) -> dict[str, float]:
    """The scores that one row has by itself."""
    found: dict[str, float] = {}
    for use in uses:
        metric = METRICS[use.name]
        for key, prediction in _keys(use.name, record):
            if metric.one is not None:
                found[key] = metric.one(record, prediction, use.options)
    return found


def scores(records: Sequence[Record], uses: Sequence[MetricUse]) -> dict[str, float]:
    """The scores of all rows, by ``metric`` or ``metric,filter``: shares, or what the metric gives."""
    found: dict[str, float] = {}
    for use in uses:
        metric = METRICS[use.name]
        for place, (key, _) in enumerate(_keys(use.name, records[0])):
            if metric.one is not None:
                found[key] = sum(one["scores"][key] for one in records) / len(records)
            elif metric.every is not None:
                predictions = [_keys(use.name, one)[place][1] for one in records]
                found[key] = metric.every(records, predictions, use.options)
    return found


def _keys(metric: str, record: Record) -> list[tuple[str, Any]]:
    """(name of the score, prediction) for each filter; without filters, the metric's name alone."""
    predictions = record.get("predictions")
    if not predictions:
        return [(metric, None)]
    alone = len(predictions) == 1
    return [(metric if alone else f"{metric},{name}", answer) for name, answer in predictions.items()]
