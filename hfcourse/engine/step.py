"""One optimizer step: the rows of the plan, their forward and backward passes, the update."""

from __future__ import annotations

import contextlib
import hashlib
import math
import signal
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed
from torch import Tensor, nn

from hfcourse.data.batching import Plan, micro_batches
from hfcourse.engine import optim
from hfcourse.engine.evaluate import to_device
from hfcourse.engine.frozen import frozen_backbone
from hfcourse.engine.progress import say
from hfcourse.engine.setup import Setup
from hfcourse.engine.state import TrainState
from hfcourse.errors import DataError, TrainingError
from hfcourse.model import read_states_only
from hfcourse.objectives.base import Objective
from hfcourse.peft import adalora
from hfcourse.tasks.base import Batch, Task

_GRACE = 100
"""Steps after which signs of collapse count: before, nothing has been learned yet."""
_ALIKE = 8
"""Rows of similar length in a forward pass, where a step must mix lengths."""
_SICK_WINDOWS = 5
"""So many log windows in turn must show a collapse."""


class _Done(NamedTuple):
    """What one step left for the log; tensors stay on the device until someone reads them."""

    step: int
    rows: np.ndarray
    losses: dict[str, Tensor]
    logs: dict[str, Tensor]
    grad_norm: Tensor
    tokens: int
    lr: float


@dataclass
class Steps:
    """The training split as a sequence of optimizer steps."""

    setup: Setup
    task: Task
    objective: Objective
    wrapped: nn.Module
    """The model as accelerate prepared it."""
    state: TrainState
    _plan: Plan | None = None
    _plan_epoch: int = -1
    _lengths: np.ndarray | None = None
    _lengths_epoch: int = -1
    _window: list[_Done] = field(default_factory=list)
    _window_began: float = 0.0
    _sick: int = 0
    note: str = ""
    """Loss and tokens/s of the last window, for the progress bar."""

    @cached_property
    def per_epoch(self) -> int:
        """Steps of the first epoch; later ones may differ by a few under a token budget."""
        return len(self._plan_of(0)) if "train" in self.task.splits else 0

    @cached_property
    def _still(self) -> nn.Module | None:
        """A backbone that does not learn: it answers as in evaluation, as where its states are computed once."""
        return frozen_backbone(self.state.model)  # type: ignore[no-any-return]

    @property
    def total(self) -> int:
        """Steps of the whole run."""
        train = self.setup.config.train
        return train.steps or max(1, math.ceil(train.epochs * self.per_epoch))

    @property
    def epoch(self) -> float:
        """Epochs done, with the share of the running one."""
        position = self.state.position
        return round(position.epoch + position.offset / max(len(self._plan_of(position.epoch)), 1), 4)

    def begin(self) -> None:
        """Start the clock of the first log window."""
        self._window_began = time.perf_counter()

    def advance(self, signal_received: int) -> int:
        """Take one step; returns the signal that any process has received, 0 for none."""
        position, accelerator = self.state.position, self.setup.accelerator
        rows = self._plan_of(position.epoch)[position.offset]
        self.wrapped.train()
        if self._still is not None:
            self._still.eval()
        for module in self.state.extra:
            module.train()
        lr = self.setup.config.optim.lr * optim.lr_factor(position.step, self.total, self.setup.config.optim)
        optim.set_lr(self.state.optimizer, lr)
        losses, logs, stop = self._gradients(rows, signal_received)
        norm = self._clip()
        tokens = int(self._lengths_in(position.epoch)[rows].sum())
        if accelerator.device.type == "cpu":  # on an accelerator reading it would wait; `flush` looks later
            self._check(position.step + 1, rows, losses, norm)
        self.state.optimizer.step()
        adalora.share_ranks(self.state.model, position.step)
        self.state.optimizer.zero_grad()
        position.step += 1
        position.offset += 1
        if position.offset == len(self._plan_of(position.epoch)):
            position.epoch, position.offset = position.epoch + 1, 0
            self._expect(position.step, 0)
        self.objective.after_step(position.step)
        if self.state.average is not None:
            self.state.average.update(position.step)
        self._window.append(_Done(position.step, rows, losses, logs, norm, tokens, lr))
        if position.step % self.setup.config.train.log_every == 0 or position.step == self.total:
            self.flush()
        return stop

    def flush(self) -> None:
        """Read what the device has computed since the last log line, refuse what is no number, log the mean."""
        if not self._window:
            return
        window, self._window = self._window, []
        for done in window:
            self._check(done.step, done.rows, done.losses, done.grad_norm)
        now = time.perf_counter()
        seconds, self._window_began = now - self._window_began, now
        # Steps may differ in their terms (one task each): a term's mean is over the steps that have it.
        found: dict[str, list[float]] = {}
        for done in window:
            for term, value in done.losses.items():
                found.setdefault(term, []).append(float(value))
        terms = {term: _mean(values) for term, values in found.items()}
        logs = {name: _mean([float(done.logs[name]) for done in window]) for name in window[-1].logs}
        tokens = sum(done.tokens for done in window)
        shares = {term: len(values) / len(window) for term, values in found.items()}
        loss = sum(self.objective.weights.get(term, 1.0) * value * shares[term] for term, value in terms.items())
        record: dict[str, Any] = {
            "loss": loss,
            **({f"loss/{term}": value for term, value in terms.items()} if len(terms) > 1 else {}),
            **logs,
            "lr": window[-1].lr,
            "grad_norm": _mean([float(done.grad_norm) for done in window]),
            **self._speed(tokens, seconds),
            "seconds": round(seconds, 3),
        }
        self.setup.log(record, self.state, epoch=self.epoch)
        self._look_for_collapse(logs)
        unit, scale = ("s of audio/s", 100) if self.task.hears else ("tokens/s", 1)
        self.note = f"loss {loss:.4f}  {tokens / scale / seconds:,.0f} {unit}"

    def _speed(self, tokens: int, seconds: float) -> dict[str, float]:
        """What a log window has read, and how fast."""
        if self.task.hears:
            return {"audio_seconds": tokens / 100, "audio_per_s": round(tokens / 100 / seconds, 2)}
        return {"tokens": tokens, "tokens_per_s": round(tokens / seconds, 1)}

    def _look_for_collapse(self, logs: dict[str, float]) -> None:
        """Stop where the objective has called what it learns a collapse for several windows in turn."""
        name = self.objective.collapse(logs) if self.state.position.step > _GRACE else ""
        self._sick = self._sick + 1 if name else 0
        if self._sick >= _SICK_WINDOWS:
            good = self.setup.run.newest_good_checkpoint()
            raise TrainingError(
                f"step {self.state.position.step}: {name}; training stops, as nothing is learned any more; last "
                f"checkpoint: {good or 'none'}; lower --optim.lr, warm up longer, or try another seed"
            )

    def _plan_of(self, epoch: int) -> Plan:
        if epoch != self._plan_epoch or self._plan is None:
            config = self.setup.config
            if not len(self.task.splits["train"]):
                raise DataError(f"{self.task.name}: the training split is empty")
            batch = config.batch
            self._plan = self.task.plan(
                "train",
                examples=batch.examples,
                tokens=batch.budget,
                bucket=batch.bucket and not self.task.mixes_lengths,
                seed=config.seed,
                epoch=epoch,
            )
            self._plan_epoch = epoch
        return self._plan

    def _lengths_in(self, epoch: int) -> np.ndarray:
        """Of the training rows, as they are read in an epoch."""
        if self._lengths is None or epoch != self._lengths_epoch:
            self._lengths, self._lengths_epoch = self.task.lengths("train", epoch=epoch), epoch
        return self._lengths

    def _gradients(self, rows: np.ndarray, signal_received: int) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
        """Gradients of one step, in as few forward passes as memory allows; retried in halves when it runs out."""
        while True:
            try:
                return self._accumulate(rows, signal_received)
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not _out_of_memory(error):
                    raise
                self._halve(rows, error)

    def _accumulate(self, rows: np.ndarray, signal_received: int) -> tuple[dict[str, Tensor], dict[str, Tensor], int]:
        accelerator = self.setup.accelerator
        position = self.state.position
        examples, on_cpu = self.task.splits["train"], accelerator.device.type == "cpu"
        parts = micro_batches(
            rows,
            self._lengths_in(position.epoch),
            process=accelerator.process_index,
            processes=accelerator.num_processes,
            tokens=position.micro_tokens,
            # Several small passes cost a CPU little, and pad little; another device is better filled by one.
            alike=_ALIKE if self.setup.config.batch.bucket and on_cpu and self.task.must_mix(rows) else 0,
        )
        # A process without a row still takes part in the exchange of gradients, with a weight of nothing.
        idle = not parts
        batches = [self.task.collate(examples.take(part), epoch=position.epoch) for part in parts or [rows[:1]]]
        self._expect(position.step + 1, position.offset + 1)
        counts = [dict.fromkeys(c, 0) if idle else c for c in map(self.objective.counts, batches)]
        totals, stop = self._totals(counts, signal_received)
        _seed_step(self.setup.config.seed, position.step, accelerator.process_index)
        losses: dict[str, Tensor] = {}
        logs: dict[str, Tensor] = {}
        for number, (batch, count) in enumerate(zip(batches, counts, strict=True), start=1):
            last = number == len(batches)
            with contextlib.nullcontext() if last else accelerator.no_sync(self.wrapped):
                self._backward(to_device(batch, accelerator.device), count, totals, losses, logs)
        self._reduce_extra()
        if accelerator.num_processes > 1:
            losses = {term: accelerator.reduce(value, "sum") for term, value in losses.items()}
            logs = {name: accelerator.reduce(value, "sum") for name, value in logs.items()}
        return losses, logs, stop

    def _expect(self, step: int, offset: int) -> None:
        """Let examples that are decoded (sound) begin with a coming step's, at `offset` of the epoch.

        Asked for once the step before has its own: what was expected and is not named again is dropped.
        """
        accelerator, epoch = self.setup.accelerator, self.state.position.epoch
        plan = self._plan_of(epoch)
        if step < self.total and offset < len(plan):
            self.task.expect(plan[offset][accelerator.process_index :: accelerator.num_processes], epoch=epoch)

    def _backward(
        self,
        batch: Batch,
        count: dict[str, int],
        totals: dict[str, int],
        losses: dict[str, Tensor],
        logs: dict[str, Tensor],
    ) -> None:
        """One micro-batch: each term's mean weighs by its share of the whole step's units."""
        accelerator = self.setup.accelerator
        with accelerator.autocast(), read_states_only(self.state.model):
            output = self.objective(self.wrapped, batch, need_logits=False)
        loss = torch.zeros((), device=accelerator.device)
        for term, value in output.losses.items():
            share = count[term] / max(totals[term], 1)
            # A mean over nothing is nan in torch; it must not reach the sum.
            value = value.float() if count[term] else torch.nan_to_num(value.float()) * 0
            loss = loss + self.objective.weights.get(term, 1.0) * share * value
            losses[term] = losses.get(term, 0) + share * value.detach()
        for name, total in output.logs.items():
            term = name.split("/")[0]
            # Every process has the same names to add up, also one whose batch counts for nothing.
            shown = total.detach() / totals[term] if count[term] else torch.zeros_like(total)
            logs[name] = logs.get(name, 0) + shown
        # accelerate averages gradients over processes; the shares above already add up to one over all of them.
        accelerator.backward(loss * accelerator.num_processes)

    def _totals(self, counts: list[dict[str, int]], signal_received: int) -> tuple[dict[str, int], int]:
        """Units of each term over all micro-batches and processes, and any process's signal: one small exchange."""
        terms = list(counts[0])
        numbers = [sum(count[term] for count in counts) for term in terms]
        accelerator = self.setup.accelerator
        if accelerator.num_processes == 1:
            return dict(zip(terms, numbers, strict=True)), signal_received
        packed = torch.tensor([*numbers, signal_received > 0], device=accelerator.device)
        *numbers, received = accelerator.reduce(packed, "sum").tolist()
        stop = signal_received or (signal.SIGTERM if received else 0)
        return dict(zip(terms, numbers, strict=True)), int(stop)

    def _reduce_extra(self) -> None:
        """Average the gradients of the objective's own modules, which no wrapper does."""
        processes = self.setup.accelerator.num_processes
        if processes == 1:
            return
        inside = {id(parameter) for parameter in self.state.model.parameters()}
        for module in self.state.extra:
            for parameter in module.parameters():
                if parameter.grad is not None and id(parameter) not in inside:
                    torch.distributed.all_reduce(parameter.grad)
                    parameter.grad /= processes

    def _clip(self) -> Tensor:
        accelerator, optimizer = self.setup.accelerator, self.state.optimizer
        limit = self.setup.config.optim.clip or math.inf
        inner = getattr(optimizer, "optimizer", optimizer)  # what accelerate has wrapped
        if accelerator.device.type == "cpu" and accelerator.num_processes == 1 and optim.clips_itself(inner):
            return optim.clip_in_step(inner, limit).detach()
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm = accelerator.clip_grad_norm_(parameters, limit)
        return torch.as_tensor(0.0 if norm is None else norm).detach()

    def _check(self, step: int, rows: np.ndarray, losses: dict[str, Tensor], norm: Tensor) -> None:
        """Raise TrainingError where a loss is nan or inf, or the gradient of one that is not."""
        values = {f"loss {term!r}": value for term, value in losses.items()}
        if self.setup.accelerator.scaler is None:  # which leaves out such steps, and looks for a smaller scale
            values["the gradient's norm"] = norm
        for what, value in values.items():
            if not torch.isfinite(value):
                ids = [row.get("id", row["row"]) for row in self.task.splits["train"].take(rows)]
                good = self.setup.run.newest_good_checkpoint()
                shown = ", ".join(map(str, ids[:8])) + (f", ... ({len(ids)} in all)" if len(ids) > 8 else "")
                raise TrainingError(
                    f"step {step}: {what} is {float(value)} on examples {shown}; last good checkpoint: "
                    f"{good or 'none'}; lower --optim.lr, clip harder, or use --train.precision fp32"
                )

    def _halve(self, rows: np.ndarray, error: BaseException) -> None:
        """Less at once from here on; the step is begun again."""
        accelerator, position = self.setup.accelerator, self.state.position
        lengths = self._lengths_in(position.epoch)[rows]
        whole = int(lengths.max()) * -(-len(rows) // accelerator.num_processes)
        halved = min(position.micro_tokens or whole, whole) // 2
        if accelerator.num_processes > 1 or halved < int(lengths.max()):
            raise TrainingError(
                f"step {position.step + 1}: out of memory with {whole} tokens at once; set --batch.micro_tokens below "
                f"that, shorten inputs, or use --train.gradient_checkpointing ({str(error).splitlines()[0]})"
            ) from error
        position.micro_tokens = halved
        self.state.optimizer.zero_grad()
        if accelerator.device.type == "cuda":
            torch.cuda.empty_cache()
        say(f"out of memory: going on with at most {halved} tokens in one forward pass")


def _seed_step(seed: int, step: int, process: int) -> None:
    """Random numbers of the model depend on where the step stands, so that no state of them is saved.

    Dropout draws them from torch; the masks that transformers' speech models train under come from NumPy.
    """
    digest = hashlib.blake2b(f"{seed}/{step}/{process}".encode(), digest_size=7).digest()
    torch.manual_seed(int.from_bytes(digest))
    np.random.seed(int.from_bytes(digest[:4]))


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)
