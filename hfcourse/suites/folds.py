"""Models judged on the same folds of one corpus: means, and how far each is above a baseline, fold by fold."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from hfcourse.errors import TrainingError
from hfcourse.report.text import aligned, markdown
from hfcourse.run_folder import RunFolder
from hfcourse.suites.methods import RANDOM, Probe
from hfcourse.suites.runner import Learner, Outcome, run_jobs


def judge(probes: Sequence[Probe], run: RunFolder, probing: Learner, *, baseline: str, devices: int = 1) -> None:
    """Learn every probe; write folds.json, table.md and metrics.json, and print the table.

    Args:
        probes: each model on each fold; a probe's `task` is the fold, its `method` the model's name.
        run: the folder of all.
        probing: its settings take a `Probe`.
        baseline: name of the model that the others are compared with.
        devices: so many at a time.

    Raises:
        TrainingError: probes that failed twice; the others are finished and written down.
    """
    judged: Outcome[Probe] = run_jobs(probes, probing, run, devices=devices)
    if run.is_main:
        found = summary(judged, baseline)
        run.write_json("folds.json", found)
        rows = table(found)
        run.write_text("table.md", markdown(rows))
        print(aligned(rows))
    if judged.failed:
        name, reason = next(iter(judged.failed.items()))
        raise TrainingError(f"{run.path}: {name} failed twice: {reason}; the finished runs are kept: --resume")
    if run.is_main:
        run.write_json("metrics.json", {"recipe": run.config["recipe"], "scores": found["models"]})


def summary(judged: Outcome[Probe], baseline: str) -> dict[str, Any]:
    """What folds.json holds: test scores by model and fold, and of each model what the table shows."""
    scores: dict[str, dict[str, float]] = {}
    for runs in judged.runs.values():
        for probe, folder in runs:
            value = folder.read_json("metrics.json")["score"]["value"]
            fresh = probe.start == RANDOM and probe.method != baseline
            name = f"{probe.method}, random start" if fresh else probe.method
            scores.setdefault(name, {})[probe.task] = value
    models = {name: _against(own, scores.get(baseline, {})) for name, own in scores.items()}
    return {"baseline": baseline, "scores": scores, "models": models}


def _against(own: Mapping[str, float], base: Mapping[str, float]) -> dict[str, Any]:
    """Mean and spread over folds, and of the differences on the folds that both have."""
    above = [own[fold] - base[fold] for fold in own if fold in base]
    return {
        "folds": len(own),
        "mean": statistics.fmean(own.values()),
        "sd": statistics.stdev(own.values()) if len(own) > 1 else None,
        "above": statistics.fmean(above) if above else None,
        "above_least": min(above, default=None),
        "ahead": sum(difference > 0 for difference in above),
    }


def table(found: Mapping[str, Any]) -> list[list[str]]:
    """A row a model, in per cent and points."""
    rows = [["model", "folds", "accuracy", f"above {found['baseline']}", "least", "ahead on"]]
    for name, about in found["models"].items():
        spread = "" if about["sd"] is None else f" ± {100 * about['sd']:.1f}"
        cells = [name, str(about["folds"]), f"{100 * about['mean']:.1f}{spread}"]
        if name == found["baseline"] or about["above"] is None:
            rows.append([*cells, "", "", ""])
        else:
            points = [f"{100 * about[key]:+.1f}" for key in ("above", "above_least")]
            rows.append([*cells, *points, f"{about['ahead']} of {about['folds']}"])
    return rows
