"""bert-base at 512 tokens on a GPU: tokens/s and model-FLOP utilisation, packed, bf16, with and without compiling.

The yardstick is the GPU's own rate on an 8192 x 8192 x 8192 bf16 product, measured first.

    python benchmarks/gpu_bert.py [--rows 64] [--steps 30]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import masked_lm


def matrix_rate() -> float:
    """FLOP/s of a large bf16 product on random data."""
    import torch

    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    times = []
    for _ in range(15):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        a @ b
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return 2 * 8192**3 / statistics.median(times[5:])


def step_flops(config: object, rows: int, length: int) -> float:
    """Multiply-adds of one forward and backward pass x 2: layers, attention, and the head at 15 % of positions."""
    layers, hidden, inner = config.num_hidden_layers, config.hidden_size, config.intermediate_size  # type: ignore[attr-defined]
    tokens = rows * length
    matrices = layers * (4 * hidden * hidden + 2 * hidden * inner) * tokens
    attention = layers * 2 * length * hidden * tokens
    head = 0.15 * tokens * (hidden * hidden + hidden * config.vocab_size)  # type: ignore[attr-defined]
    return 6 * (matrices + attention + head)


def speed(model: Any, task: Any, folder: Path, *, rows: int, steps: int, compiled: bool) -> float:
    """Tokens/s of `fit` in bf16, the median of the log's windows."""
    from hfcourse.engine.fit import fit
    from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
    from hfcourse.run_folder import RunFolder

    task.splits = {"train": task.splits["train"]}
    train = TrainConfig(steps=steps, log_every=5, eval_every=10**6, progress=False, precision="bf16", compile=compiled)
    batch = BatchConfig(examples=rows, bucket=False)
    run = RunFolder.create(folder, {"recipe": "benchmark"})
    fit(model, task, FitConfig(batch=batch, optim=OptimConfig(lr=1e-4), train=train), run)
    return statistics.median([record["tokens_per_s"] for record in run.read_log() if "lr" in record][2:])


def arguments(description: str | None, rows: int) -> argparse.Namespace:
    """Rows of a step and steps; ends where there is no GPU."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=rows)
    parser.add_argument("--steps", type=int, default=30)
    given = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no GPU here")
    return given


def main() -> None:
    """Print a line for each set-up."""
    given = arguments(__doc__, 64)
    import torch
    from transformers import BertConfig, BertForMaskedLM

    rate = matrix_rate()
    print(f"{torch.cuda.get_device_name()}: {rate / 1e12:.0f} TFLOP/s on an 8192^3 bf16 product")
    masked_lm.LENGTH, masked_lm.ROWS = 512, given.rows
    for compiled in (False, True):
        with tempfile.TemporaryDirectory() as place:
            corpus = Path(place) / "corpus"
            corpus.mkdir()
            task = masked_lm.make_task(corpus, masked_lm.make_tokenizer(), given.steps)
            model = BertForMaskedLM(BertConfig(vocab_size=masked_lm.VOCABULARY))
            found = speed(model, task, Path(place) / "run", rows=given.rows, steps=given.steps, compiled=compiled)
        tokens = found * 512 / 510  # special tokens are computed too
        used = tokens / (given.rows * 512) * step_flops(model.config, given.rows, 512) / rate
        print(f"compile {compiled!s:<5}  {tokens:>10,.0f} tokens/s  {used:.1%} of the matrix rate")


if __name__ == "__main__":
    main()
