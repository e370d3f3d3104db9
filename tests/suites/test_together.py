"""One model for all tasks: joint runs first, every task judged by its own head of them, rows answered by others too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hfcourse.errors import DataError, TrainingError
from hfcourse.run_folder import RunFolder
from hfcourse.suites import judge as judging
from hfcourse.suites.rows import Row, Suite
from hfcourse.suites.runner import Learner
from tests.suites.fake import ROWS, SUITE, Fake, Optim, folder


@dataclass(frozen=True)
class Settings:
    """What a run of the fake learner is told: a task's, or the joint one's."""

    row: str
    seed: int = 0
    model: str = "start"
    evaluate_only: bool = False
    head: str = ""
    members: tuple[str, ...] = ()
    optim: Optim = field(default_factory=Optim)


def chosen(suite: Suite, names: Sequence[str], data_dir: str | None) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """Every row has data."""
    return tuple(row for row in ROWS if row.name in names or not names), ()


class Judge:
    """`judge` on the fake suite, with all that was learnt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, failures: dict[str, list[BaseException]] | None = None) -> None:
        monkeypatch.setattr(judging, "SUITES", {"fake": SUITE})
        monkeypatch.setattr(judging, "choose", chosen)
        self.fake = Fake(failures=failures)
        self.learned: list[Settings] = []

    def __call__(self, run: RunFolder, **changes: Any) -> None:
        def joint(rows: Sequence[Row], seed: int) -> Settings:
            return Settings("together", seed, members=tuple(row.name for row in rows))

        learner = Learner(recipe="fake", settings=lambda row, seed, lr: Settings(row.name, seed), learn=self.learn)
        wanted = {"suite": "fake", "tasks": (), "data_dir": None, "seed": 0, "seeds": 1, "first": "", "devices": 1}
        judging.judge(SimpleNamespace(**(wanted | {"rates": ()} | changes)), learner, run, joint=joint)

    def learn(self, settings: Settings, run: RunFolder) -> None:
        if run.finished:
            return
        self.learned.append(settings)
        if settings.row != "together":
            self.fake.learn(settings, run)  # type: ignore[arg-type]
            return
        if self.fake.failures.get("together"):
            raise self.fake.failures["together"].pop(0)
        run.write_json("metrics.json", {"wall_seconds": 5.0})


def test_every_task_is_judged_by_its_head_of_the_joint_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, run = Judge(monkeypatch), folder(tmp_path / "suite")
    judge(run, seeds=2)
    first, second = (str(tmp_path / "suite" / f"together-seed{seed}") for seed in (0, 1))
    joint = Settings("together", 0, members=("one", "two", "three"))
    assert judge.learned[:2] == [joint, replace(joint, seed=1)]
    assert [(s.row, s.seed, s.model, s.evaluate_only, s.head) for s in judge.learned[2:]] == [
        *(
            (row, seed, model, True, row)
            for row in ("one", "two", "three")
            for seed, model in enumerate([first, second])
        ),
        # A row that another's model answers goes to that row's own run, whose model has the one head.
        ("ask", 0, str(tmp_path / "suite" / "three-seed0"), True, ""),
        ("ask", 1, str(tmp_path / "suite" / "three-seed1"), True, ""),
    ]
    found = run.read_json("scores.json")
    assert found["tasks"].keys() == {"one", "two", "three", "ask"}
    assert found["together_seconds"] == 10.0 and run.finished


def test_the_first_task_comes_before_the_joint_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge(monkeypatch)
    judge(folder(tmp_path / "suite"), first="two")
    assert [s.row for s in judge.learned[:2]] == ["two", "together"]
    assert judge.learned[1].model == str(tmp_path / "suite" / "first-two" / "model")
    assert not judge.learned[1].evaluate_only


def test_joint_training_gets_a_second_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge, run = Judge(monkeypatch, {"together": [RuntimeError("cosmic ray")]}), folder(tmp_path / "suite")
    judge(run)
    assert [s.row for s in judge.learned] == ["together", "together", "one", "two", "three", "ask"]
    assert run.finished


def test_a_member_without_data_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge(monkeypatch, {"together": [DataError("two.tsv: gone"), DataError("two.tsv: gone")]})
    run = folder(tmp_path / "suite")
    with pytest.raises(TrainingError, match=r"together failed twice: two\.tsv: gone"):
        judge(run)
    assert [s.row for s in judge.learned] == ["together", "together"]
    assert not run.finished and run.read_json("scores.json")["failed"] == {"together": "two.tsv: gone"}
    # A seed that came through is judged all the same.
    judge = Judge(monkeypatch, {"together": [DataError("two.tsv: gone"), DataError("two.tsv: gone")]})
    other = folder(tmp_path / "other")
    with pytest.raises(TrainingError, match=r"together-seed0 failed twice"):
        judge(other, seeds=2)
    assert other.read_json("scores.json")["tasks"]["one"]["by_seed"].keys() == {"1"}
