"""One task, several methods of fine-tuning, the same steps for each: what a method costs, and what it scores."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hfcourse.errors import ModelError, TrainingError
from hfcourse.run_folder import RunFolder
from hfcourse.suites.runner import Learner, Outcome, run_jobs

Runs = Sequence[tuple["Trial", RunFolder]]


@dataclass(frozen=True)
class Trial:
    """One method, trained once."""

    method: str
    seed: int
    examples: int = 0
    """Training examples; 0 for all."""

    @property
    def group(self) -> str:
        """Method and examples: what is averaged over seeds."""
        return f"{self.method}-{self.examples}" if self.examples else self.method

    @property
    def name(self) -> str:
        """The folder of its run."""
        return f"{self.group}-seed{self.seed}"

    def settings(self, learner: Learner) -> Any:
        """The settings of its run."""
        return learner.settings(self.method, self.seed, self.examples)


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is compared with what."""

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    curve_methods: tuple[str, ...] = ()
    """Those that are also trained on fewer examples."""
    sizes: tuple[int, ...] = ()
    """So many of them, each below all."""
    refused: Mapping[str, str]
    """Methods that the backbone cannot take, and why."""
    facts: Mapping[str, Any]
    """Of all runs alike, for the page: model, task, training rows, steps, examples a step."""

    @property
    def trials(self) -> list[Trial]:
        """Every run: first all methods on all examples, then the curves."""
        taken = [method for method in self.methods if method not in self.refused]
        whole = [Trial(method, seed) for method in taken for seed in self.seeds]
        curved = [method for method in taken if method in self.curve_methods]
        return whole + [
            Trial(method, seed, size) for size in self.sizes for method in curved for seed in self.seeds
        ]  # fmt: skip


def compare(design: Design, learner: Learner, run: RunFolder, *, isolate: bool = True) -> None:
    """Run all trials; write compare.json, table.md and compare.html, and print the table.

    Finished trials in the folder are taken as they are.

    Args:
        design: the methods, the sizes and the seeds.
        learner: how a trial becomes a run; its settings take (method, seed, examples).
        run: the comparison's folder.
        isolate: a process for each trial, so that its memory is its own.

    Raises:
        TrainingError: trials that failed twice; the others are finished and written down.
    """
    from hfcourse.report import compare_report

    outcome = run_jobs(design.trials, replace(learner, learn=_alone(learner)), run, isolate=isolate)
    if run.is_main:
        found = summary(design, outcome)
        run.write_json("compare.json", found)
        print(compare_report(run))
        if not outcome.failed:  # its presence says that the comparison is finished
            scores = {method: one["scores"] for method, one in found["methods"].items()}
            run.write_json("metrics.json", {"recipe": "peft/compare", "task": found["task"], "scores": scores})
    if outcome.failed:
        name, reason = next(iter(outcome.failed.items()))
        more = f" (and {len(outcome.failed) - 1} more)" if len(outcome.failed) > 1 else ""
        raise TrainingError(f"{run.path}: {name} failed twice: {reason}{more}; the finished runs are kept: --resume")


def _alone(learner: Learner) -> Callable[[Any, RunFolder], None]:
    """Learning in which what a model refuses is a failure of this method, which the others escape."""

    def learn(settings: Any, run: RunFolder) -> None:
        try:
            learner.learn(settings, run)
        except ModelError as error:
            raise TrainingError(str(error)) from error

    return learn


def summary(design: Design, outcome: Outcome[Trial]) -> dict[str, Any]:
    """What compare.json holds."""
    methods = {method: _method(outcome.runs[method]) for method in design.methods if method in outcome.runs}
    full = methods.get("full")
    for one in methods.values():
        one["step_ratio"] = one["step_seconds"] / full["step_seconds"] if full and full["step_seconds"] else None
    every = [folder.read_json("metrics.json") for runs in outcome.runs.values() for _, folder in runs]
    return {
        **design.facts,
        "metric": every[0]["score"]["name"] if every else None,
        "split": every[0]["score"]["split"] if every else None,
        "seeds": list(design.seeds),
        "device": (every[0]["hardware"]["gpus"] or [every[0]["hardware"]["cpu"]])[0] if every else None,
        "threads": every[0]["hardware"]["threads"] if every else None,
        "precision": every[0]["precision"] if every else None,
        "methods": methods,
        "curves": {
            method: points
            for method in design.curve_methods
            if (points := _curve(method, design, outcome)) and len(points) > 1
        },
        "refused": dict(design.refused),
        "failed": dict(outcome.failed),
        "seconds": sum(found["wall_seconds"] for found in every),
    }  # fmt: skip


def _method(runs: Runs) -> dict[str, Any]:
    """Costs (medians over seeds: another process may have slowed one) and scores of one method on all examples."""
    found = [folder.read_json("metrics.json") for _, folder in runs]
    return {
        "lr": runs[0][1].config["optim"]["lr"],
        "trained": found[0]["parameters"]["trained"],
        "saved_bytes": saved_bytes(runs[0][1].model_dir),
        "memory_bytes": statistics.median(one["training_memory_bytes"] for one in found),
        "seconds": statistics.median(one["wall_seconds"] for one in found),
        "step_seconds": statistics.median(one["step_seconds"] / max(one["steps"], 1) for one in found),
        "scores": {split: score for split in ("dev", "test") if (score := _score(found, split))},
        "runs": [trial.name for trial, _ in runs],
    }


def _curve(method: str, design: Design, outcome: Outcome[Trial]) -> list[dict[str, Any]]:
    """Scores by training examples, all of them last."""
    sizes = {f"{method}-{size}": size for size in design.sizes} | {method: design.facts["train_rows"]}
    points = []
    for group, size in sizes.items():
        found = [folder.read_json("metrics.json") for _, folder in outcome.runs.get(group, ())]
        if found and (score := _score(found, found[0]["score"]["split"])):
            points.append({"examples": size, **score})
    return points


def _score(found: Iterable[Mapping[str, Any]], split: str) -> dict[str, Any]:
    """Mean and standard deviation of *the* score on a split; empty where it has no labels."""
    values = [one["scores"].get(split, {}).get(one["score"]["name"]) for one in found]
    known = [value for value in values if value is not None]
    if not known:
        return {}
    sd = statistics.stdev(known) if len(known) > 1 else None
    return {"mean": statistics.fmean(known), "sd": sd, "values": known}


def saved_bytes(model: Path) -> int:
    """Size of the weights that are kept of a run: the whole model's, or the adapter's with its head.

    A backbone that lies nowhere else stands in a folder beside an adapter, and does not count.
    """
    return sum(file.stat().st_size for file in model.iterdir() if file.suffix in {".safetensors", ".bin"})


def refusals(model: Any, settings: Mapping[str, Any]) -> dict[str, str]:
    """Which methods a model cannot take, and why: each is put around a copy of it.

    Args:
        model: with its head, bare.
        settings: of `peft`, by method.
    """
    import copy

    from hfcourse.peft.wrap import wrap

    refused = {}
    for method, wanted in settings.items():
        try:
            wrap(copy.deepcopy(model), wanted)
        except ModelError as error:
            refused[method] = str(error)
    return refused
