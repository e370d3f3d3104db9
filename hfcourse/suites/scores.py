"""From finished runs to the suite's numbers: means over seeds, the rate chosen on dev, the average over tasks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hfcourse.run_folder import RunFolder
from hfcourse.suites.rows import Row
from hfcourse.suites.runner import Job, Outcome, Plan

Runs = list[tuple[Job, RunFolder]]


def winners(plan: Plan, outcome: Outcome[Job]) -> dict[str, Runs]:
    """For each row the runs of the learning rate that did best on dev (mean over seeds)."""
    return {row.name: _best_rate(plan, outcome.runs[row.name]) for row in plan.learned if row.name in outcome.runs}


def _best_rate(plan: Plan, runs: Runs) -> Runs:
    by_rate: dict[float | None, Runs] = {}
    for job, folder in runs:
        by_rate.setdefault(job.lr, []).append((job, folder))
    whole = {lr: found for lr, found in by_rate.items() if len(found) == len(plan.seeds)} or by_rate
    return max(whole.values(), key=lambda found: statistics.fmean(on_dev(folder) for _, folder in found))


def on_dev(folder: RunFolder) -> float:
    """A run's own score on dev; -inf where it has none."""
    metrics = folder.read_json("metrics.json")
    value = metrics["scores"].get("dev", {}).get(metrics["score"]["name"], math.nan)
    return float(value) if math.isfinite(value) else -math.inf


def summary(plan: Plan, outcome: Outcome[Job], chosen: Mapping[str, Runs], missing: Sequence[str]) -> dict[str, Any]:
    """What scores.json holds; scores in per cent."""
    tasks = {row.name: _task(row, plan, chosen[row.name], outcome) for row in plan.rows if chosen.get(row.name)}
    averaged = {name: task for name, task in tasks.items() if name in {row.name for row in plan.learned}}
    by_seed = [
        statistics.fmean(task["by_seed"][str(seed)] for task in averaged.values())
        for seed in plan.seeds
        if averaged and all(str(seed) in task["by_seed"] for task in averaged.values())
    ]
    of = [row for row in plan.suite.rows if not row.answered_by]
    values = [task["score"] for task in averaged.values()]
    people = [task["human"] for task in averaged.values() if task["human"] is not None]
    return {
        "suite": plan.suite.name,
        "seeds": list(plan.seeds),
        "tasks": tasks,
        "average": {
            "score": statistics.fmean(values) if values else None,
            "sd": _sd(by_seed),
            "tasks": len(values),
            "of": len(of),
            # Of the same tasks: over all nine it is the benchmark's own.
            "human": statistics.fmean(people) if people and len(people) == len(values) else None,
        },
        "missing": list(missing),
        "failed": dict(outcome.failed),
    }


def _task(row: Row, plan: Plan, runs: Runs, outcome: Outcome[Job]) -> dict[str, Any]:
    metrics = {job.seed: folder.read_json("metrics.json") for job, folder in runs}
    measures: dict[str, Any] = {}
    human = row.human or (None,) * len(row.measures)
    for (split, score), person in zip(row.measures, human, strict=True):
        values = [_per_cent(found["scores"].get(split, {}).get(score)) for found in metrics.values()]
        known = [value for value in values if value is not None]
        if known:
            mean = statistics.fmean(known)
            measures[f"{split}/{score}"] = {"mean": mean, "sd": _sd(known), "values": known, "human": person}
    by_seed = {str(seed): _mean_of(row, found) for seed, found in metrics.items()}
    scores = [value for value in by_seed.values() if value is not None]
    counts = _counts(runs[0][1])
    rates = {job.lr: folder for job, folder in outcome.runs.get(row.name, [])}
    return {
        "score": statistics.fmean(scores) if scores else None,
        "sd": _sd(scores),
        "by_seed": {seed: value for seed, value in by_seed.items() if value is not None},
        "measures": measures,
        "human": statistics.fmean(row.human) if row.human else None,
        "lr": runs[0][1].config.get("optim", {}).get("lr"),
        "tried_lr": sorted(lr for lr in rates if lr is not None) if len(rates) > 1 else [],
        "counts": counts,
        "short": {} if runs[0][1].config.get("limit") else short_files(row, counts),
        "seconds": statistics.fmean(float(found["wall_seconds"]) for found in metrics.values()),
        "runs": [job.name for job, _ in runs],
    }


def _counts(folder: RunFolder) -> dict[str, int]:
    """Examples of each split: of those that were answered the answers, as long inputs are read in several windows."""
    counts: dict[str, int] = folder.read_json("metrics.json")["counts"]
    return {split: len(folder.read_predictions(split)) or count for split, count in counts.items()}


def short_files(row: Row, counts: Mapping[str, int]) -> dict[str, list[int]]:
    """Splits with another number of rows than the official files: [here, official]."""
    return {
        split: [counts[split], official]
        for split, official in row.counts.items()
        if split in counts and counts[split] != official
    }


def _mean_of(row: Row, metrics: Mapping[str, Any]) -> float | None:
    """A task's score: the mean of its measures; None where none is known (hidden labels)."""
    values = [_per_cent(metrics["scores"].get(split, {}).get(score)) for split, score in row.measures]
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _per_cent(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else 100 * value


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def table(summary: Mapping[str, Any]) -> list[list[str]]:
    """Rows of text for people: task, scores, human row, learning rate, examples."""
    rows = [["task", "scored on", "score", "human", "lr", "examples"]]
    for name, task in summary["tasks"].items():
        numbers = " / ".join(_plus_minus(one["mean"], one["sd"]) for one in task["measures"].values()) or "–"
        people = " / ".join("–" if one["human"] is None else f"{one['human']:.1f}" for one in task["measures"].values())
        where = ", ".join(key.replace("/", " ") for key in task["measures"])
        rate = "–" if task["lr"] is None else f"{task['lr']:g}" + (" (chosen)" if task["tried_lr"] else "")
        splits = [key.split("/")[0] for key in task["measures"]]
        examples = " / ".join(f"{task['counts'][split]:,}" for split in dict.fromkeys(splits))
        rows.append([name, where, numbers, people or "–", rate, examples or "–"])
    rows += [[name, "failed", "–", "–", "–", "–"] for name in summary["failed"] if name not in summary["tasks"]]
    average = summary["average"]
    human = "–" if average["human"] is None else f"{average['human']:.1f}"
    score = "–" if average["score"] is None else _plus_minus(average["score"], average["sd"])
    return [*rows, ["average", f"{average['tasks']} of {average['of']} tasks", score, human, "", ""]]


def _plus_minus(mean: float, sd: float | None) -> str:
    return f"{mean:.1f}" if sd is None else f"{mean:.1f} ± {sd:.1f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    head, *rest = rows
    lines = [head, ["---"] * len(head), *rest]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"
