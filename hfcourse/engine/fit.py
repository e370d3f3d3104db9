"""`fit`: the only training loop. It knows no task, no head and no device."""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from accelerate.utils import broadcast

from hfcourse import checkpoints
from hfcourse.engine import machine
from hfcourse.engine.evaluate import Evaluation, evaluate
from hfcourse.engine.frozen import states_once
from hfcourse.engine.prepare import prepare
from hfcourse.engine.progress import bar, say
from hfcourse.engine.settings import FitConfig
from hfcourse.engine.setup import Setup, faster_on_cpu
from hfcourse.engine.signals import StopSignals
from hfcourse.engine.step import Steps
from hfcourse.errors import DataError, Interrupted, TrainingError
from hfcourse.heads.base import Standardize
from hfcourse.model import parameter_counts, quiet
from hfcourse.peft import adalora
from hfcourse.peft.wrap import save
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.base import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Scores:
    """What a finished run is worth: the content of its metrics.json."""

    metrics: dict[str, Any]

    @property
    def value(self) -> float:
        """*The* score, on the last split that has labels (test, else dev)."""
        return float(self.metrics["score"]["value"])

    def __getitem__(self, split: str) -> dict[str, float]:
        """All scores of one split."""
        return self.metrics["scores"][split]  # type: ignore[no-any-return]


def fit(
    model: PreTrainedModel,
    task: Task,
    config: FitConfig,
    run: RunFolder,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    train: bool = True,
) -> Scores:
    """Train on ``train``, select on ``dev``, answer every dev and test split, and leave a complete run folder.

    A run folder opened to be resumed goes on from its newest good checkpoint; a finished one is returned as it is.

    Args:
        model: from `hfcourse.model.build`, in fp32.
        task: from a task config's `build`.
        config: seed, batch, optimizer and loop.
        run: where everything goes.
        tokenizer: saved beside the model, so that the folder is complete.
        train: false only evaluates.

    Raises:
        DataError: no training split, or an empty one. TrainingError: the loss became nan or inf.
        Interrupted: a signal stopped the run, after a checkpoint. RunFolderError: the folder cannot be written.
    """
    if run.finished:
        say(f"{run.path}: already finished")
        return Scores(run.read_json("metrics.json"))
    config = config.resolved()
    started, memory = time.perf_counter(), machine.MemoryUse(_bytes_on_cpu(model))
    with (
        Setup.open(config, run) as setup,
        StopSignals() as signals,
        states_once(model, task, setup) if train else contextlib.nullcontext(task) as task,
    ):
        loop = _Loop(prepare(setup, model, task), signals)
        if train:
            loop.train()
        metrics = loop.finish(tokenizer, trained=train)
        metrics["training_memory_bytes"] = memory.peak()
        metrics["wall_seconds"] = round(time.perf_counter() - started, 2)
        if setup.accelerator.is_main_process:
            run.write_json("metrics.json", metrics)
        setup.accelerator.wait_for_everyone()
    return Scores(metrics)


def _bytes_on_cpu(model: torch.nn.Module) -> int:
    """Of the weights that lie there, tied ones once."""
    return sum(p.nbytes for p in model.parameters() if p.device.type == "cpu")


class _Stopped(Exception):
    """A signal came during an evaluation."""


class _Loop:
    """The run's own order of things: steps, evaluations, checkpoints, the end."""

    def __init__(self, steps: Steps, signals: StopSignals) -> None:
        self.steps = steps
        self.signals = signals
        self.setup = steps.setup
        self.config = steps.setup.config
        self.run = steps.setup.run
        self.task = steps.task
        self.state = steps.state
        self.accelerator = steps.setup.accelerator

    def train(self) -> None:
        """From the newest good checkpoint, or from the start, to the last step."""
        if not len(self.task.splits.get("train", ())):
            raise DataError(f"{self.task.name}: the training split is missing or empty: there is nothing to learn from")
        if not any(group["params"] for group in self.state.optimizer.param_groups):
            raise TrainingError(f"{self.task.name}: no parameter of the model is trained: give it one that learns")
        adalora.set_steps(self.state.model, self.steps.total)
        checkpoint = self.run.newest_good_checkpoint() if self.run.resume else None
        if checkpoint is not None and not adalora.resumes(self.state.model):
            say("adalora cannot go on from a checkpoint: training starts again")
            checkpoint = None
        if checkpoint is not None:
            self.state.load(checkpoint)
            say(f"resumed from {checkpoint}")
        position = self.state.position
        self.steps.objective.begin(position.step)
        if self.accelerator.is_main_process:
            self.run.cut_log(position.step)
        self.steps.begin()
        began, before = time.perf_counter(), position.seconds
        if position.pending:
            self._evaluate_and_save()
        title = self.run.path.name
        with (
            faster_on_cpu(self.state.model, self.state.extra, self.setup),
            bar(title, self.steps.total, done=position.step, shown=self._shown) as progress,
        ):
            while position.step < self.steps.total and not self._out_of_patience:
                started = time.perf_counter()
                stop = self.steps.advance(self.signals.received)
                position.step_seconds += time.perf_counter() - started
                position.seconds = before + time.perf_counter() - began
                progress.update(position.step, self.steps.note)
                if stop:
                    self._interrupt(stop)
                if self._due(self.config.train.eval_every) or position.step == self.steps.total:
                    self._evaluate_and_save()
                elif self.config.train.save_every and position.step % self.config.train.save_every == 0:
                    self._save()

    def finish(self, tokenizer: PreTrainedTokenizerBase | None, *, trained: bool) -> dict[str, Any]:
        """Take the best weights, answer dev and test splits; save model, predictions, the content of metrics.json."""
        if trained and self.config.train.select_best:
            self._load_best()
        average = self.state.average
        with average.swapped() if average is not None and trained else contextlib.nullcontext():
            try:
                evaluations = [self._evaluate(split) for split in self.task.splits if split.startswith(("dev", "test"))]
            except _Stopped:
                number = self.signals.received
                raise Interrupted(f"{self.run.path}: stopped by signal {number}; go on with --resume", number) from None
            if self.accelerator.is_main_process:
                for evaluation in evaluations:
                    self.run.write_predictions(evaluation.split, evaluation.answers)
                self._save_model(self.run.model_dir, tokenizer)
        return self._metrics(evaluations)

    @property
    def _shown(self) -> bool:
        return self.config.train.progress and self.accelerator.is_main_process

    @property
    def _out_of_patience(self) -> bool:
        patience = self.config.train.patience
        return bool(patience) and self.state.position.bad_evaluations >= patience

    def _due(self, every: int) -> bool:
        """Every so many steps, or at the end of an epoch."""
        position = self.state.position
        return position.step % every == 0 if every else position.offset == 0

    def _evaluate(self, split: str) -> Evaluation:
        """Answer a split; a signal stops it between two batches."""
        size = len(self.task.splits[split])
        if self.accelerator.num_processes > 1:  # each has followed its own rows since the last pass
            broadcast([list(m.buffers()) for m in self.state.model.modules() if isinstance(m, Standardize)])
        with bar(f"{self.run.path.name} {split}", size, shown=self._shown) as progress:

            def between(done: int, total: int) -> None:
                progress.update(done, total=total)
                # One process of several must not leave the others waiting: there the next step stops all.
                if self.signals.received and self.accelerator.num_processes == 1:
                    raise _Stopped

            return evaluate(
                self.state.model,
                self.task,
                split,
                batch=self.config.batch,
                accelerator=self.accelerator,
                objective=self.steps.objective,
                between=between,
            )

    def _evaluate_and_save(self) -> None:
        """Score dev, remember whether it is the best so far, write a checkpoint."""
        self.steps.flush()
        if "dev" in self.task.splits:
            self.state.position.pending = True
            average = self.state.average
            try:
                with average.swapped() if average is not None else contextlib.nullcontext():
                    evaluation = self._evaluate("dev")
            except _Stopped:
                self._interrupt(self.signals.received)
            self.state.position.pending = False
            self._judge(evaluation)
            record = {"split": "dev", **evaluation.scores, "seconds": round(evaluation.seconds, 3)}
            self.setup.log(record, self.state, epoch=self.steps.epoch)
            if self._shown:
                scores = "  ".join(f"{name} {value:.4f}" for name, value in evaluation.scores.items())
                say(f"{self.run.path.name}  step {self.state.position.step}  dev  {scores}")
        self._save()

    def _judge(self, evaluation: Evaluation) -> None:
        position = self.state.position
        score = evaluation.scores.get(self.task.metric)
        if score is None or math.isnan(score):
            return
        best = position.best_score
        if best is None or (score > best if self.task.maximize else score < best):
            position.best_score, position.best_step, position.bad_evaluations = score, position.step, 0
        else:
            position.bad_evaluations += 1

    def _save(self) -> Path:
        """Write a checkpoint at this step; drop the oldest, but never the best."""
        self.steps.flush()
        position = self.state.position
        place = self.run.path / f"checkpoint-{position.step}"
        if self.accelerator.is_main_process or self.state.sharded:
            with self.run.new_checkpoint(position.step) as folder:
                self.state.save(folder)
            best = self.run.path / f"checkpoint-{position.best_step}" if position.best_step else None
            self.run.drop_old_checkpoints(self.config.train.keep_checkpoints, protect=best)
        self.accelerator.wait_for_everyone()
        return place

    def _interrupt(self, signal_number: int) -> NoReturn:
        place = self._save()
        raise Interrupted(f"stopped by signal {signal_number}; go on from {place} with --resume", signal_number)

    def _load_best(self) -> None:
        """The weights that scored best on dev, if they are not the last ones."""
        position = self.state.position
        best = self.run.path / f"checkpoint-{position.best_step}"
        if position.best_step in {0, position.step}:
            return
        wrong = checkpoints.damage(best)
        if wrong is None:
            self.state.load_weights(best)
        else:
            say(f"{best} is damaged ({wrong}): ending with the weights of step {position.step} instead")

    def _save_model(self, folder: Path, tokenizer: PreTrainedTokenizerBase | None) -> None:
        with self.run.replacing(folder) as side:
            model: Any = self.state.model
            with quiet():
                save(model, side)
            if tokenizer is not None:
                tokenizer.save_pretrained(side)

    def _metrics(self, evaluations: list[Evaluation]) -> dict[str, Any]:
        position = self.state.position
        scored = {e.split: e for e in evaluations if self.task.metric in e.scores}
        last = scored.get("test") or scored.get("dev")
        return {
            "recipe": self.run.config.get("recipe"),
            "task": self.task.name,
            "score": {
                "name": self.task.metric,
                "split": last.split if last else None,
                "value": last.scores[self.task.metric] if last else math.nan,
            },
            "scores": {e.split: e.scores for e in evaluations},
            "counts": {split: len(rows) for split, rows in self.task.splits.items()},
            "seed": self.config.seed,
            "steps": position.step,
            "epochs": self.steps.epoch if position.step else 0,
            "best_step": (self.config.train.select_best and position.best_step) or position.step,
            "train_seconds": round(position.seconds, 2),
            "step_seconds": round(position.step_seconds, 2),
            "parameters": parameter_counts(self.state.model),
            "processes": self.accelerator.num_processes,
            "precision": self.accelerator.mixed_precision,
            "peak_memory_bytes": machine.peak_memory()
            if not torch.cuda.is_available()
            else torch.cuda.max_memory_allocated(),
            **machine.describe(),
        }
