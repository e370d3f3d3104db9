"""Masked-LM pretraining: ours beside `transformers.Trainer` with `BertForMaskedLM` and its own collator.

4 layers x 256, vocabulary 30,522, 32 x 128 tokens a step, the same blocks for both. Sides: the Trainer as a user gets
it (fp32, the system's allocator), the Trainer at our precision and allocator, ours in fp32 and bf16.

    python benchmarks/masked_lm.py [--rounds 3] [--steps 12]
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from side_by_side import beside_trainer, resident

ROWS, LENGTH, VOCABULARY = 32, 128, 30_522
CONFIG: dict[str, Any] = {
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 1024,
    "vocab_size": VOCABULARY,
}


def make_tokenizer() -> Any:
    """30,522 entries, one for each word."""
    from transformers import BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(VOCABULARY - 5))]
    return BertTokenizerFast(vocab={word: number for number, word in enumerate(words)})


def make_task(folder: Path, tokenizer: Any, steps: int) -> Any:
    """Random words, packed into blocks."""
    import numpy as np

    from hfcourse.tasks.base import TaskContext
    from hfcourse.tasks.pretraining import PretrainingConfig

    words = np.random.default_rng(0).integers(0, VOCABULARY - 5, size=(steps + 1) * ROWS * LENGTH)
    lines = [" ".join(f"w{n}" for n in line) for line in words.reshape(-1, LENGTH)]
    (folder / "train.txt").write_text("\n\n".join(lines))
    config = PretrainingConfig(data=str(folder), sentence_order=0.0, block_length=LENGTH)
    return config.build(TaskContext(tokenizer=tokenizer))


def ours(precision: str, steps: int) -> dict[str, Any]:
    """Through `fit`, whose log line of each step has its time."""
    import os

    import torch
    from transformers import BertConfig, BertForMaskedLM

    from hfcourse.engine import machine
    from hfcourse.engine.fit import fit
    from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
    from hfcourse.run_folder import RunFolder

    machine.tune_allocator()
    with tempfile.TemporaryDirectory() as place:
        os.environ["HFCOURSE_CACHE"] = place
        corpus = Path(place) / "corpus"
        corpus.mkdir()
        task = make_task(corpus, make_tokenizer(), steps)
        torch.manual_seed(0)
        model = BertForMaskedLM(BertConfig(**CONFIG))
        config = FitConfig(
            batch=BatchConfig(examples=ROWS),
            optim=OptimConfig(lr=1e-4),
            train=TrainConfig(steps=steps, log_every=1, eval_every=10**6, progress=False, precision=precision),  # type: ignore[arg-type]
        )
        before = resident()
        run = RunFolder.create(Path(place) / "run", {"recipe": "benchmark"})
        fit(model, task, config, run)
        seconds = [record["seconds"] for record in run.read_log() if "lr" in record][2:]
    return result(seconds, before, precision, machine.allocator())


def trainer(precision: str, steps: int) -> dict[str, Any]:
    """`transformers.Trainer` at its defaults, but for the precision asked for."""
    import os

    import torch
    from transformers import (
        BertConfig,
        BertForMaskedLM,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    from hfcourse.engine import machine

    machine.tune_allocator()
    clock: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.append(time.perf_counter())

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            clock.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as place:
        os.environ["HFCOURSE_CACHE"] = place
        corpus = Path(place) / "corpus"
        corpus.mkdir()
        tokenizer = make_tokenizer()
        windows = make_task(corpus, tokenizer, steps).splits["train"]
        ids = windows.windows(range(len(windows))).tolist()
        rows = [{"input_ids": [2, *window, 3], "attention_mask": [1] * LENGTH} for window in ids]
        torch.manual_seed(0)
        arguments = TrainingArguments(
            output_dir=str(Path(place) / "out"),
            per_device_train_batch_size=ROWS,
            max_steps=steps,
            learning_rate=1e-4,
            bf16=precision == "bf16",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        collator = DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15)
        model = BertForMaskedLM(BertConfig(**CONFIG))
        before = resident()
        Trainer(model, arguments, data_collator=collator, train_dataset=rows, callbacks=[Clock()]).train()
        seconds = [end - start for start, end in pairwise(clock)][2:]
    return result(seconds, before, precision, machine.allocator())


def result(seconds: list[float], before: int, precision: str, allocator: str) -> dict[str, Any]:
    """Tokens/s of the median step, and the peak of memory above that after imports and data."""
    import torch

    from hfcourse.engine import machine

    setup = f"{precision}, {ROWS} x {LENGTH}, {torch.get_num_threads()} threads, {allocator} malloc"
    rate = ROWS * LENGTH / statistics.median(seconds)
    return {"rate": rate, "peak": machine.peak_memory() - before, "setup": setup}


def main() -> None:
    """Print the table, or be one side of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--side", choices=("ours", "trainer"))
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    if given.side:
        print(json.dumps({"ours": ours, "trainer": trainer}[given.side](given.precision, given.steps)))
        return

    print(beside_trainer(__file__, ["--steps", str(given.steps)], given.rounds, "tokens/s"))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
