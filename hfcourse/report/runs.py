"""What a report reads of a run folder, with a list of what is not there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hfcourse.errors import RunFolderError
from hfcourse.report.bootstrap import Interval, Statistic, interval
from hfcourse.report.statistics import Answer, Kind, find, kind_of
from hfcourse.run_folder import SAMPLES, RunFolder

_SPLITS = ("test", "dev", "train")


@dataclass(frozen=True)
class Score:
    """One metric of one split of one run."""

    name: str
    value: float
    interval: Interval | None
    main: bool


@dataclass(frozen=True)
class Run:
    """One run, read once."""

    name: str
    path: Path
    config: Mapping[str, Any]
    metrics: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    answers: Mapping[str, list[Answer]]
    missing: Sequence[str]
    samples: Sequence[Answer] = ()
    """What a model has written, which belongs to no split."""

    @classmethod
    def read(cls, folder: RunFolder | Path, name: str = "") -> Run:
        """Read a run folder. RunFolderError if it is none; parts that are absent are listed in `missing`."""
        folder = folder if isinstance(folder, RunFolder) else RunFolder.open(folder)
        metrics = _mapping(folder.read_json("metrics.json")) if (folder.path / "metrics.json").exists() else {}
        log = folder.read_log() if (folder.path / "log.jsonl").exists() else []
        files = sorted((folder.path / "predictions").glob("*.jsonl"), key=lambda file: _order(file.stem))
        answers = {file.stem: folder.read_predictions(file.stem) for file in files}
        samples = answers.pop(SAMPLES, [])
        writes = samples and "task" not in folder.config  # a run that writes has no splits and no curves
        missing = [] if writes else _missing(folder.config, metrics, log, answers)
        return cls(name or folder.path.name, folder.path, folder.config, metrics, log, answers, missing, samples)

    @property
    def recipe(self) -> str:
        return str(self.metrics.get("recipe") or self.config.get("recipe") or "")

    @property
    def task(self) -> str:
        """The task's name; for an unfinished run what the config says about it."""
        named = self.metrics.get("task")
        settings = _mapping(self.config.get("task"))
        return str(named or settings.get("data") or settings.get("kind") or "task")

    @cached_property
    def kind(self) -> Kind:
        hint = str(_mapping(self.config.get("task")).get("kind", ""))
        for answers in self.answers.values():
            if answers:
                return kind_of(answers, hint)
        return "pretraining" if _pretrains(self.config) else "unknown"

    @property
    def metric(self) -> str:
        """Name of *the* score; empty if the run has not come so far."""
        return str(_mapping(self.metrics.get("score")).get("name", ""))

    @cached_property
    def splits(self) -> list[str]:
        """Splits with scores or answers, the most telling first."""
        return sorted({*_mapping(self.metrics.get("scores")), *self.answers}, key=_order)

    @property
    def main_split(self) -> str:
        """The split to show examples of: test, or what comes nearest to it."""
        return next((split for split in self.splits if self.answers.get(split)), "")

    def count(self, split: str) -> int | None:
        """Examples of a split: answers where they are kept (the engine counts windows of long texts one by one)."""
        counted = _mapping(self.metrics.get("counts")).get(split)
        return len(self.answers.get(split, ())) or (int(counted) if counted is not None else None)

    @property
    def train_log(self) -> list[Mapping[str, Any]]:
        """Log lines of training steps."""
        return [line for line in self.log if "split" not in line]

    @property
    def dev_log(self) -> list[Mapping[str, Any]]:
        """Log lines of evaluations on dev."""
        return [line for line in self.log if line.get("split") == "dev"]

    def statistic(self, split: str, metric: str) -> Statistic | None:
        """The metric as a function of resamples, if the answers give the recorded score again."""
        recorded = _mapping(_mapping(self.metrics.get("scores")).get(split)).get(metric)
        return find(metric, self.kind, self.answers.get(split, ()), recorded)

    @cached_property
    def scores(self) -> dict[str, list[Score]]:
        """Scores of each split, *the* score first, with 95 % intervals where they can be had."""
        found: dict[str, list[Score]] = {}
        for split in self.splits:
            recorded = _mapping(_mapping(self.metrics.get("scores")).get(split))
            numbers = {name: value for name, value in recorded.items() if isinstance(value, int | float)}
            found[split] = [
                self._score(split, name, float(numbers[name]))
                for name in sorted(numbers, key=lambda name: (name != self.metric, "loss" in name))
            ]
        return found

    def _score(self, split: str, name: str, value: float) -> Score:
        statistic = self.statistic(split, name)
        bounds = interval(statistic) if statistic is not None else None
        return Score(name, value, bounds, main=name == self.metric)

    def main_score(self, split: str) -> Score | None:
        return next((score for score in self.scores.get(split, ()) if score.main), None)


def read_all(paths: Sequence[Path]) -> list[Run]:
    """Read several runs; they are named by what is different in their paths."""
    if not paths:
        raise RunFolderError("no run folder was given: name one or more, for example runs/bert-finetune-1")
    places = [Path(path).resolve() for path in paths]
    if len(places) == 1:
        return [Run.read(places[0])]
    return [Run.read(place, name) for place, name in zip(places, _names(places), strict=True)]


def common_parent(paths: Sequence[Path]) -> Path:
    """The nearest folder that all of them lie in."""
    return Path(os.path.commonpath([Path(path).resolve().parent for path in paths]))


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """``{"optim": {"lr": 1e-4}}`` -> ``{"optim.lr": 1e-4}``; lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = value
    return found


def _names(places: Sequence[Path]) -> list[str]:
    parent = common_parent(places)
    names = [str(place.relative_to(parent)) for place in places]
    return [name if names.count(name) == 1 else f"{name} ({number})" for number, name in enumerate(names, 1)]


def _missing(
    config: Mapping[str, Any], metrics: Mapping[str, Any], log: Sequence[Any], answers: Mapping[str, Any]
) -> list[str]:
    missing = []
    if not metrics:
        missing.append("metrics.json is not there: the run has not finished (continue it with --resume)")
    if not log:
        missing.append("log.jsonl is absent or empty: there are no curves")
    if not answers and not _pretrains(config):
        missing.append("predictions/ is absent or empty: there are no intervals, confusion matrix or examples")
    if not _pretrains(config):
        missing += [f"predictions/{split}.jsonl is empty" for split, found in answers.items() if not found]
    return missing


def _pretrains(config: Mapping[str, Any]) -> bool:
    return str(_mapping(config.get("task")).get("kind")).endswith("pretraining")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _order(split: str) -> tuple[int, str]:
    return (_SPLITS.index(split) if split in _SPLITS else len(_SPLITS), split)
