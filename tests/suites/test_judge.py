"""Which runs' answers are submitted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hfcourse.suites import scores
from hfcourse.suites.judge import _answer_others, _best_seeds
from hfcourse.suites.runner import Plan, run_jobs
from tests.suites.fake import ROWS, SUITE, Fake, folder


def test_a_row_without_a_model_is_answered_by_the_one_that_is_submitted_elsewhere(tmp_path: Path) -> None:
    plan = replace(Plan(suite=SUITE, rows=ROWS, seeds=(0,)), seeds=(0, 1, 2))  # the fake's last seed scores best
    fake, run = Fake(), folder(tmp_path / "suite")
    outcome = run_jobs([job for row in plan.learned for job in plan.jobs(row)], fake.learner, run)
    chosen = scores.winners(plan, outcome)
    _answer_others(plan, chosen, outcome, fake.learner, run)
    best = _best_seeds(plan, chosen)
    assert best["three"].path.name == "three-seed2" and best["ask"].path.name == "ask-seed2"
