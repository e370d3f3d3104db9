"""Fine-tuning on GLUE: ours beside `transformers.Trainer` as it comes, adapters beside all weights; scores and speed.

MiniLM at the same settings on both sides (`minilm.py` says what is equal; weight decay is the Trainer's 0). The Trainer
runs in fp32 with the system's allocator, ours in `--precision` with its own. Every (task, seed, learning rate, side) is
a fresh process, the sides in turn; its result is a line of `--out`, and what stands there is not measured again: a
benchmark that was stopped goes on with the same command. One such file belongs to one machine. With several rates each
side takes the one with its best mean on dev. MNLI, with its two dev sets, is not among the tasks.

The sides `full`, `lora` and `pfeiffer` are for each other: each has a learning rate that was chosen once, on
pydocs/topic (docs/LOG.md).

    python benchmarks/glue.py --data_dir GLUE [--tasks cola mrpc stsb] [--seeds 3] [--lr 5e-5] [--out runs/glue.jsonl]
    python benchmarks/glue.py --data_dir GLUE --sides full lora pfeiffer [...]
    python benchmarks/glue.py --table [--out runs/glue.jsonl]
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import itertools
import json
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from glue_table import Record, report
from minilm import LEARNERS, Settings
from side_by_side import run_side

from hfcourse.suites.rows import GLUE

TASKS = [row.name for row in GLUE.rows if row.splits == ("dev",)]
LIMITS = {"sst2": 10_000}
"""Training rows, where not all."""
KEY = ("task", "seed", "lr", "epochs", "batch", "limit", "precision", "peft")
"""Settings that, with the side, tell one measurement from another."""


@dataclass(frozen=True)
class Side:
    """A way to train, as a name on the command line."""

    learner: str
    tuned: bool
    """Whether it may have our allocator."""
    precision: str = ""
    """Its own; that of the command line where empty."""
    peft: str = "full"
    """What is trained, as `--peft` has it."""
    lr: float = 0.0
    """Its own; those of the command line where 0."""


SIDES = {
    "ours": Side("ours", tuned=True),
    "trainer": Side("trainer", tuned=False, precision="fp32"),
    "full": Side("ours", tuned=True, lr=2e-4),
    "lora": Side("ours", tuned=True, peft="lora", lr=1e-3),
    "pfeiffer": Side("ours", tuned=True, peft="pfeiffer", lr=1e-3),
}


def jobs(given: argparse.Namespace) -> Iterator[tuple[str, Settings]]:
    """(side, settings) of all that is asked for; the sides follow each other."""
    precision = _resolved(given.precision)
    for task, seed, lr, side in itertools.product(given.tasks, range(given.seeds), given.lrs, given.sides):
        if SIDES[side].lr and lr != given.lrs[0]:
            continue  # it has one rate
        settings = Settings(
            task=task,
            data_dir=given.data_dir,
            seed=seed,
            lr=SIDES[side].lr or lr,
            epochs=given.epochs,
            batch=given.batch,
            limit=LIMITS.get(task, 0) if given.limit is None else given.limit,
            precision=SIDES[side].precision or precision,
            peft=SIDES[side].peft,
        )
        yield side, settings


def _resolved(precision: str) -> str:
    from hfcourse.engine import machine

    return "fp32" if (found := machine.mixed_precision(precision)) == "no" else found


def read(out: Path) -> list[Record]:
    """The lines of a results file; none where there is no file yet."""
    records = []
    for number, line in enumerate(out.read_text().splitlines() if out.is_file() else [], start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            raise SystemExit(f"{out}, line {number}: no JSON: delete the line, and it is measured again") from None
    return records


def measure(side: str, settings: Settings) -> Record:
    """Train here; the result as a line of the file."""
    from hfcourse.engine import machine

    outcome = LEARNERS[SIDES[side].learner](settings)
    asked = {name: getattr(settings, name) for name in KEY}
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {"side": side, **asked, **dataclasses.asdict(outcome), **machine.describe(), "date": date}


def run(given: argparse.Namespace) -> None:
    """Measure what the results file does not hold yet, each in a process of its own."""
    given.out.parent.mkdir(parents=True, exist_ok=True)
    done = {(record["side"], *(record[name] for name in KEY)) for record in read(given.out)}
    for side, settings in jobs(given):
        if (side, *(getattr(settings, name) for name in KEY)) in done:
            continue
        job = json.dumps([side, dataclasses.asdict(settings)])
        record = run_side(__file__, ["--job", job], tuned=SIDES[side].tuned)
        with given.out.open("a") as file:
            file.write(json.dumps(record) + "\n")
        scores = ", ".join(f"{name} {value:.3f}" for name, value in record["scores"].items())
        words = f"{settings.task:<5} seed {settings.seed}  lr {settings.lr:g}  {side:<8} {record['seconds']:>7.1f} s"
        print(f"{words}  {scores}", flush=True)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", help="folder that holds CoLA/, MRPC/, ... (or glue_cola/, ...)")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["cola", "mrpc", "stsb"], metavar="TASK")
    parser.add_argument("--seeds", type=int, default=3, help="so many, from 0")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", "--lrs", dest="lrs", nargs="+", type=float, default=[5e-5], help="one, or a sweep")
    parser.add_argument("--batch", type=int, default=Settings.batch)
    parser.add_argument("--limit", type=int, help="training rows, 0 for all (default: all, but 10,000 of SST-2)")
    parser.add_argument("--precision", choices=("bf16", "fp32", "auto"), default="bf16", help="of ours")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=["ours", "trainer"])
    parser.add_argument("--out", type=Path, default=Path("runs/glue.jsonl"), help="the results file")
    parser.add_argument("--table", action="store_true", help="only print what the results file holds")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not (given.data_dir or given.table or given.job):
        parser.error("--data_dir is missing: the folder that holds the tasks' files")
    return given


def main() -> None:
    """Measure what is missing and print the tables, or be one process of it."""
    given = parse()
    if given.job:
        side, settings = json.loads(given.job)
        print(json.dumps(measure(side, Settings(**settings))))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # takes the running process along
    try:
        if not given.table:
            run(given)
    except KeyboardInterrupt:
        raise SystemExit(f"stopped: the same command goes on from {given.out}") from None
    print(report(read(given.out)))


if __name__ == "__main__":
    main()
