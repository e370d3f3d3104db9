"""Puts the parts of a report into one HTML page that needs nothing but itself."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcourse.errors import RunFolderError
from hfcourse.report import examples, plots, tables, text
from hfcourse.report.plots import Curve, line_plot
from hfcourse.report.runs import Run

if TYPE_CHECKING:
    from jinja2 import Environment


@dataclass(frozen=True)
class Plots:
    """The plots of one task, each an ``<svg>`` or empty."""

    task: str
    loss: str
    narrow: str
    """The loss again, for a phone."""
    others: list[str]
    names: list[tuple[int, str]]
    smoothed: bool


def page(runs: Sequence[Run], found: Sequence[tables.Pair]) -> str:
    """The page of some runs; `found` are their paired differences."""
    numbers = {run.path: number for number, run in enumerate(runs)}
    every = [tables.facts(run) for run in runs]
    tasks = tables.by_task(runs)
    return environment().get_template("report.html.j2").render(
        title=_title(runs),
        runs=runs,
        facts=every,
        fact_names=list(dict.fromkeys(name for one in every for name in one)),
        scores=[score_table(task, group) for task, group in tasks.items()],
        pairs=found,
        plots=[task_plots(task, [(numbers[run.path], run) for run in group]) for task, group in tasks.items()],
        confusions=[(run, tables.confusion(run, run.main_split)) for run in runs],
        examples=[(run, examples.choose(run, run.main_split)) for run in runs],
        settings=tables.settings(runs),
    )  # fmt: skip


def _title(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return runs[0].name
    return " against ".join(run.name for run in runs) if len(runs) == 2 else f"{len(runs)} runs side by side"


def score_table(task: str, runs: Sequence[Run]) -> dict[str, Any]:
    """Rows of one task's table and the ends of the axis that its intervals are drawn on."""
    rows = [(run, split, run.scores[split], run.count(split)) for run in runs for split in run.splits]
    mains = [score for _, _, scores, _ in rows for score in scores if score.main]
    ends = [
        x for score in mains for x in ((score.interval.low, score.interval.high) if score.interval else (score.value,))
    ]
    ends = [x for x in ends if x == x and abs(x) != float("inf")]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    room = (high - low) * 0.08 or max(abs(high) * 0.05, 0.01)
    low, high = (max(low - room, 0.0) if low >= 0 else low - room), high + room
    if low >= 0 and high - room <= 1:
        high = min(high, 1.0)
    metric = next((run.metric for run in runs if run.metric), "")
    return {
        "task": task,
        "metric": metric,
        "rows": rows,
        "low": low,
        "high": high,
        "lower": text.lower_is_better(metric),
    }


def task_plots(task: str, runs: Sequence[tuple[int, Run]], *, halves: bool = False) -> Plots:
    """Loss on train and dev of all runs in one plot; small ones of the score, lr, gradient norm and speed.

    With `halves` only loss and score, of the same size, to stand side by side.

    `runs`: each with the number that decides its colour.
    """
    losses = _curves(runs, "loss", train=True, dev=True)
    loss = line_plot(losses, title="Loss", size="half" if halves else "wide")
    narrow = "" if halves else line_plot(losses, title="Loss")
    others = []
    metric = next((run.metric for _, run in runs if run.metric), "")
    if metric and metric != "loss":
        others.append(
            line_plot(_curves(runs, metric, dev=True), title=f"{metric} on dev", size="half" if halves else "small")
        )
    terms = sorted({key for _, run in runs for line in run.train_log for key in line if key.startswith("loss/")})
    if len(terms) > 1:
        others += [line_plot(_curves(runs, term, train=True, dev=True), title=f"{term[5:]}: loss") for term in terms]
    # What an objective tells of its health: perplexities, shares, cosines.
    logged = sorted({key for _, run in runs for line in run.train_log for key in line if "/" in key} - set(terms))
    others += [line_plot(_curves(runs, name, train=True, dev=True), title=name, log=False) for name in logged]
    if not halves:
        others.append(line_plot(_curves(runs, "lr", train=True), title="Learning rate", log=False))
        others.append(line_plot(_curves(runs, "grad_norm", train=True), title="Norm of the gradient"))
        for speed, title in (("tokens_per_s", "Tokens a second"), ("audio_per_s", "Seconds of audio a second")):
            others.append(line_plot(_curves(runs, speed, train=True), title=title, log=False))
    smoothed = any(len(run.train_log) > plots.SMOOTH_ABOVE for _, run in runs)
    return Plots(
        task, loss, narrow, [plot for plot in others if plot], [(number, run.name) for number, run in runs], smoothed
    )


def _curves(runs: Sequence[tuple[int, Run]], key: str, *, train: bool = False, dev: bool = False) -> list[Curve]:
    curves = []
    for number, run in runs:
        if train:
            curves.append(_curve(run.train_log, key, number, "train", None))
        if dev:
            curves.append(_curve(run.dev_log, key, number, "dev", run.metrics.get("best_step")))
    return curves


def _curve(lines: Sequence[Mapping[str, Any]], key: str, number: int, style: Any, mark: Any) -> Curve:
    points = [(line.get("step"), line.get(key)) for line in lines]
    known = [(float(x), float(y)) for x, y in points if isinstance(x, int | float) and isinstance(y, int | float)]
    return Curve([x for x, _ in known], [y for _, y in known], number, style, mark)


@cache
def environment() -> Environment:
    """The templates beside this file; everything is escaped that is not marked as safe."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"score": text.show, "signed": text.signed, "count": text.count, "share": text.percent}
    found.globals |= {"colour": plots.colour}
    return found


def write(html: str, out: Path) -> Path:
    """Write the page whole or not at all. RunFolderError if the place cannot be written."""
    side = ""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=out.parent, suffix=".part", delete=False) as file:
            side = file.name
            file.write(html)
        Path(side).chmod(0o644)
        os.replace(side, out)  # noqa: PTH105 - one call for both names
    except OSError as error:
        if side:
            Path(side).unlink(missing_ok=True)
        raise RunFolderError(
            f"the report {out} cannot be written: {error.strerror}; give another place for it"
        ) from error
    return out
