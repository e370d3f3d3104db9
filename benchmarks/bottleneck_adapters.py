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
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from minilm import minilm
from workers import Worker, environment

LIBRARY = "adapters==1.3.*"
PLACEMENTS = ("houlsby", "pfeiffer", "parallel", "compacter")
SHAPES = ((32, 128), (8, 64))
"""Rows and tokens of a batch."""


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
    pythons = {"ours": here, "ours_fast": here, "theirs": environment(given.env, LIBRARY)}
    sides = [Worker(name, python, "bottleneck_worker.py", minilm()) for name, python in pythons.items()]
    compare_answers(sides[0], sides[2], given.placements)
    compare_times(sides, given)
    for side in sides:
        print(f"{side.name}: {side.setup}")
        side.close()


if __name__ == "__main__":
    main()
