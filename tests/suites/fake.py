"""Runs of a suite without any training: a learner whose scores are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hfcourse.run_folder import RunFolder
from hfcourse.suites.rows import Row, Suite
from hfcourse.suites.runner import Learner

ROWS = (
    Row(name="one", data="one", splits=("dev",), human=(90.0,)),
    Row(name="two", data="two", scores=("f1", "accuracy"), splits=("dev",), human=(80.0, 70.0)),
    Row(name="three", data="three", splits=("dev", "dev_other"), human=(85.0, 95.0), submit={"test": "THREE.tsv"}),
    Row(name="ask", data="ask", scores=("matthews",), splits=("test",), answered_by="three"),
)
SUITE = Suite(name="fake", rows=ROWS)


@dataclass(frozen=True)
class Optim:
    lr: float = 1e-3


@dataclass(frozen=True)
class Settings:
    """What a run of the fake learner is told."""

    row: str
    seed: int = 0
    model: str = "start"
    evaluate_only: bool = False
    optim: Optim = field(default_factory=Optim)


Score = Callable[[Settings, str, str], float]


def plain(settings: Settings, split: str, score: str) -> float:
    """Known and different for every measure."""
    number = [row.name for row in ROWS].index(settings.row)
    return 0.1 * (number + 1) + 0.01 * settings.seed + (0.05 if "other" in split or score == "f1" else 0.0)


class Fake:
    """Counts what it is asked; fails as often as `failures` says."""

    def __init__(self, score: Score = plain, failures: dict[str, list[BaseException]] | None = None) -> None:
        self.score = score
        self.failures = failures or {}
        self.learned: list[Settings] = []

    @property
    def learner(self) -> Learner:
        def settings(row: Row, seed: int, lr: float | None) -> Settings:
            return Settings(row.name, seed, optim=Optim() if lr is None else Optim(lr))

        return Learner(recipe="fake", settings=settings, learn=self.learn)

    def learn(self, settings: Settings, run: RunFolder) -> None:
        if run.finished:
            return
        self.learned.append(settings)
        if self.failures.get(settings.row):
            raise self.failures[settings.row].pop(0)
        row = next(row for row in ROWS if row.name == settings.row)
        splits = {"dev", "test", *row.splits}
        scores = {split: {s: self.score(settings, split, s) for s in row.scores} for split in sorted(splits)}
        run.write_predictions("test", [{"id": n, "prediction": "yes"} for n in range(3)])
        metrics: dict[str, Any] = {
            "score": {"name": row.scores[0]},
            "scores": scores,
            "counts": dict.fromkeys(splits, 3),
            "wall_seconds": 1.0,
        }
        run.write_json("metrics.json", metrics)


def folder(place: Path) -> RunFolder:
    return RunFolder.create(place, {"recipe": "bert/suite", "model": "start"})
