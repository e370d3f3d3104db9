"""From answered rows to the numbers of an evaluation by prompts: means over draws, over groups, over tasks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfcourse.engine import machine
from hfcourse.prompting import judging
from hfcourse.prompting.judging import METRICS
from hfcourse.prompting.templates import Group, Template
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
    main = {name: tasks[name]["metric"] for name in tasks if tasks[name]["is_accuracy"]}
    return {"tasks": tasks, "groups": _groups(tasks, by_name, main), "average": _mean(tasks, main)}


def _groups(tasks: Mapping[str, Any], templates: Mapping[str, Template], main: Mapping[str, str]) -> dict[str, Any]:
    """The mean of each group's accuracies; of a group that says how, the scores that it names."""
    members: dict[str, list[str]] = {}
    said: dict[str, Group] = {}
    for name, template in templates.items():
        for group in template.groups:
            members.setdefault(_name(group), []).append(name)
            said |= {group.name: group} if isinstance(group, Group) else {}
    found: dict[str, Any] = {}
    for group_name, names in members.items():
        if group_name in said:
            found |= _as_said(tasks, said[group_name], [templates[name] for name in names])
        elif accurate := {name: main[name] for name in names if name in main}:
            found[group_name] = _mean(tasks, accurate)
    return found


def _name(group: str | Group) -> str:
    return group if isinstance(group, str) else group.name


def _as_said(tasks: Mapping[str, Any], group: Group, members: Sequence[Template]) -> dict[str, Any]:
    """The scores of a group: the first under its name, others with what they are behind it."""
    found: dict[str, Any] = {}
    for mean in group.means:
        with_it = [one for one in members if mean.metric in {use.name for use in one.metrics}]
        filters = mean.filters or tuple(dict.fromkeys(name for one in with_it for name in one.filters))
        for name in filters:
            keys = {one.name: _key(mean.metric, name, one) for one in with_it if name in one.filters}
            label = mean.metric if len(filters) == 1 else f"{mean.metric},{name}"
            title = f"{group.name}, {label}" if found else group.name
            found[title] = {"metric": label, **_mean(tasks, keys, by_size=mean.by_size)}
    return found


def _key(metric: str, name: str, template: Template) -> str:
    """What a task's score is called after one of its filters."""
    alone = len(template.filters) == 1 or template.output != "generate_until"
    return metric if alone else f"{metric},{name}"


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
        "groups": [_name(group) for group in template.groups],
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


def _mean(tasks: Mapping[str, Any], scores: Mapping[str, str], *, by_size: bool = False) -> dict[str, Any]:
    """Mean over tasks of one score each, for the numbers of examples that all of them were asked with.

    The deviation is that of the mean between draws; a task that has but one draw counts with it in each.

    Args:
        tasks: as scores.json holds them.
        scores: task -> which score.
        by_size: a task counts by its rows.
    """
    names = sorted(scores)
    values = {name: {k: one["scores"][scores[name]]["values"] for k, one in tasks[name]["shots"].items()
                     if one["scores"]} for name in names}  # fmt: skip
    weights = [tasks[name]["rows"] for name in names] if by_size else None
    common = [k for k in next(iter(values.values()), {}) if all(k in one for one in values.values())]
    found: dict[str, Any] = {}
    for k in common:
        draws = max(len(one[k]) for one in values.values())
        drawn = [[one[k][min(n, len(one[k]) - 1)] for one in values.values()] for n in range(draws)]
        found[k] = _spread([statistics.fmean(scored, weights) for scored in drawn])
    return {"tasks": names, "shots": found}


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
        rows.append([name, one.get("metric", "accuracy"), f"{len(one['tasks'])} tasks", "–", *means])
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
