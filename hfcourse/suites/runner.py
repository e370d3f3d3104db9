"""Runs many jobs in one folder: resumes, retries, one after another or side by side."""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar

from hfcourse.config import to_dict
from hfcourse.engine.signals import StopSignals
from hfcourse.errors import ConfigError, HfcourseError, Interrupted, ModelError
from hfcourse.run_folder import RunFolder
from hfcourse.suites.processes import Worker, environment
from hfcourse.suites.rows import Row, Suite


class Work(Protocol):
    """One run among many: of a task, of a method."""

    @property
    def name(self) -> str:
        """Its folder inside that of all."""

    @property
    def group(self) -> str:
        """What it is listed under: what differs by seed alone is one group."""

    def settings(self, learner: Learner) -> Any:
        """The settings of its run."""


W = TypeVar("W", bound=Work)


@dataclass(frozen=True)
class Job:
    """One run of one task."""

    row: Row
    seed: int
    lr: float | None
    """None: the recipe's own."""
    name: str
    """Its folder inside the suite's."""
    model: str = ""
    """Start from this model instead of the recipe's."""
    evaluate_only: bool = False
    """Answer with `model` as it is."""
    head: str = ""
    """Of a `model` with several heads, the one that answers."""

    @property
    def group(self) -> str:
        """The task."""
        return self.row.name

    def settings(self, learner: Learner) -> Any:
        """The settings of its run."""
        settings = learner.settings(self.row, self.seed, self.lr)
        if self.model:
            settings = replace(settings, model=self.model, evaluate_only=self.evaluate_only)
            if hasattr(settings, "backbone"):  # a random start was that of the model before
                settings = replace(settings, backbone=replace(settings.backbone, init="pretrained"))
        return replace(settings, head=self.head) if self.head else settings


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run."""

    suite: Suite
    rows: tuple[Row, ...]
    seeds: tuple[int, ...]
    lrs: tuple[float, ...] = ()
    """Rates to try for each task; the best mean on dev is published. Empty: the recipe's own."""

    def jobs(self, row: Row, model: str = "") -> list[Job]:
        """A job a rate and seed, those of one rate together."""
        return [
            Job(row, seed, lr, self._name(row, seed, lr), model) for lr in self.lrs or (None,) for seed in self.seeds
        ]

    def _name(self, row: Row, seed: int, lr: float | None) -> str:
        parts = [row.name, f"lr{lr:g}" if lr is not None else "", f"seed{seed}" if len(self.seeds) > 1 else ""]
        return "-".join(part for part in parts if part)

    @property
    def learned(self) -> tuple[Row, ...]:
        """The rows that have models of their own."""
        return tuple(row for row in self.rows if not row.answered_by)


@dataclass
class Outcome(Generic[W]):
    """What is left of the jobs."""

    runs: dict[str, list[tuple[W, RunFolder]]] = field(default_factory=dict)
    """Finished runs by group, such as a suite's row."""
    failed: dict[str, str] = field(default_factory=dict)
    """Name of a job -> why it failed, twice."""


@dataclass(frozen=True)
class Learner:
    """How a job becomes a run: given by the recipe, which knows the settings of its own fine-tuning."""

    recipe: str
    """Reference of the recipe that the runs name."""
    settings: Callable[..., Any]
    """What a job says of itself -> the settings of its run; for a suite's it is (row, seed, lr)."""
    learn: Callable[[Any, RunFolder], None]
    """Settings and an open folder -> a finished run."""


def run_jobs(
    jobs: Sequence[W],
    learner: Learner,
    run: RunFolder,
    *,
    devices: int = 1,
    isolate: bool = False,
    others_wait: bool = False,
) -> Outcome[W]:
    """Every job, each with a second try; what is finished in the folder already is taken as it is.

    Args:
        jobs: what to run.
        learner: settings and training.
        run: the folder of all; each job is a run inside it.
        devices: so many jobs at a time, each in a process of its own on a GPU of its own (or a share of the
            cores); 1 runs them one after another.
        isolate: under one device, too, give each job a process of its own, so that none finds memory or caches warm;
            not under a launch of several processes.
        others_wait: what earlier jobs of another call have found is not written down yet: no mistake may end it.

    Raises:
        ModelError, ConfigError: from the first job, a mistake that no other would escape; from a later one, one in a
            process of its own or where `others_wait`, it is a failure of that job. ConfigError: several devices under a
            launch of several processes.
        Interrupted: a signal; everything goes on with --resume.
    """
    outcome: Outcome[W] = Outcome()
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1  # the runs would take the launch for their own
    if launched and devices > 1:
        raise ConfigError(f"devices is {devices} under a launch of several processes: leave one of them out")
    here = devices == 1 and not (isolate and not launched)
    finished = _here(jobs, learner, run, others_wait) if here else _in_processes(jobs, learner, run, devices)
    for job, folder, reason in finished:
        if reason:
            outcome.failed[job.name] = reason
        else:
            outcome.runs.setdefault(job.group, []).append((job, folder))
    order = {job.name: number for number, job in enumerate(jobs)}
    for found in outcome.runs.values():
        found.sort(key=lambda pair: order[pair[0].name])
    return outcome


def _here(jobs: Sequence[W], learner: Learner, run: RunFolder, others_wait: bool) -> Iterator[tuple[W, RunFolder, str]]:
    for number, job in enumerate(jobs):
        settings = job.settings(learner)
        folder = _folder(job, settings, learner, run)
        reason = ""
        for attempt in (1, 2):
            try:
                reason = _attempt(lambda s=settings, f=folder: learner.learn(s, f))  # type: ignore[misc]
            except (ModelError, ConfigError) as error:
                if not (number or others_wait):
                    raise
                reason = str(error)
            if not reason:
                break
            _say_failed(job, reason, attempt)
            folder = _again(folder) if attempt == 1 else folder
        yield job, folder, reason


def _attempt(action: Callable[[], None]) -> str:
    """Why it failed, in one line; empty if it did not."""
    try:
        action()
    except (Interrupted, ModelError, ConfigError):
        raise
    except Exception as error:
        line = (str(error).strip() or type(error).__name__).splitlines()[0]
        return line if isinstance(error, HfcourseError) else f"{type(error).__name__}: {line}"
    return ""


def _in_processes(
    jobs: Sequence[W], learner: Learner, run: RunFolder, devices: int
) -> Iterator[tuple[W, RunFolder, str]]:
    """Each job as ``hfcourse run --config``, on the device that is free."""
    from hfcourse.engine.progress import say

    workers = [Worker(environment(device, devices)) for device in range(devices)]
    free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
    for worker in workers:
        free.put(worker)
    folders = {job.name: _folder(job, job.settings(learner), learner, run) for job in jobs}

    def work(job: W) -> str:
        worker = free.get()
        try:
            for attempt in (1, 2):
                reason = _elsewhere(folders[job.name], worker)
                if not reason:
                    return ""
                _say_failed(job, reason, attempt)
            return reason
        finally:
            free.put(worker)

    with contextlib.ExitStack() as closing, ThreadPoolExecutor(devices) as pool, StopSignals() as signals:
        for worker in workers:
            closing.callback(worker.close)
        waiting = [(job, pool.submit(work, job)) for job in jobs]
        try:
            for number, (job, answer) in enumerate(waiting, start=1):
                while not wait([answer], timeout=0.2).done:
                    if signals.received:
                        raise Interrupted(f"{run.path}: stopped; go on with --resume", signals.received)
                reason = answer.result()
                say(f"{job.name}: {'failed' if reason else 'finished'}, {number} of {len(jobs)}")
                yield job, folders[job.name], reason
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in workers:
                worker.stop()
            raise


def _elsewhere(folder: RunFolder, worker: Worker) -> str:
    """Why it failed, in one line; empty if it did not."""
    if folder.finished:
        return ""
    saved = str(folder.path / "config.yaml")
    code, said = worker.run(
        ["run", "--config", saved, "--output_dir", str(folder.path), "--resume", "--no-train.progress"]
    )
    if code == 0:
        return ""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    reason = (errors or lines or [f"exit code {code}"])[-1]
    if code in {130, 143, -2, -15}:  # it said so, or was stopped before it could
        raise Interrupted(reason, code % 128 if code > 0 else -code)
    return reason


def _folder(job: Work, settings: Any, learner: Learner, run: RunFolder) -> RunFolder:
    return run.child(job.name, {"recipe": learner.recipe, "variant": []} | to_dict(settings))


def _again(folder: RunFolder) -> RunFolder:
    """The folder of a job that failed, to go on from its newest checkpoint."""
    if not folder.is_main:
        return RunFolder.attach(folder.path, resume=True)
    return RunFolder.create(folder.path, folder.config, resume=True)


def _say_failed(job: Work, reason: str, attempt: int) -> None:
    from hfcourse.engine.progress import say

    say(f"{job.name} failed: {reason}; " + ("trying once more" if attempt == 1 else "left out"))
