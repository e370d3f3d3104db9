"""The page of a suite: a bar a task, against the human row, and where each number comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfcourse.report.page import environment, write
from hfcourse.report.text import aligned, duration


@dataclass(frozen=True)
class Bar:
    """One score of one task, in per cent."""

    task: str
    measure: str
    mean: float
    sd: float | None
    human: float | None

    @property
    def width(self) -> float:
        """Of the bar; a score below 0 has none."""
        return min(max(self.mean, 0.0), 100.0)

    @property
    def spread(self) -> tuple[float, float]:
        """(left end, width) of mean ± sd."""
        low, high = (min(max(self.mean + sign * (self.sd or 0.0), 0.0), 100.0) for sign in (-1, 1))
        return low, high - low

    @property
    def text(self) -> str:
        return f"{self.mean:.1f}" + ("" if self.sd is None else f" ± {self.sd:.1f}")


def suite(summary: Mapping[str, Any], rows: Sequence[Sequence[str]], out: Path) -> str:
    """See `hfcourse.report.suite_report`."""
    tasks = summary["tasks"]
    bars = [
        Bar(name if number == 0 else "", key.replace("/", " "), one["mean"], one["sd"], one["human"])
        for name, task in tasks.items()
        for number, (key, one) in enumerate(task["measures"].items())
    ]
    average = summary["average"]
    mean = None
    if average["score"] is not None:
        scope = f"{average['tasks']} of {average['of']} tasks"
        mean = Bar("average", scope, average["score"], average["sd"], average["human"])
    html = environment().get_template("suite.html.j2").render(
        title=f"{summary['suite']}: {summary['model']}",
        summary=summary,
        bars=bars,
        average=mean,
        head=rows[0],
        rows=rows[1:],
        seconds=duration(
            summary["together_seconds"] + sum(task["seconds"] * len(task["runs"]) for task in tasks.values())
        ),
        humans=any(bar.human is not None for bar in bars),
    )  # fmt: skip
    write(html, out)
    failed = [f"failed: {name}: {reason}" for name, reason in summary["failed"].items()]
    return "\n\n".join([aligned(rows), *failed, f"report: {out}"])
