"""One model for all tasks of a suite: trained once (a seed), then each task is judged by it alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from hfcourse.errors import ConfigError
from hfcourse.run_folder import RunFolder
from hfcourse.suites.rows import Row
from hfcourse.suites.runner import Job, Learner, Outcome, Plan, run_jobs

Joint = Callable[[Sequence[Row], int], Any]
"""(rows, seed) -> the settings of a run that learns all of them with one model."""

_ROW = Row(name="together", data="")


def train(plan: Plan, learner: Learner, joint: Joint, run: RunFolder, *, start: str = "") -> Outcome[Job]:
    """The joint runs, one a seed, under ``together``.

    Args:
        plan: whose learned rows are the tasks.
        learner: how settings become a run.
        joint: the settings of a joint run.
        run: the suite's folder.
        start: begin with this model instead of the recipe's.

    Raises:
        ConfigError: a single task.
    """
    if len(plan.learned) < 2:
        raise ConfigError(f"together needs two tasks or more, and there is {plan.learned[0].name} alone")
    learner = replace(learner, settings=lambda row, seed, lr: joint(plan.learned, seed))
    return run_jobs(plan.jobs(_ROW, start), learner, run)


def judging(plan: Plan, trained: Outcome[Job]) -> list[Job]:
    """For every task a job that answers it with its head of the joint model, for each seed that has one."""
    models = {job.seed: str(folder.path) for job, folder in trained.runs.get(_ROW.name, ())}
    return [
        replace(job, model=models[job.seed], evaluate_only=True, head=row.name)
        for row in plan.learned
        for job in plan.jobs(row)
        if job.seed in models
    ]


def seconds(trained: Outcome[Job]) -> float:
    """Wall time of all joint runs."""
    runs = trained.runs.get(_ROW.name, ())
    return sum(float(folder.read_json("metrics.json")["wall_seconds"]) for _, folder in runs)
