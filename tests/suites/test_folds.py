"""Means over folds and differences from a baseline, against cases worked by hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hfcourse.errors import TrainingError
from hfcourse.run_folder import RunFolder
from hfcourse.suites.folds import judge
from hfcourse.suites.methods import PRETRAINED, RANDOM, Probe
from hfcourse.suites.runner import Learner


@dataclass(frozen=True)
class Asked:
    """Settings of a probe that learns nothing."""

    method: str
    fold: str


SCORES = {"fbank": {"a": 0.50, "b": 0.60, "c": 0.40}, "net": {"a": 0.70, "b": 0.55, "c": 0.55}}


def _probing(scores: dict[str, dict[str, float]]) -> Learner:
    def settings(probe: Probe) -> Any:
        return Asked(probe.method, probe.task)

    def learn(asked: Any, folder: RunFolder) -> None:
        if not folder.finished:
            folder.write_json("metrics.json", {"score": {"value": scores[asked.method][asked.fold]}})

    return Learner(recipe="speech/finetune", settings=settings, learn=learn)


def _probes() -> list[Probe]:
    starts = [("fbank", RANDOM), ("net", PRETRAINED)]
    return [Probe(method, start, method, fold, 0) for method, start in starts for fold in "abc"]


def test_every_model_is_compared_with_the_baseline_fold_by_fold(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder.create(tmp_path / "run", {"recipe": "speech/unseen"})
    judge(_probes(), run, _probing(SCORES), baseline="fbank")
    net = run.read_json("folds.json")["models"]["net"]
    assert net["mean"] == pytest.approx(0.6) and net["sd"] == pytest.approx(0.0866, abs=1e-4)
    assert net["above"] == pytest.approx((0.2 - 0.05 + 0.15) / 3) and net["above_least"] == pytest.approx(-0.05)
    lines = (run.path / "table.md").read_text().splitlines()
    assert lines[2] == "| fbank | 3 | 50.0 ± 10.0 |  |  |  |"
    assert lines[3] == "| net | 3 | 60.0 ± 8.7 | +10.0 | -5.0 | 2 of 3 |"
    assert "+10.0" in capsys.readouterr().out and run.finished
    assert run.read_json("metrics.json")["recipe"] == "speech/unseen"
    assert RunFolder.create(run.path, {"recipe": "speech/unseen"}, overwrite=True) and len([*run.path.iterdir()]) == 1


def test_a_fold_that_fails_is_named_and_the_others_are_kept(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", {"recipe": "speech/unseen"})
    scores = {"fbank": SCORES["fbank"], "net": {"a": 0.7, "b": 0.5}}
    with pytest.raises(TrainingError, match="net-pretrained-c-seed0 failed twice"):
        judge(_probes(), run, _probing(scores), baseline="fbank")
    assert run.read_json("folds.json")["models"]["net"]["folds"] == 2 and not run.finished
