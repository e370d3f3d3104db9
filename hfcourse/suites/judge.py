"""A model on a whole suite: run, choose, average, write down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from hfcourse.errors import ConfigError, TrainingError, unknown
from hfcourse.run_folder import RunFolder
from hfcourse.suites import scores, submission, together
from hfcourse.suites.rows import SUITES, choose
from hfcourse.suites.runner import Job, Learner, Outcome, Plan, run_jobs
from hfcourse.suites.together import Joint


class Wanted(Protocol):
    """What the recipe's settings say of the suite."""

    suite: str
    tasks: tuple[str, ...]
    data_dir: str | None
    seed: int
    seeds: int
    first: str
    devices: int

    @property
    def rates(self) -> tuple[float, ...]:
        """Learning rates to try."""


def judge(wanted: Wanted, learner: Learner, run: RunFolder, *, joint: Joint | None = None) -> None:
    """Run a suite and write scores.json, table.md, report.html and, where the benchmark has one, submission.zip.

    Finished tasks in the folder are taken as they are.

    Args:
        wanted: the recipe's settings.
        learner: how a job becomes a run.
        run: the suite's folder.
        joint: the settings of a run that learns all tasks with one model, by which each is judged; None: each task has
            a model of its own.

    Raises:
        ConfigError, DataError: an unknown task; no data.
        TrainingError: tasks that failed twice; the others are finished and written down.
    """
    from hfcourse.engine.progress import say

    if run.finished:
        say(f"{run.path}: already finished")
        return
    suite = SUITES[wanted.suite]
    rows, missing = choose(suite, wanted.tasks, wanted.data_dir)
    if missing:
        say(f"no data for {', '.join(missing)}: judged on the other {len(rows)} of {len(suite.rows)} tasks")
    plan = Plan(suite=suite, rows=rows, seeds=tuple(range(wanted.seed, wanted.seed + wanted.seeds)), lrs=wanted.rates)
    start = _first_model(wanted, plan, learner, run) if wanted.first else ""
    trained: Outcome[Job] = together.train(plan, learner, joint, run, start=start) if joint else Outcome()
    if joint:
        jobs = together.judging(plan, trained)
    else:
        jobs = [job for row in plan.learned for job in plan.jobs(row, "" if row.name == wanted.first else start)]
    outcome = run_jobs(jobs, learner, run, devices=wanted.devices)
    outcome.failed |= trained.failed
    chosen = scores.winners(plan, outcome)
    _answer_others(plan, chosen, outcome, learner, run)
    if run.is_main:
        _write(plan, outcome, chosen, missing, run, together_seconds=together.seconds(trained))
    if outcome.failed:
        name, reason = next(iter(outcome.failed.items()))
        more = f" (and {len(outcome.failed) - 1} more)" if len(outcome.failed) > 1 else ""
        raise TrainingError(f"{run.path}: {name} failed twice: {reason}{more}; the finished tasks are kept: --resume")


def _first_model(wanted: Wanted, plan: Plan, learner: Learner, run: RunFolder) -> str:
    """The model that comes out of the intermediate task."""
    known = {row.name: row for row in plan.suite.rows if not row.answered_by}
    if wanted.first not in known:
        raise ConfigError(unknown(f"task of {plan.suite.name} to train on first", wanted.first, known))
    (row,), _ = choose(plan.suite, [wanted.first], wanted.data_dir)
    outcome = run_jobs([Job(row, wanted.seed, None, f"first-{row.name}")], learner, run)
    if outcome.failed:
        raise TrainingError(f"{run.path}: {next(iter(outcome.failed.values()))}")
    return str(outcome.runs[row.name][0][1].model_dir)


def _answer_others(
    plan: Plan, chosen: dict[str, scores.Runs], outcome: Outcome[Job], learner: Learner, run: RunFolder
) -> None:
    """Rows without a model of their own, answered by the chosen models of another row."""
    for row in plan.rows:
        if row.answered_by not in chosen:
            continue
        jobs = [
            Job(row, job.seed, job.lr, job.name.replace(row.answered_by, row.name, 1), str(folder.path), True)
            for job, folder in chosen[row.answered_by]
        ]
        answered = run_jobs(jobs, learner, run, others_wait=True)
        outcome.failed |= answered.failed
        if row.name in answered.runs:
            chosen[row.name] = answered.runs[row.name]


def _write(
    plan: Plan,
    outcome: Outcome[Job],
    chosen: Mapping[str, scores.Runs],
    missing: Sequence[str],
    run: RunFolder,
    *,
    together_seconds: float,
) -> None:
    from hfcourse.engine.progress import say
    from hfcourse.report import suite_report

    found = scores.summary(plan, outcome, chosen, missing)
    found["model"] = run.config.get("model")
    found["together_seconds"] = together_seconds
    run.write_json("scores.json", found)
    rows = scores.table(found)
    run.write_text("table.md", scores.markdown(rows))
    for name, task in found["tasks"].items():
        for split, (here, official) in task["short"].items():
            say(f"{name}: {here:,} rows in {split}, where the official file has {official:,}: not comparable as it is")
    print(suite_report(found, rows, run.path / "report.html"))
    best = _best_seeds(plan, chosen)
    if said := submission.write(plan.suite, best, run):
        print(said)
    if not outcome.failed:
        run.write_json("metrics.json", _metrics(plan, found))


def _best_seeds(plan: Plan, chosen: Mapping[str, scores.Runs]) -> dict[str, RunFolder]:
    """Of each row the run whose dev score is best: what it answers is submitted, and what the same model answers."""
    best = {name: max(runs, key=lambda pair: scores.on_dev(pair[1])) for name, runs in chosen.items() if runs}
    for row in plan.rows:
        if row.answered_by in best and row.name in best:
            seed = best[row.answered_by][0].seed
            best[row.name] = next((pair for pair in chosen[row.name] if pair[0].seed == seed), best[row.name])
    return {name: folder for name, (_, folder) in best.items()}


def _metrics(plan: Plan, found: Mapping[str, Any]) -> dict[str, Any]:
    """The suite's own metrics.json; its presence says that the suite is finished."""
    average = found["average"]
    return {"recipe": "bert/suite", "task": plan.suite.name, "average": average, "scores": found["tasks"]}
