"""Run two or more sides of a comparison in turn, each in a fresh process, and print ratios of medians."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Result = dict[str, Any]


def run_side(script: str, arguments: Sequence[str], *, tuned: bool) -> Result:
    """One process; its last line on standard output is its result as JSON."""
    environment = dict(os.environ, HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    environment.setdefault("OMP_NUM_THREADS", "2")
    environment.setdefault("CUDA_VISIBLE_DEVICES", "0")  # the Trainer multiplies its batch by the GPUs it sees
    environment.pop("HFCOURSE_KEEP_MALLOC", None)
    if not tuned:
        environment["HFCOURSE_KEEP_MALLOC"] = "1"
    command = [sys.executable, "-W", "ignore", script, *arguments]
    with tempfile.TemporaryDirectory() as place:  # also of what a process leaves that is killed with this one
        done = subprocess.run(command, capture_output=True, text=True, env=environment | {"TMPDIR": place})
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def compare(script: str, sides: Mapping[str, tuple[Sequence[str], bool]], rounds: int, unit: str) -> dict[str, Result]:
    """All sides once in each round, so that a drift of the machine meets all of them."""
    results: dict[str, list[Result]] = {name: [] for name in sides}
    for round_ in range(rounds):
        for name, (arguments, tuned) in sides.items():
            result = run_side(script, arguments, tuned=tuned)
            results[name].append(result)
            print(f"round {round_ + 1}  {name:<28} {result['rate']:>9.1f} {unit}", flush=True)
    return {name: _median(found) for name, found in results.items()}


def beside_trainer(script: str, arguments: Sequence[str], rounds: int, unit: str) -> str:
    """Ours and `transformers.Trainer`, as it comes and at our precision and allocator: a table and three ratios.

    The script answers ``--side ours|trainer --precision fp32|bf16`` and the `arguments`.
    """

    def side(name: str, precision: str, tuned: bool) -> tuple[list[str], bool]:
        return ["--side", name, "--precision", precision, *arguments], tuned

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
    return table(compare(script, sides, rounds, unit), pairs, unit)


def table(medians: Mapping[str, Result], pairs: Sequence[tuple[str, str]], unit: str) -> str:
    """Medians of all sides, then the ratios of the pairs."""
    lines = [f"{'side':<28} {unit:>12} {'peak MiB':>9}  set-up"]
    for name, result in medians.items():
        lines.append(f"{name:<28} {result['rate']:>12.1f} {result['peak'] / 2**20:>9.0f}  {result['setup']}")
    for ours, theirs in pairs:
        rate = medians[ours]["rate"] / medians[theirs]["rate"]
        memory = medians[ours]["peak"] / max(medians[theirs]["peak"], 1)
        lines.append(f"{ours} / {theirs}: {rate:.2f} x the speed, {memory:.2f} x the memory")
    return "\n".join(lines)


def _median(found: Sequence[Result]) -> Result:
    numbers = {key: statistics.median(r[key] for r in found) for key in ("rate", "peak")}
    return {**found[-1], **numbers}


def resident() -> int:
    """Resident memory of this process now, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
