"""Tables of a report: scores, differences, confusion, settings; as data for the page and as text for the terminal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import combinations
from typing import Any

import numpy as np

from hfcourse.report.bootstrap import Interval, difference
from hfcourse.report.runs import Run, Score, flat
from hfcourse.report.statistics import find, labelled
from hfcourse.report.text import aligned, count, duration, lower_is_better, show, signed, words

_ALL_PAIRS_UP_TO = 5
"""With more runs than this, each is compared with the first alone."""
_CLASSES = 20
"""Largest confusion matrix; rarer classes are put together."""
OTHER = "(other)"


@dataclass(frozen=True)
class Pair:
    """Two runs on the same answers."""

    ours: Run
    other: Run
    split: str
    metric: str
    count: int
    difference: Interval

    @property
    def reach(self) -> float:
        """How far the interval goes from 0, for the axis that it is drawn on."""
        return max(abs(self.difference.low), abs(self.difference.high), 1e-9) * 1.05

    @property
    def verdict(self) -> str:
        """Who is better, in words."""
        if not self.difference.certain:
            return "no clear difference"
        ours_is_better = (self.difference.value > 0) != lower_is_better(self.metric)
        return f"{(self.ours if ours_is_better else self.other).name} is better"


def by_task(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs by the name of their task, in the order given."""
    tasks: dict[str, list[Run]] = {}
    for run in runs:
        tasks.setdefault(run.task, []).append(run)
    return tasks


def pairs(runs: Sequence[Run]) -> list[Pair]:
    """Paired differences of *the* score of each two runs of one task, on each split that both answered."""
    found = []
    for group in by_task(runs).values():
        every = (
            list(combinations(group, 2)) if len(group) <= _ALL_PAIRS_UP_TO else [(run, group[0]) for run in group[1:]]
        )
        for ours, other in every:
            splits = [split for split in ours.splits if split in other.splits]
            found += [pair for split in splits if (pair := compare(ours, other, split)) is not None]
    return found


def compare(ours: Run, other: Run, split: str) -> Pair | None:
    """Paired difference of two runs on one split; None if their metric or their examples are not the same."""
    metric = ours.metric
    mine, theirs = ours.main_score(split), other.main_score(split)
    if mine is None or theirs is None or other.metric != metric:
        return None
    left = {str(answer["id"]): answer for answer in labelled(ours.answers.get(split, ()))}
    right = {str(answer["id"]): answer for answer in labelled(other.answers.get(split, ()))}
    if not left or left.keys() != right.keys():
        return None
    first = find(metric, ours.kind, list(left.values()), mine.value)
    second = find(metric, other.kind, [right[key] for key in left], theirs.value)
    if first is None or second is None:
        return None
    return Pair(ours, other, split, metric, len(left), difference(first, second))


@dataclass(frozen=True)
class Confusion:
    """How often each class (rows) was answered with each class (columns)."""

    labels: list[str]
    counts: np.ndarray

    @property
    def shares(self) -> np.ndarray:
        """Counts as shares of their row."""
        rows = self.counts.sum(1, keepdims=True)
        shares: np.ndarray = self.counts / np.maximum(rows, 1)
        return shares

    @property
    def recall(self) -> list[float]:
        """Share of each class that was found; nan for one that never is the truth."""
        return _ratios(self.counts.diagonal(), self.counts.sum(1))

    @property
    def precision(self) -> list[float]:
        """Share right among the answers of each class; nan for one that was never answered."""
        return _ratios(self.counts.diagonal(), self.counts.sum(0))


def confusion(run: Run, split: str) -> Confusion | None:
    """The confusion matrix of a run with one class an example (or an answer word for tagging); None for others."""
    answers = labelled(run.answers.get(split, ()))
    if run.kind == "classification":
        truth = [str(answer["reference"]) for answer in answers]
        guess = [str(answer["prediction"]) for answer in answers]
    elif run.kind == "tagging":
        both = [pair for a in answers for pair in zip(a["reference"], a["prediction"], strict=False)]
        truth, guess = [str(tag) for tag, _ in both], [str(tag) for _, tag in both]
    else:
        return None
    if not truth:
        return None
    often = Counter(truth)
    often.update(dict.fromkeys(set(guess) - set(truth), 0))
    if len(often) > _CLASSES:
        kept = {label for label, _ in often.most_common(_CLASSES - 1)}
        truth, guess = ([label if label in kept else OTHER for label in side] for side in (truth, guess))
    labels = sorted({*truth, *guess}, key=_label_order)
    number = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), int)
    np.add.at(counts, ([number[t] for t in truth], [number[g] for g in guess]), 1)
    return Confusion(labels, counts)


def _label_order(label: str) -> tuple[bool, float, str]:
    """Numbers by size, words by the alphabet, the rest class last."""
    try:
        return (False, float(label), label)
    except ValueError:
        return (label == OTHER, math.inf, label)


def _ratios(part: np.ndarray, whole: np.ndarray) -> list[float]:
    return [p / w if w else math.nan for p, w in zip(part.tolist(), whole.tolist(), strict=True)]


def facts(run: Run) -> dict[str, str]:
    """What, when, where and with what a run was made; only what is known."""
    found = run.metrics
    parameters = found.get("parameters") or {}
    file = run.path / ("metrics.json" if found else "config.yaml")
    when = datetime.fromtimestamp(file.stat().st_mtime, UTC).strftime("%Y-%m-%d %H:%M UTC") if file.exists() else ""
    trained, everything = parameters.get("trained"), parameters.get("all")
    model = run.config.get("model")
    rows = {
        "recipe": run.recipe,
        "task": run.task,
        "model": str(model.get("name") or model.get("preset") or "")
        if isinstance(model, Mapping)
        else str(model or ""),
        "state": "finished" if found else "not finished",
        "written": when,
        "seed": str(found.get("seed", run.config.get("seed", ""))),
        "steps": _steps(found) if found else (f"{run.log[-1].get('step', '?')} so far" if run.log else ""),
        "parameters": _parameters(everything, trained),
        "time": duration(found["wall_seconds"]) if "wall_seconds" in found else "",
        "throughput": throughput(run),
        "peak memory": f"{found['peak_memory_bytes'] / 2**20:,.0f} MiB" if found.get("peak_memory_bytes") else "",
        "precision": {"no": "fp32"}.get(str(found.get("precision", "")), str(found.get("precision", ""))),
        "processes": str(found.get("processes", "")),
        "hardware": words(found.get("hardware")),
        "versions": words(found.get("versions")),
        "commit": str(found.get("commit") or ""),
        "folder": str(run.path),
    }
    return {name: value for name, value in rows.items() if value}


def _parameters(everything: int | None, trained: int | None) -> str:
    if not everything:
        return ""
    return f"{count(everything)}, {'all' if trained == everything else count(trained)} trained"


def _steps(metrics: Mapping[str, Any]) -> str:
    best = metrics.get("best_step")
    kept = f", weights of step {best:,} kept" if isinstance(best, int) and best != metrics.get("steps") else ""
    epochs = metrics.get("epochs")
    return f"{count(metrics.get('steps'))}{f' ({epochs:.3g} epochs)' if epochs is not None else ''}{kept}"


def throughput(run: Run) -> str:
    """Median speed of the log lines."""
    for key, unit in (("tokens_per_s", "tokens/s"), ("audio_per_s", "s of audio/s")):
        if speeds := [float(line[key]) for line in run.train_log if line.get(key)]:
            return f"{count(float(np.median(speeds)))} {unit} (median)"
    return ""


@dataclass(frozen=True)
class Setting:
    """One setting in all runs."""

    key: str
    setting_values: list[str]

    @property
    def differs(self) -> bool:
        return len(set(self.setting_values)) > 1


def settings(runs: Sequence[Run]) -> list[Setting]:
    """All settings of all runs by dotted name, in the order of the files."""
    every = [flat(run.config) for run in runs]
    keys = dict.fromkeys(key for config in every for key in config)
    return [Setting(key, [_setting(config[key]) if key in config else "–" for config in every]) for key in keys]


def _setting(value: Any) -> str:
    return "none" if value is None else str(value)


def score_text(score: Score) -> str:
    """``accuracy 0.831``."""
    return f"{score.name} {show(score.value)}"


def text_of_scores(runs: Sequence[Run]) -> str:
    """The scores as an aligned table."""
    rows = [["run", "task", "split", "n", "score", "", "95 % interval", "also"]]
    for run in runs:
        for split in run.splits:
            main = run.main_score(split)
            rest = [score_text(score) for score in run.scores[split] if not score.main]
            bounds = f"{show(main.interval.low)} to {show(main.interval.high)}" if main and main.interval else "–"
            value = [main.name, show(main.value)] if main else ["–", ""]
            rows.append([run.name, run.task, split, count(run.count(split)), *value, bounds, ", ".join(rest)])
        if not run.splits:
            said = f"samples: {len(run.samples)}" if run.samples else "no scores yet"
            rows.append([run.name, run.task, "–", "–", said, "", "–", ""])
    return aligned(rows)


def text_of_pairs(found: Sequence[Pair]) -> str:
    """The paired differences as an aligned table; empty if there are none."""
    if not found:
        return ""
    rows = [["difference", "split", "score", "", "95 % interval", ""]]
    for pair in found:
        bounds = f"{signed(pair.difference.low)} to {signed(pair.difference.high)}"
        names = f"{pair.ours.name} − {pair.other.name}"
        rows.append([names, pair.split, pair.metric, signed(pair.difference.value), bounds, pair.verdict])
    return aligned(rows)
