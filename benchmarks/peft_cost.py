"""What a training step costs where few parameters are trained, beside one where all are: time and memory.

MiniLM (6 layers x 384) as a classifier through `fit`, 64 rows of 128 random words a step, our allocator on all sides.
Memory is the peak of resident memory less that after the imports, and, as a second number, less that before training
(which has the model and the data). ``lora:0`` is LoRA with no layer skipped (`peft.skip_layers`), and so on.

    python benchmarks/peft_cost.py [--methods lora pfeiffer] [--precisions fp32 bf16] [--rounds 3] [--steps 8]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minilm import minilm
from side_by_side import Result, resident, run_side

ROWS, LENGTH = 64, 128
LABELS = ("a", "b", "c")
FIRST = 2
"""Steps that are not counted: they make room for all that follows."""


def make_task(steps: int) -> Any:
    """Random words of one length, with random answers."""
    import numpy as np
    import torch

    from hfcourse.heads.spec import HeadSpec
    from hfcourse.tasks.base import Task

    class Words:
        """All rows at once."""

        def __init__(self, rows: int) -> None:
            draws = np.random.default_rng(0)
            self.ids = draws.integers(1000, 30_000, size=(rows, LENGTH))
            self.targets = draws.integers(len(LABELS), size=rows)
            self.lengths = np.full(rows, LENGTH)

        def __len__(self) -> int:
            return len(self.ids)

        def take(self, rows: Any) -> list[dict[str, Any]]:
            return [{"row": int(r), "input_ids": self.ids[r], "target": int(self.targets[r])} for r in rows]

    class RandomWords(Task):
        """Nothing to be learned here."""

        name, metric = "random", "accuracy"
        head = HeadSpec(kind="sequence", labels=LABELS)

        def __init__(self) -> None:
            self.splits = {"train": Words(steps * ROWS)}

        def collate(self, rows: list[Any], *, epoch: int) -> Any:
            return {
                "input_ids": torch.from_numpy(np.stack([row["input_ids"] for row in rows])),
                "labels": torch.tensor([row["target"] for row in rows]),
            }

        def predict(self, logits: Any, batch: Any) -> list[Any]:
            raise NotImplementedError

        def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
            raise NotImplementedError

        def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
            raise NotImplementedError

    return RandomWords()


def measure(method: str, precision: str, steps: int) -> Result:
    """One run: seconds of the median step, memory by both counts."""
    import torch

    from hfcourse import model as models
    from hfcourse.engine import machine
    from hfcourse.engine.fit import fit
    from hfcourse.engine.settings import BatchConfig, FitConfig, TrainConfig
    from hfcourse.peft_settings import PeftSettings
    from hfcourse.run_folder import RunFolder

    machine.tune_allocator()
    imported = resident()
    name, _, skip = method.partition(":")
    settings = PeftSettings(method=name, skip_layers=int(skip) if skip else None)  # type: ignore[arg-type]
    task = make_task(steps + FIRST)
    net = models.build(minilm(), task.head, peft=settings)
    before = resident()
    config = FitConfig(
        batch=BatchConfig(examples=ROWS),
        peft=settings,
        train=TrainConfig(epochs=1, log_every=1, progress=False, precision=precision),  # type: ignore[arg-type]
    )
    with tempfile.TemporaryDirectory() as place:
        run = RunFolder.create(Path(place) / "run", {"recipe": "benchmark"})
        fit(net, task, config, run)
        seconds = [record["seconds"] for record in run.read_log() if "lr" in record][FIRST:]
    peak = machine.peak_memory()
    setup = f"{precision}, {ROWS} x {LENGTH}, {torch.get_num_threads()} threads, {machine.allocator()} malloc"
    return {
        "seconds": statistics.median(seconds),
        "after_imports": peak - imported,
        "before_training": peak - before,
        "trained": models.parameter_counts(net)["trained"],
        "setup": setup,
    }


def table(found: dict[str, list[Result]]) -> str:
    """Medians of all methods and their share of the first one's."""
    lines = [
        "| method | trained | step, ms | peak less imports, MiB | peak less before training, MiB | time | memory | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    names = ("seconds", "after_imports", "before_training")
    whole: Sequence[float] = ()
    for method, results in found.items():
        numbers = [statistics.median(result[name] for result in results) for name in names]
        whole = whole or numbers
        shares = " | ".join(f"{mine / all_:.2f} x" for mine, all_ in zip(numbers, whole, strict=True))
        sizes = " | ".join(f"{number / 2**20:,.0f}" for number in numbers[1:])
        lines.append(f"| {method} | {results[0]['trained']:,} | {1000 * numbers[0]:,.0f} | {sizes} | {shares} |")
    return "\n".join([*lines, results[0]["setup"]])


def main() -> None:
    """Print a table a precision, or be one side of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["lora", "lora:0", "pfeiffer"])
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given.side, given.precisions[0], given.steps)))
        return
    for precision in given.precisions:
        found: dict[str, list[Result]] = {method: [] for method in ("full", *given.methods)}
        for round_ in range(given.rounds):
            for method, results in found.items():
                arguments = ["--side", method, "--precisions", precision, "--steps", str(given.steps)]
                results.append(run_side(__file__, arguments, tuned=True))
                step = 1000 * results[-1]["seconds"]
                print(f"round {round_ + 1}  {precision}  {method:<10} {step:>9.0f} ms a step", flush=True)
        print(f"\n{table(found)}\n")


if __name__ == "__main__":
    main()
