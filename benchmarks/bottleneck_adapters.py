"""Bottleneck adapters beside the `adapters` library: the same numbers from the same weights, and the time they take.

MiniLM (6 layers x 384) as a classifier, adapters and head trained, dropout 0.1, fp32, AdamW, in the same bare loop and
with the same allocator; ours is a plain `PeftModel`, so that adapters are compared and not engines (beside it, in a
column of its own, with the dropout that `fit` puts in). The library needs an older transformers: the first run makes it
an environment of its own (`--env`), which borrows this one's torch; each side has the transformers that it is made for.
Reduction 16 (Compacter 32), silu for Houlsby, relu for Pfeiffer and parallel, gelu for Compacter. The processes stay
and take turns, a few steps each; `bottleneck_worker.py` is one of them. (A script of the library's own name would be
imported in its place.)

    python benchmarks/bottleneck_adapters.py [--rounds 5] [--steps 3] [--placements houlsby pfeiffer] [--env DIR]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from minilm import minilm

LIBRARY = "adapters==1.3.*"
PLACEMENTS = ("houlsby", "pfeiffer", "parallel", "compacter")
SHAPES = ((32, 128), (8, 64))
"""Rows and tokens of a batch."""


def environment(folder: Path) -> Path:
    """The interpreter of the library's environment, which is made where it is missing.

    torch comes from the environment that runs this, behind the packages of its own: so its own transformers wins.
    """
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if not ready.is_file():
        import torch

        print(f"making {folder} for {LIBRARY} ...", flush=True)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", LIBRARY], check=True)
        (own,) = folder.glob("lib/python*/site-packages")
        (own / "borrowed.pth").write_text(f"{Path(torch.__file__).parents[1]}\n")
        ready.touch()
    return python.absolute()  # not resolved: the link's place tells Python which environment it is


class Worker:
    """One side in a process of its own."""

    def __init__(self, name: str, python: Path) -> None:
        root = Path(__file__).resolve().parents[1]
        script = root / "benchmarks" / "bottleneck_worker.py"
        settings = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", PYTHONPATH=str(root))
        settings.setdefault("OMP_NUM_THREADS", "2")
        self.name, self.setup = name, ""
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (as long as the process)
        self.process = subprocess.Popen(
            [python, "-W", "ignore", script, name, minilm()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=settings,
        )

    def ask(self, **job: Any) -> Any:
        """The answer to one job."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(job) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise SystemExit(f"{self.name} failed:\n{self.errors.read()[-3000:]}")
        answer = json.loads(line)
        self.setup = answer["setup"]
        return answer["result"]

    def close(self) -> None:
        """No more jobs."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def compare_answers(ours: Worker, theirs: Worker, placements: Sequence[str]) -> None:
    """Print how many parameters there are and how far the answers are apart."""
    import torch

    print("\n| placement | adapter parameters, ours | theirs | head, ours | theirs | states | logits |")
    print("|---|---|---|---|---|---|---|")
    for placement in placements:
        with tempfile.TemporaryDirectory() as place:
            files = [str(Path(place) / side.name) for side in (ours, theirs)]
            counts = [
                side.ask(placement=placement, file=file) for side, file in zip((ours, theirs), files, strict=True)
            ]
            first, second = map(torch.load, files)
        numbers = [f"{count[part]:,}" for part in ("adapters", "head") for count in counts]
        far = [f"{(first[part] - second[part]).abs().max():.1e}" for part in ("states", "logits")]
        print(f"| {placement} | {' | '.join([*numbers, *far])} |", flush=True)


def compare_times(sides: Sequence[Worker], given: argparse.Namespace) -> None:
    """Print milliseconds of a step, medians over rounds, and how often ours goes into theirs."""
    print("\n| placement | batch | | ours, ms | with fit's dropout, ms | theirs, ms | speed | with fit's dropout |")
    print("|---|---|---|---|---|---|---|---|")
    for placement, (rows, length), train in itertools.product(given.placements, SHAPES, (True, False)):
        job = {"placement": placement, "rows": rows, "length": length, "train": train, "steps": given.steps}
        seconds: dict[str, list[float]] = {side.name: [] for side in sides}
        for round_ in range(given.rounds):
            for side in sides if round_ % 2 else reversed(sides):
                seconds[side.name].append(side.ask(**job))
        ours, fast, theirs = (statistics.median(seconds[side.name]) for side in sides)
        times = " | ".join(f"{1000 * one:.1f}" for one in (ours, fast, theirs))
        what = "training step" if train else "forward"
        ratios = f"{theirs / ours:.2f} x | {theirs / fast:.2f} x"
        print(f"| {placement} | {rows} x {length} | {what} | {times} | {ratios} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="in each turn of a side")
    parser.add_argument("--placements", nargs="+", choices=PLACEMENTS, default=PLACEMENTS)
    parser.add_argument("--env", type=Path, default=Path("build/adapters-env"), help="the library's environment")
    given = parser.parse_args()
    here = Path(sys.executable)
    sides = [Worker("ours", here), Worker("ours_fast", here), Worker("theirs", environment(given.env))]
    compare_answers(sides[0], sides[2], given.placements)
    compare_times(sides, given)
    for side in sides:
        print(f"{side.name}: {side.setup}")
        side.close()


if __name__ == "__main__":
    main()
