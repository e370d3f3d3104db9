"""Evaluation that is exact whatever the batch size, the last partial batch or the number of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import nn

from hfcourse.engine import machine
from hfcourse.engine.settings import BatchConfig
from hfcourse.model import read_states_only
from hfcourse.objectives.base import Objective
from hfcourse.tasks.base import Batch, Task


@dataclass
class Evaluation:
    """What a model did on one split."""

    split: str
    losses: dict[str, float]
    """Mean of each loss term over its units; empty without labels."""
    scores: dict[str, float]
    """The task's scores, and ``loss``, the weighted sum of the terms."""
    answers: list[dict[str, Any]]
    """One for each example, in the split's order."""
    rows: int
    seconds: float


def evaluate(
    model: nn.Module,
    task: Task,
    split: str,
    *,
    batch: BatchConfig,
    accelerator: Accelerator | None = None,
    objective: Objective | None = None,
    between: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Answer and score a whole split.

    Losses are weighted by what they are means over (tokens, sentences), so batch size does not show; every row is
    answered by one process and counted once.

    Args:
        model: unwrapped, on the accelerator's device.
        task: whose `split` is answered.
        split: a key of ``task.splits``.
        batch: gives the padded tokens of one forward pass.
        accelerator: of the run; a plain one is made where none is given.
        objective: of the run, if it holds modules of its own; the task's where not given.
        between: called with (batches done, all batches) after each batch; may raise to stop.
    """
    started = time.perf_counter()
    if accelerator is None:
        accelerator = machine.accelerator()
    if objective is None:
        objective = task.objective
        objective.bind(model)
    examples = task.splits[split]
    # On CPU more tokens are no faster, and would be what takes the most memory of a whole run.
    tokens = batch.eval_tokens or (4096 if accelerator.device.type == "cpu" else 16384)
    steps = task.plan(split, examples=max(len(examples), 1), tokens=tokens, shuffle=False)
    mine = range(accelerator.process_index, len(steps), accelerator.num_processes)
    rounds = -(-len(steps) // accelerator.num_processes)
    predictions: list[tuple[int, Any]] = []
    sums: dict[str, list[float]] = {}
    parts = [model, *objective.modules_to_train()]  # nothing is drawn that was not told: dropout, codes
    were_training = [part.training for part in parts]
    for part in parts:
        part.eval()
    with torch.no_grad():
        for done, number in enumerate(mine, start=1):
            rows = steps[number]
            inputs = to_device(task.collate(examples.take(rows), epoch=-1), accelerator.device)
            counts = objective.counts(inputs)
            with accelerator.autocast(), read_states_only(model):
                output = objective(model, inputs, need_logits=True)
            predictions += zip(rows.tolist(), task.predict(output.logits, inputs), strict=True)
            for term, loss in output.losses.items():
                if counts[term]:
                    _add(sums, term, float(loss) * counts[term], counts[term])
            for name, total in output.logs.items():
                _add(sums, f"log:{name}", float(total), counts[name.split("/")[0]])
            if between is not None:
                between(done, rounds)
    for part, was_training in zip(parts, were_training, strict=True):
        part.train(was_training)
    predictions, totals = _gather(accelerator, predictions, sums)
    answers = task.answers(split, [prediction for _, prediction in sorted(predictions, key=lambda pair: pair[0])])
    labelled = [answer for answer in answers if answer.get("reference") is not None]
    losses = {term: total / count for term, (total, count) in totals.items() if not term.startswith("log:")}
    scores = task.score(labelled) if labelled else {}
    if losses:
        scores["loss"] = sum(objective.weights.get(term, 1.0) * loss for term, loss in losses.items())
    scores |= {name[4:]: total / max(count, 1) for name, (total, count) in totals.items() if name.startswith("log:")}
    return Evaluation(split, losses, scores, answers, len(examples), time.perf_counter() - started)


def predictions(model: nn.Module, task: Task, split: str, *, batch: BatchConfig) -> list[dict[str, Any]]:
    """Answers for a split that may have no labels, one for each example."""
    return evaluate(model, task, split, batch=batch).answers


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch where the model is, without waiting for the copy; a name in it (which head) stays as it is."""
    return {
        key: value if isinstance(value, str) else value.to(device, non_blocking=True) for key, value in batch.items()
    }


def _add(sums: dict[str, list[float]], key: str, total: float, count: int) -> None:
    entry = sums.setdefault(key, [0.0, 0])
    entry[0] += total
    entry[1] += count


def _gather(
    accelerator: Accelerator, predictions: list[tuple[int, Any]], sums: dict[str, list[float]]
) -> tuple[list[tuple[int, Any]], dict[str, list[float]]]:
    """Every process gets every process's predictions and the totals of all."""
    if accelerator.num_processes == 1:
        return predictions, sums
    every: Sequence[tuple[int, Any]] = gather_object(predictions)
    totals: dict[str, list[float]] = {}
    for key, (total, count) in gather_object(list(sums.items())):
        _add(totals, key, total, int(count))
    return list(every), totals
