"""From answered rows to the numbers of an evaluation by prompts: means over draws, over groups, over tasks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfcourse.engine import machine
from hfcourse.prompting import judging
from hfcourse.prompting.judging import METRICS
from hfcourse.prompting.templates import Template
from hfcourse.run_folder import RunFolder
from hfcourse.suites.scores import markdown


@dataclass(frozen=True)
class Result:
    """The scores of one task with so many examples under one seed."""

    task: str
    shots: int
    seed: int
    scores: Mapping[str, float]
    """Shares in per cent, the others as they are; empty where no row fits."""
    rows: int
    dropped: int
    """Examples left out for want of room, over all rows."""
    too_long: int
    """Rows that do not fit the model even without examples; they are not judged."""
    chance: float | None
    """What guessing scores, in per cent; None without choices."""

    @property
    def words(self) -> str:
        """Its score in one line."""
        if not self.scores:
            return "no row fits the model"
        name, value = next(iter(self.scores.items()))
        notes = [f"{self.dropped} examples left out"] if self.dropped else []
        notes += [f"{self.too_long} rows too long"] if self.too_long else []
        return f"{name} {value:.1f}" + (f" ({', '.join(notes)})" if notes else "")


def result(template: Template, shots: int, seed: int, records: Sequence[Mapping[str, Any]]) -> Result:
    """The scores of the rows that fit the model."""
    judged = [one for one in records if not one.get("too_long")]
    found = judging.scores(judged, template.metrics) if judged else {}
    choices = [len(one["choices"]) for one in judged if "choices" in one]
    return Result(
        task=template.name,
        shots=shots,
        seed=seed,
        scores={key: value * (100 if _metric(key).per_cent else 1) for key, value in found.items()},
        rows=len(records),
        dropped=sum(one["dropped"] for one in judged),
        too_long=len(records) - len(judged),
        chance=100 * statistics.fmean(1 / n for n in choices) if choices else None,
    )


def summary(results: Sequence[Result], templates: Sequence[Template]) -> dict[str, Any]:
    """What scores.json holds: for each task, group and all tasks the scores by number of examples."""
    by_name = {template.name: template for template in templates}
    tasks = {name: _task(template, [r for r in results if r.task == name]) for name, template in by_name.items()}
    accurate = {name for name, task in tasks.items() if task["is_accuracy"]}
    groups = {group: {name for name in accurate if group in by_name[name].groups} for name in by_name
              for group in by_name[name].groups}  # fmt: skip
    return {
        "tasks": tasks,
        "groups": {group: _mean(tasks, members) for group, members in groups.items() if members},
        "average": _mean(tasks, accurate),
    }


def _metric(key: str) -> judging.Metric:
    return METRICS[key.partition(",")[0]]


def _task(template: Template, results: Sequence[Result]) -> dict[str, Any]:
    main = next((key for one in results for key in one.scores), template.metrics[0].name)
    by_shots: dict[int, list[Result]] = {}
    for one in results:
        by_shots.setdefault(one.shots, []).append(one)
    return {
        "metric": main,
        "is_accuracy": _metric(main).is_accuracy,
        "groups": list(template.groups),
        "output": template.output,
        "rows": results[0].rows,
        "chance": results[0].chance,
        "shots": {str(shots): _shots(found) for shots, found in sorted(by_shots.items())},
    }


def _shots(found: Sequence[Result]) -> dict[str, Any]:
    scores = {key: _spread([one.scores[key] for one in found if one.scores]) for one in found for key in one.scores}
    return {
        "scores": scores,
        "seeds": [one.seed for one in found],
        "dropped": sum(one.dropped for one in found),
        "too_long": max(one.too_long for one in found),
    }


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": statistics.fmean(values), "sd": _sd(values), "values": list(values)}


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def _mean(tasks: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    """Mean over tasks of the main score, for the numbers of examples that all of them were asked with.

    The deviation is that of the mean between draws; a task that has but one draw counts with it in each.
    """
    values = {name: {k: one["scores"][tasks[name]["metric"]]["values"] for k, one in tasks[name]["shots"].items()
                     if one["scores"]} for name in sorted(names)}  # fmt: skip
    common = [k for k in next(iter(values.values()), {}) if all(k in one for one in values.values())]
    found: dict[str, Any] = {}
    for k in common:
        draws = max(len(one[k]) for one in values.values())
        means = [statistics.fmean(one[k][min(n, len(one[k]) - 1)] for one in values.values()) for n in range(draws)]
        found[k] = _spread(means)
    return {"tasks": sorted(names), "shots": found}


def table(found: Mapping[str, Any]) -> list[list[str]]:
    """Rows of text for people: a task's main score by number of examples, then groups and the mean."""
    counts = sorted({int(k) for task in found["tasks"].values() for k in task["shots"]})
    rows = [["task", "score", "rows", "chance", *(_shots_word(k) for k in counts)]]
    for name, task in found["tasks"].items():
        cells = {k: one["scores"].get(task["metric"]) for k, one in task["shots"].items()}
        chance = "–" if task["chance"] is None or not task["is_accuracy"] else f"{task['chance']:.1f}"
        rows.append([name, task["metric"], f"{task['rows']:,}", chance, *(_cell(cells.get(str(k))) for k in counts)])
    groups = {f"mean of {group}": one for group, one in found["groups"].items() if len(one["tasks"]) > 1}
    if len(found["average"]["tasks"]) > 1 and len(found["groups"]) != 1:
        groups["mean of all"] = found["average"]
    for name, one in groups.items():
        means = [_cell(one["shots"].get(str(k))) for k in counts]
        rows.append([name, "accuracy", f"{len(one['tasks'])} tasks", "–", *means])
    return rows


def _shots_word(count: int) -> str:
    return {0: "zero-shot", 1: "one-shot"}.get(count, f"{count}-shot")


def _cell(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "–"
    return f"{one['mean']:.1f}" + ("" if one["sd"] is None else f" ± {one['sd']:.1f}")


def write(results: Sequence[Result], templates: Sequence[Template], run: RunFolder, seconds: float) -> None:
    """scores.json, table.md, report.html and at last metrics.json; prints the table."""
    from hfcourse.report import fewshot_report

    found = summary(results, templates) | {"model": run.config.get("model")}
    run.write_json("scores.json", found)
    rows = table(found)
    run.write_text("table.md", markdown(rows))
    print(fewshot_report(found, rows, run))
    run.write_json("metrics.json", {
        "recipe": run.config.get("recipe"),
        "average": found["average"],
        "scores": found["tasks"],
        "wall_seconds": seconds,
        **machine.describe(),
    })  # fmt: skip
