"""Fine-tuning on sentences of mixed length: ours beside `transformers.Trainer` with dynamic padding.

MiniLM on CoLA and RTE, batch 32; `minilm.py` says what is equal (but for weight decay: ours 0.01, the Trainer's 0).
Sides: the Trainer as a user gets it (fp32, the system's allocator), the Trainer at our precision and allocator, ours in
fp32 and bf16.
`--epochs 3` trains in full and prints dev scores; without it a part of an epoch is timed.

    python benchmarks/finetune.py --data_dir GLUE [--tasks cola rte] [--rounds 3] [--steps 40]
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from minilm import LEARNERS, Settings
from side_by_side import beside_trainer


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """One side: examples/s, memory above that after imports and data, and the dev score."""
    import torch

    from hfcourse.engine import machine

    settings = Settings(
        task=given.task,
        data_dir=given.data_dir,
        seed=given.seed,
        epochs=given.epochs or 1,
        limit=0 if given.epochs else given.steps * Settings.batch,
        whole_dev=False,
        precision=given.precision,
        weight_decay=0.01,
    )
    outcome = LEARNERS[given.side](settings)
    score = outcome.scores[outcome.metric]
    setup = (
        f"{given.precision}, batch {settings.batch}, {torch.get_num_threads()} threads, {machine.allocator()} malloc"
    )
    setup += f", dev {score:.3f}" if given.epochs else ""
    rate = outcome.rows * settings.epochs / outcome.seconds
    return {"rate": rate, "peak": outcome.peak, "setup": setup, "score": score}


def main() -> None:
    """Print a table a task, or be one side of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True)
    parser.add_argument("--tasks", nargs="+", default=["cola", "rte"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", choices=LEARNERS)
    parser.add_argument("--task")
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    if given.side:
        print(json.dumps(measure(given)))
        return
    for task in given.tasks:
        numbers = {"--steps": given.steps, "--epochs": given.epochs, "--seed": given.seed}
        arguments = ["--task", task, "--data_dir", given.data_dir]
        arguments += [word for pair in numbers.items() for word in map(str, pair)]
        print(f"\n{task}")
        print(beside_trainer(__file__, arguments, given.rounds, "examples/s"))


if __name__ == "__main__":
    main()
