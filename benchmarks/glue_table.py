"""From the lines of `glue.py`'s results file to tables: scores over seeds, differences, speed and memory."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

from hfcourse.suites.rows import GLUE, Row
from hfcourse.suites.scores import markdown

Record = dict[str, Any]
Runs = dict[int, Record]
"""By seed."""

ROWS = {row.name: row for row in GLUE.rows}
PAIRS = [("ours", "trainer"), ("lora", "full"), ("pfeiffer", "full")]
"""(side, what it is measured against)."""
MALLOC = {"tuned glibc": "tuned glibc malloc", "system": "system malloc"}


class Section(NamedTuple):
    """What one table shows: runs that differ in side, precision, learning rate and seed alone."""

    task: str
    epochs: int
    batch: int
    limit: int


def report(records: Sequence[Record]) -> str:
    """A table for each task (and each other number of epochs, examples in a step, training rows), in GLUE's order."""
    sections: dict[Section, list[Record]] = defaultdict(list)
    for record in records:
        sections[Section(*(record[name] for name in Section._fields))].append(record)
    order = sorted(sections, key=lambda section: (list(ROWS).index(section.task), section))
    return "\n\n".join(_section(section, sections[section]) for section in order) or "nothing measured yet"


def _section(section: Section, records: Sequence[Record]) -> str:
    row = ROWS[section.task]
    sides: dict[tuple[str, str], dict[float, Runs]] = defaultdict(lambda: defaultdict(dict))
    for record in records:
        sides[record["side"], record["precision"]][record["lr"]][record["seed"]] = record
    title = f"### {row.name}: {records[0]['rows']:,} training and {records[0]['dev_rows']:,} dev rows, "
    title += f"epochs {section.epochs}, batch {section.batch}"
    head = ["side", "lr", "trained", *row.scores, "seconds", "peak MiB", "seeds", "set-up"]
    lines = [
        _line(name, precision, lr, rates[lr], row)
        for (name, precision), rates in sorted(sides.items())
        for lr in sorted(rates)
    ]
    chosen = {side: _best_rate(rates, row) for side, rates in sides.items()}
    verdicts = [
        f"- {side}, {precision}, beside {base}: {_compare(runs, others, base, row)}"
        for wanted, base in PAIRS
        for (side, precision), runs in chosen.items()
        for (other, _), others in chosen.items()
        if (side, other) == (wanted, base)
    ]
    machines = [f"- {words}" for words in dict.fromkeys(_machine(record) for record in records)]
    return "\n".join([title, "", markdown([head, *lines]), *verdicts, *machines])


def _line(side: str, precision: str, lr: float, runs: Runs, row: Row) -> list[str]:
    scores = [_mean_and_sd([100 * run["scores"][name] for run in runs.values()]) for name in row.scores]
    seconds, peak = (_median(runs, name) for name in ("seconds", "peak"))
    malloc = MALLOC[next(iter(runs.values()))["hardware"]["allocator"]]
    costs = [f"{seconds:.1f}", f"{peak / 2**20:,.0f}"]
    trained = f"{100 * next(iter(runs.values()))['trained']:.1f} %"
    return [side, f"{lr:g}", trained, *scores, *costs, " ".join(map(str, sorted(runs))), f"{precision}, {malloc}"]


def _best_rate(rates: dict[float, Runs], row: Row) -> Runs:
    """The runs at the rate with the best mean on dev, of those rates that have the most seeds."""
    most = max(map(len, rates.values()))
    return max(
        (runs for runs in rates.values() if len(runs) == most),
        key=lambda runs: statistics.fmean(_score(run, row) for run in runs.values()),
    )


def _compare(runs: Runs, others: Runs, base: str, row: Row) -> str:
    """Differences in points, the verdict, speed and memory; over the seeds that both have."""
    seeds = sorted(runs.keys() & others.keys())
    if not seeds:
        return "no seed in common yet"
    runs, others = ({seed: side[seed] for seed in seeds} for side in (runs, others))
    rates = " and ".join(dict.fromkeys(f"{side[seeds[0]]['lr']:g}" for side in (runs, others)))
    points = {
        name: statistics.fmean(100 * (runs[seed]["scores"][name] - others[seed]["scores"][name]) for seed in seeds)
        for name in row.scores
    }
    if len(points) > 1:
        points["their mean"] = statistics.fmean(points.values())
    differences = [_score(runs[seed], row) - _score(others[seed], row) for seed in seeds]
    faster = _median(others, "seconds") / _median(runs, "seconds")
    larger = _median(runs, "peak") / max(_median(others, "peak"), 1)
    parts = [
        f"lr {rates}, seeds {' '.join(map(str, seeds))}",
        ", ".join(f"{name} {value:+.2f}" for name, value in points.items()) + " points",
        _verdict(differences, [_score(run, row) for run in others.values()], base),
        f"{faster:.2f} x the speed, {larger:.2f} x the memory",
    ]
    return "; ".join(parts)


def _verdict(differences: Sequence[float], base_scores: Sequence[float], base: str) -> str:
    """The mean difference against the sd of the base's scores over seeds; 95 % interval of paired differences (t)."""
    if len(differences) < 2:
        return "one seed: no spread to judge by"
    from scipy.stats import t

    count = len(differences)
    mean, spread = statistics.fmean(differences), statistics.stdev(base_scores)
    half = float(t.ppf(0.975, count - 1)) * statistics.stdev(differences) / math.sqrt(count)
    judged = "better than" if mean > spread else "no worse than" if mean >= -spread else "worse than"
    where = "within" if abs(mean) <= spread else "by more than"
    interval = f"paired by seed 95 % between {mean - half:+.2f} and {mean + half:+.2f}"
    return f"{judged} {base} {where} its seed spread (sd {spread:.2f}); {interval}"


def _score(run: Record, row: Row) -> float:
    """The task's score, in per cent: the mean of its measures, as the suite has it."""
    return 100 * statistics.fmean(run["scores"][name] for name in row.scores)


def _median(runs: Runs, name: str) -> float:
    return float(statistics.median(run[name] for run in runs.values()))


def _mean_and_sd(values: Sequence[float]) -> str:
    mean = f"{statistics.fmean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _machine(record: Record) -> str:
    hardware, versions = record["hardware"], record["versions"]
    device = ", ".join([*hardware["gpus"], f"{hardware['cores']} cores of {hardware['cpu']}"])
    stack = f"torch {versions['torch']}, transformers {versions['transformers']}, commit {record['commit']}"
    return f"{device}, {hardware['threads']} threads, {stack}, {record['date']}"
