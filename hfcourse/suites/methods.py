"""Several ways to pretrain, each judged by the same frozen probes, beside its own random start and a baseline."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hfcourse.errors import TrainingError
from hfcourse.report.text import aligned, markdown
from hfcourse.run_folder import RunFolder
from hfcourse.suites.runner import Learner, Outcome, run_jobs

RANDOM, PRETRAINED = "random", "pretrained"


@dataclass(frozen=True)
class Pretraining:
    """One method, trained once."""

    method: str

    @property
    def name(self) -> str:
        """The folder of its run."""
        return f"pretrain-{self.method}"

    @property
    def group(self) -> str:
        """The method."""
        return self.method

    def settings(self, learner: Learner) -> Any:
        """The settings of its run."""
        return learner.settings(self.method)


@dataclass(frozen=True)
class Probe:
    """A frozen model, judged on one task."""

    method: str
    start: str
    """pretrained or random."""
    model: str
    """What `hfcourse.model.build` is given; of a random start, a model of the same settings."""
    task: str
    """As the settings of `probing` know it, such as commands or fsdd/leave_out_theo_lucas."""
    seed: int

    @property
    def name(self) -> str:
        """The folder of its run."""
        return f"{self.group}-seed{self.seed}"

    @property
    def group(self) -> str:
        """What is averaged over seeds."""
        return f"{self.method}-{self.start}-{self.task}".replace("/", "-")

    def settings(self, learner: Learner) -> Any:
        """The settings of its run."""
        return learner.settings(self)


def compare(
    methods: Sequence[str],
    tasks: Sequence[str],
    seeds: Sequence[int],
    run: RunFolder,
    *,
    pretraining: Learner,
    probing: Learner,
    baseline: str,
    last: Collection[str] = (),
    devices: int = 1,
) -> None:
    """Pretrain with every method, judge all; write methods.json and table.md, and print the table.

    Finished runs in the folder are taken as they are; a method that fails twice is left out of the table and named.

    Args:
        methods: in the order of the table.
        tasks: names that `probing` knows.
        seeds: of the probes.
        run: the comparison's folder.
        pretraining: its settings take a method.
        probing: its settings take a `Probe`.
        baseline: a preset that has nothing to learn.
        last: methods that read what others left: they are trained after all of these.
        devices: so many runs at a time.

    Raises:
        TrainingError: runs that failed twice; the others are finished and written down.
    """
    trained: Outcome[Pretraining] = Outcome()
    for wave in ([name for name in methods if name not in last], [name for name in methods if name in last]):
        done: Outcome[Pretraining] = run_jobs([Pretraining(name) for name in wave], pretraining, run, devices=devices)
        trained.runs |= done.runs
        trained.failed |= done.failed
    starts = [(baseline, RANDOM, baseline)]
    for method, ((_, folder),) in trained.runs.items():
        starts += [(method, start, str(folder.path.resolve())) for start in (PRETRAINED, RANDOM)]
    probes = [Probe(*start, task, seed) for start in starts for task in tasks for seed in seeds]
    judged: Outcome[Probe] = run_jobs(probes, probing, run, devices=devices)
    if run.is_main:
        found = summary(trained, judged, tasks, baseline)
        run.write_json("methods.json", found)
        rows = table(found)
        run.write_text("table.md", markdown(rows))
        print(aligned(rows))
    failed = trained.failed | judged.failed
    if failed:
        name, reason = next(iter(failed.items()))
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise TrainingError(f"{run.path}: {name} failed twice: {reason}{more}; the finished runs are kept: --resume")
    if run.is_main:
        run.write_json("metrics.json", {"recipe": "speech/methods", "scores": found["scores"]})


def summary(
    trained: Outcome[Pretraining], judged: Outcome[Probe], tasks: Sequence[str], baseline: str
) -> dict[str, Any]:
    """What methods.json holds: costs of every method, test scores by method, start and task."""
    costs = {}
    for method, ((_, folder),) in trained.runs.items():
        metrics = folder.read_json("metrics.json")
        costs[method] = {
            "steps": metrics["steps"],
            "seconds": metrics["train_seconds"],
            "parameters": metrics["parameters"]["all"],
        }
    scores: dict[str, dict[str, dict[str, Any]]] = {}
    for runs in judged.runs.values():
        probe = runs[0][0]
        values = [folder.read_json("metrics.json")["score"]["value"] for _, folder in runs]
        spread = statistics.stdev(values) if len(values) > 1 else None
        start = scores.setdefault(probe.method, {}).setdefault(probe.start, {})
        start[probe.task] = {"mean": statistics.fmean(values), "sd": spread, "seeds": len(values)}
    return {"tasks": list(tasks), "baseline": baseline, "costs": costs, "scores": scores}


def table(found: Mapping[str, Any]) -> list[list[str]]:
    """Accuracies in per cent: what a method has learned, and its random start in brackets; above them the baseline."""
    tasks, scores = found["tasks"], found["scores"]
    base = scores.get(found["baseline"], {}).get(RANDOM, {})
    rows = [["method", "parameters", "steps", "minutes", *(f"{task} (random)" for task in tasks), "beats"]]
    rows.append([found["baseline"], "0", "", "", *(_percent(base.get(task)) for task in tasks), ""])
    for method, cost in found["costs"].items():
        own, random = (scores.get(method, {}).get(start, {}) for start in (PRETRAINED, RANDOM))
        cells = [f"{_percent(own.get(task))} ({_percent(random.get(task))})" for task in tasks]
        costs = [f"{cost['parameters']:,}", f"{cost['steps']:,}", f"{cost['seconds'] / 60:.1f}"]
        rows.append([method, *costs, *cells, _beaten(own, random, base, tasks, found["baseline"])])
    return rows


def _beaten(
    own: Mapping[str, Any], random: Mapping[str, Any], base: Mapping[str, Any], tasks: Sequence[str], baseline: str
) -> str:
    """On how many tasks a method is above the baseline and above its own random start."""
    above = [
        sum(task in own and task in other and own[task]["mean"] > other[task]["mean"] for task in tasks)
        for other in (base, random)
    ]
    return f"{baseline} {above[0]}/{len(tasks)}, random {above[1]}/{len(tasks)}"


def _percent(score: Mapping[str, Any] | None) -> str:
    if score is None:
        return "failed"
    mean = f"{100 * score['mean']:.1f}"
    return mean if score["sd"] is None else f"{mean} ± {100 * score['sd']:.1f}"
