"""GPT pretraining: ours beside `transformers.Trainer` with `GPT2LMHeadModel` and its own collator.

6 layers x 384, GPT-2's vocabulary (50,257), 8 x 256 tokens a step, the same text for both. Sides: the Trainer as a user
gets it (fp32, the system's allocator), the Trainer at our precision and allocator, ours in fp32 and bf16. First of all
both losses are compared on the same weights and batch.

    python benchmarks/causal_lm.py [--rounds 3] [--steps 8]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from side_by_side import beside_trainer, resident, run_side

ROWS, LENGTH, VOCABULARY = 8, 256, 50_257
CONFIG: dict[str, Any] = {"n_embd": 384, "n_layer": 6, "n_head": 6, "n_positions": LENGTH, "vocab_size": VOCABULARY}
WARM_UP = 2
"""Steps that are not timed."""


def make_tokenizer() -> Any:
    """50,257 entries, one for each word, the last one for the end of a text (as in GPT-2)."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    words = [*(f"w{n}" for n in range(VOCABULARY - 1)), end]
    backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token=end))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, unk_token=end)


def make_task(folder: Path, steps: int) -> Any:
    """Random words, packed into blocks."""
    import numpy as np

    from hfcourse.tasks.base import TaskContext
    from hfcourse.tasks.causal_pretraining import CausalPretrainingConfig

    folder.mkdir()
    words = np.random.default_rng(0).integers(0, VOCABULARY - 1, size=(steps + 1) * ROWS * LENGTH)
    lines = [" ".join(f"w{n}" for n in line) for line in words.reshape(-1, LENGTH)]
    (folder / "train.txt").write_text("\n\n".join(lines))
    config = CausalPretrainingConfig(data=str(folder), block_length=LENGTH)
    return config.build(TaskContext(tokenizer=make_tokenizer()))


def make_model() -> Any:
    """The same fresh weights for all sides."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**CONFIG))


def ours(precision: str, steps: int) -> dict[str, Any]:
    """Through `fit`, whose log line of each step has its time."""
    from hfcourse.engine import machine
    from hfcourse.engine.fit import fit
    from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
    from hfcourse.run_folder import RunFolder

    machine.tune_allocator()
    with tempfile.TemporaryDirectory() as place:
        os.environ["HFCOURSE_CACHE"] = place
        task = make_task(Path(place) / "corpus", steps)
        task.splits = {"train": task.splits["train"]}
        model = make_model()
        config = FitConfig(
            batch=BatchConfig(examples=ROWS),
            optim=OptimConfig(lr=1e-4),
            train=TrainConfig(steps=steps, log_every=1, eval_every=10**6, progress=False, precision=precision),  # type: ignore[arg-type]
        )
        before = resident()
        run = RunFolder.create(Path(place) / "run", {"recipe": "benchmark"})
        fit(model, task, config, run)
        seconds = [record["seconds"] for record in run.read_log() if "lr" in record][WARM_UP:]
    return result(seconds, before, precision, machine.allocator())


def trainer(precision: str, steps: int) -> dict[str, Any]:
    """`transformers.Trainer` at its defaults, but for the precision asked for."""
    from transformers import DataCollatorForLanguageModeling, Trainer, TrainerCallback, TrainingArguments

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
        windows = make_task(Path(place) / "corpus", steps).splits["train"]
        rows = [{"input_ids": ids} for ids in windows.windows(range(len(windows)))[:, :LENGTH].tolist()]
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
        tokenizer = make_tokenizer()
        tokenizer.pad_token = tokenizer.eos_token  # the collator wants one, though nothing is padded
        collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        model = make_model()
        before = resident()
        Trainer(model, arguments, data_collator=collator, train_dataset=rows, callbacks=[Clock()]).train()
        seconds = [end - start for start, end in pairwise(clock)][WARM_UP:]
    return result(seconds, before, precision, machine.allocator())


def losses(precision: str, steps: int) -> dict[str, Any]:
    """The loss of both on the same weights and batch, without dropout."""
    import torch

    from hfcourse.objectives.causal_lm import CausalLM

    model = make_model().eval()
    windows = torch.randint(0, VOCABULARY, (ROWS, LENGTH), generator=torch.Generator().manual_seed(0))
    objective = CausalLM()
    objective.bind(model)
    batch = {"input_ids": windows[:, :-1], "labels": windows[:, 1:]}
    mine = float(objective(model, batch, need_logits=False).losses["causal_lm"].detach())
    with torch.no_grad():
        theirs = float(model(input_ids=windows, labels=windows).loss)
    return {"ours": mine, "theirs": theirs}


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
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--side", choices=("ours", "trainer", "losses"))
    parser.add_argument("--precision", default="fp32")
    given = parser.parse_args()
    if given.side:
        sides = {"ours": ours, "trainer": trainer, "losses": losses}
        print(json.dumps(sides[given.side](given.precision, given.steps)))
        return

    found = run_side(__file__, ["--side", "losses"], tuned=True)
    print(
        f"loss on the same weights and batch: ours {found['ours']:.6f}, transformers' {found['theirs']:.6f}", flush=True
    )
    if abs(found["ours"] - found["theirs"]) > 1e-5:
        raise SystemExit("the losses differ: nothing is compared")
    print(beside_trainer(__file__, ["--steps", str(given.steps)], given.rounds, "tokens/s"))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
