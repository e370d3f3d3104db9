"""The numbers of a suite, worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hfcourse.suites import scores
from hfcourse.suites.rows import GLUE
from hfcourse.suites.runner import Plan, run_jobs
from tests.suites.fake import ROWS, SUITE, Fake, Settings, folder, plain


def summary_of(tmp_path: Path, fake: Fake, **changes: object) -> dict:  # type: ignore[type-arg]
    plan = replace(Plan(suite=SUITE, rows=ROWS, seeds=(0,)), **changes)  # type: ignore[arg-type]
    jobs = [job for row in plan.learned for job in plan.jobs(row)]
    outcome = run_jobs(jobs, fake.learner, folder(tmp_path / "suite"))
    return scores.summary(plan, outcome, scores.winners(plan, outcome), [])


def test_the_mean_of_a_tasks_scores_comes_first(tmp_path: Path) -> None:
    found = summary_of(tmp_path, Fake())
    assert {name: task["score"] for name, task in found["tasks"].items()} == {
        "one": pytest.approx(10.0),
        "two": pytest.approx((25.0 + 20.0) / 2),
        "three": pytest.approx((30.0 + 35.0) / 2),
    }
    assert found["average"] == {
        "score": pytest.approx((10.0 + 22.5 + 32.5) / 3),
        "sd": None,
        "tasks": 3,
        "of": 3,
        "human": pytest.approx((90.0 + 75.0 + 90.0) / 3),
    }
    assert found["tasks"]["two"]["measures"]["dev/f1"] == {
        "mean": pytest.approx(25.0),
        "sd": None,
        "values": [pytest.approx(25.0)],
        "human": 80.0,
    }
    assert found["tasks"]["two"]["human"] == 75.0


def test_seeds_give_a_mean_and_a_standard_deviation(tmp_path: Path) -> None:
    found = summary_of(tmp_path, Fake(), seeds=(0, 1, 2))
    assert found["tasks"]["one"]["score"] == pytest.approx(11.0)
    assert found["tasks"]["one"]["sd"] == pytest.approx(1.0)
    assert found["average"]["score"] == pytest.approx((11.0 + 23.5 + 33.5) / 3)
    assert found["average"]["sd"] == pytest.approx(1.0)  # of each seed's average


def test_the_rate_is_chosen_on_dev_for_each_task(tmp_path: Path) -> None:
    def score(settings: Settings, split: str, name: str) -> float:
        best = {"one": 2e-5, "two": 1e-5, "three": 5e-5}[settings.row]
        return plain(settings, split, name) - (0.0 if settings.optim.lr == best else 0.05)

    found = summary_of(tmp_path, Fake(score), seeds=(0, 1), lrs=(1e-5, 2e-5, 5e-5))
    assert {name: task["lr"] for name, task in found["tasks"].items()} == {"one": 2e-5, "two": 1e-5, "three": 5e-5}
    assert found["tasks"]["one"]["tried_lr"] == [1e-5, 2e-5, 5e-5]
    assert found["tasks"]["one"]["score"] == pytest.approx(10.5)


def test_a_failed_task_is_not_averaged(tmp_path: Path) -> None:
    found = summary_of(tmp_path, Fake(failures={"one": [ValueError("no"), ValueError("no")]}))
    assert found["average"]["tasks"] == 2 and found["average"]["of"] == 3
    assert found["failed"] == {"one": "ValueError: no"}
    rows = scores.table(found)
    assert rows[-2][:2] == ["one", "failed"] and rows[-1][1] == "2 of 3 tasks"


def test_the_table(tmp_path: Path) -> None:
    found = summary_of(tmp_path, Fake(), seeds=(0, 1, 2))
    lines = scores.markdown(scores.table(found)).splitlines()
    assert lines[0] == "| task | scored on | score | human | lr | examples |"
    assert lines[3] == "| two | dev f1, dev accuracy | 26.0 ± 1.0 / 21.0 ± 1.0 | 80.0 / 70.0 | 0.001 | 3 |"
    assert lines[-1] == "| average | 3 of 3 tasks | 22.7 ± 1.0 | 85.0 |  |  |"


def test_files_that_lost_rows_are_named() -> None:
    row = next(row for row in GLUE.rows if row.name == "rte")
    assert scores.short_files(row, {"train": 2490, "dev": 276, "test": 3000}) == {"dev": [276, 277]}


def test_glue_as_the_benchmark_has_it() -> None:
    """Eleven files; nine averaged tasks; the human average is what the human row gives by the rule."""
    files = [file for row in GLUE.rows for file in row.submit.values()]
    names = "CoLA SST-2 MRPC STS-B QQP MNLI-m MNLI-mm QNLI RTE WNLI AX"
    assert sorted(files) == sorted(f"{name}.tsv" for name in names.split())
    people = [sum(row.human) / len(row.human) for row in GLUE.rows if row.human]
    assert len(people) == 9
    assert sum(people) / 9 == pytest.approx(87.1, abs=0.05)
