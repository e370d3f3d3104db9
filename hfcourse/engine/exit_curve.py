"""What early exit costs in score and saves in time: every criterion over its thresholds, against the full model."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from hfcourse.data.batching import plan
from hfcourse.engine import machine
from hfcourse.engine.early_exit import Exited, Rule, Run, early_exit, exits_of, no_exit
from hfcourse.engine.evaluate import to_device
from hfcourse.engine.frozen_weights import frozen_in_bf16
from hfcourse.engine.progress import bar
from hfcourse.engine.settings import ExitConfig
from hfcourse.errors import ConfigError, DataError
from hfcourse.tasks.base import Batch, Task

Way = Callable[[], AbstractContextManager[Run]]
"""How batches are answered: the full model, or early exit under some rule."""


@dataclass(frozen=True)
class Measured:
    """One way to answer a split, scored and timed."""

    score: float
    layers: float
    """Mean number of layers that an input goes through."""
    seconds: float
    """Median over the repeats, for the whole split."""
    speedup: float
    """The full model's seconds over these, both timed right after each other; median over the repeats."""


def check(model: Any, task: Task, config: ExitConfig) -> None:
    """Refuse what early exit cannot serve, before anything is trained.

    Raises:
        ModelError: a model without exits, or whose layers are not known.
        ConfigError: several labels at once, or a criterion that the kind of answer does not have.
        DataError: no dev split to choose thresholds on.
    """
    problem = exits_of(model).spec.problem
    if problem == "multi_label_classification":
        raise ConfigError(f"{task.name}: early exit answers with one class or a number: task.problem is {problem} here")
    odd = [name for name in config.criteria if name in {"entropy", "confidence"}]
    if problem == "regression" and odd:
        raise ConfigError(f"exits.criteria names {odd[0]}, which a number has not: with regression take patience,layer")
    if not _has_labels(task, "dev"):
        raise DataError(f"{task.name}: no dev split with labels, on which thresholds are compared: give one")


def measure(
    model: Any, task: Task, config: ExitConfig, *, precision: str = "auto", shown: bool = True
) -> dict[str, Any]:
    """The curve on dev, and the chosen thresholds judged on test.

    Args:
        model: a `HeadedModel` with exits, trained.
        task: what it was trained for.
        config: criteria, thresholds and how to time them.
        precision: as `TrainConfig.precision`.
        shown: show a progress bar.

    Returns:
        What exits.json holds: ``full`` and ``points`` on dev, each as `Measured`; ``chosen`` by criterion, the fastest
        point that gives up no more than it may, with ``test`` beside it where test has labels.
    """
    check(model, task, config)
    accelerator = machine.accelerator(mixed_precision=machine.mixed_precision(precision))
    model.to(accelerator.device).eval()
    layers = len(exits_of(model).exits)
    judge = partial(_measure, model, task, config=config, accelerator=accelerator, shown=shown)
    rules = _rules(config, layers)
    full, points = judge("dev", rules)
    chosen = {name: _best(name, rules, points, full, task, config) for name in config.criteria}
    found = {
        "task": task.name,
        "metric": task.metric,
        "layers": layers,
        **{key: getattr(config, key) for key in ("give_up", "batch", "repeats")},
        "rows": {"dev": len(task.splits["dev"])},
        "full": {"dev": asdict(full)},
        "points": [
            {"criterion": rule.criterion, "threshold": rule.threshold} | asdict(point)
            for rule, point in zip(rules, points, strict=True)
        ],
        "chosen": {
            name: best and {"threshold": best[0].threshold, "dev": asdict(best[1])} for name, best in chosen.items()
        },
        "precision": accelerator.mixed_precision,
        "device": accelerator.device.type,
        **machine.describe(),
    }
    published = {name: best[0] for name, best in chosen.items() if best}
    if published and _has_labels(task, "test"):
        full, points = judge("test", list(published.values()))
        found["rows"]["test"] = len(task.splits["test"])
        found["full"]["test"] = asdict(full)
        for name, point in zip(published, points, strict=True):
            found["chosen"][name]["test"] = asdict(point)
    return found


def _best(
    criterion: str, rules: Sequence[Rule], points: Sequence[Measured], full: Measured, task: Task, config: ExitConfig
) -> tuple[Rule, Measured] | None:
    """A criterion's fastest point that gives up no more than it may; None where all give up more."""
    sign = 1 if task.maximize else -1
    good = [
        (rule, point)
        for rule, point in zip(rules, points, strict=True)
        if rule.criterion == criterion and sign * (point.score - full.score) >= -config.give_up
    ]
    return max(good, key=lambda pair: pair[1].speedup, default=None)


def _rules(config: ExitConfig, layers: int) -> list[Rule]:
    """Every criterion at every threshold."""
    numbers = [float(number) for number in range(1, layers)]
    # Patience of one less than there are layers lets nobody leave early.
    tried = {"patience": numbers[: max(layers - 2, 1)], "layer": numbers}
    return [
        Rule(criterion, threshold, config.tolerance)
        for criterion in config.criteria
        for threshold in tried.get(criterion, config.thresholds)
    ]


def _measure(
    model: Any,
    task: Task,
    split: str,
    rules: Sequence[Rule],
    *,
    config: ExitConfig,
    accelerator: Accelerator,
    shown: bool,
) -> tuple[Measured, list[Measured]]:
    """The full model on a split, and early exit under each rule."""
    examples = task.splits[split]
    steps = list(plan(examples.lengths, examples=config.batch, shuffle=False))
    batches = [to_device(task.collate(examples.take(rows), epoch=-1), accelerator.device) for rows in steps]
    order = np.concatenate(steps).argsort()
    ways: list[Way] = [partial(no_exit, model), *(partial(early_exit, model, rule) for rule in rules)]
    with contextlib.ExitStack() as stack:
        progress = stack.enter_context(bar(f"exits {split}", len(ways) * (config.repeats + 1), shown=shown))
        stack.enter_context(accelerator.autocast())
        if accelerator.mixed_precision == "bf16":  # else each small batch pays for casts of all weights
            stack.enter_context(frozen_in_bf16(model, whole=True))
        results = []
        for done, way in enumerate(ways, start=1):  # a first round gives the scores and warms up
            results.append(_judge(task, split, batches, _timed(way, batches, accelerator.device)[1], order))
            progress.update(done)
        times: list[list[tuple[float, float]]] = [[] for _ in rules]
        for repeat in range(config.repeats):
            for number in range(len(rules)):
                times[number].append(
                    _pair(ways[0], ways[number + 1], batches, accelerator.device, swap=repeat % 2 == 1)
                )
            progress.update(len(ways) * (repeat + 2))
    whole = statistics.median(full for pairs in times for full, _ in pairs)
    measured = [
        Measured(*result, statistics.median(own for _, own in pairs), statistics.median(f / own for f, own in pairs))
        for result, pairs in zip(results[1:], times, strict=True)
    ]
    return Measured(*results[0], whole, 1.0), measured


def _pair(full: Way, way: Way, batches: Sequence[Batch], device: torch.device, *, swap: bool) -> tuple[float, float]:
    """Seconds of the full model and of early exit, one right after the other: what else the machine does meets both."""
    if swap:
        own = _timed(way, batches, device)[0]
        return _timed(full, batches, device)[0], own
    return _timed(full, batches, device)[0], _timed(way, batches, device)[0]


def _judge(
    task: Task, split: str, batches: Sequence[Batch], outputs: Sequence[Exited], order: np.ndarray
) -> tuple[float, float]:
    """Score and mean number of layers; `order` brings the rows of all batches into the split's order."""
    predictions = [
        prediction
        for batch, output in zip(batches, outputs, strict=True)
        for prediction in task.predict(output.logits, batch)
    ]
    answers = task.answers(split, [predictions[place] for place in order])
    score = task.score([answer for answer in answers if answer.get("reference") is not None])[task.metric]
    return score, float(torch.cat([output.layers for output in outputs]).float().mean())


def _timed(way: Way, batches: Sequence[Batch], device: torch.device) -> tuple[float, list[Exited]]:
    """Seconds for all batches, and their answers."""
    with way() as run:
        _wait(device)
        started = time.perf_counter()
        outputs = [run(batch) for batch in batches]
        _wait(device)
        return time.perf_counter() - started, outputs


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _has_labels(task: Task, split: str) -> bool:
    """Whether a split is there with answers to compare with."""
    examples = task.splits.get(split)
    return examples is not None and len(examples) > 0 and "labels" in task.collate(examples.take([0]), epoch=-1)
