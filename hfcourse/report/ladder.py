"""The page of a ladder of models: accuracy against size, a curve for each number of examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hfcourse.report.page import environment, write
from hfcourse.report.plots import Curve, line_plot
from hfcourse.report.text import aligned, count, show
from hfcourse.run_folder import RunFolder

_TITLE, _AXIS = "mean accuracy, per cent", "parameters, thousands"


def ladder(found: Mapping[str, Any], run: RunFolder) -> str:
    """See `hfcourse.report.ladder_report`."""
    counts = sorted({int(k) for one in found["models"].values() for k in one["shots"]})
    curves = [_curve(found, shots, number) for number, shots in enumerate(counts)]
    rows = _table(found, counts)
    plots: dict[str, Any] = {"title": _TITLE, "x": _AXIS, "log": False, "log_x": True}
    html = environment().get_template("ladder.html.j2").render(
        title="In-context learning against size",
        found=found,
        names=[(number, _word(shots)) for number, shots in enumerate(counts)],
        plot=line_plot(curves, size="wide", **plots),
        narrow=line_plot(curves, size="half", **plots),
        head=rows[0],
        rows=rows[1:],
    )  # fmt: skip
    out = run.path / "report.html"
    write(html, out)
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    run.write_text("table.md", "".join("| " + " | ".join(line) + " |\n" for line in lines))
    return "\n\n".join([aligned(rows), f"report: {out}"])


def _curve(found: Mapping[str, Any], shots: int, number: int) -> Curve:
    points = sorted(
        (one["parameters"] / 1000, one["shots"][str(shots)]["mean"], one["shots"][str(shots)]["sd"] or 0.0)
        for one in found["models"].values()
        if str(shots) in one["shots"]
    )
    x, y, sd = zip(*points, strict=True)
    return Curve(x, y, number, "dev", sd=sd)


def _table(found: Mapping[str, Any], counts: list[int]) -> list[list[str]]:
    rows = [["model", "parameters", "dev loss", *map(_word, counts)]]
    for name, one in found["models"].items():
        cells = [_cell(one["shots"].get(str(k))) for k in counts]
        rows.append([name, count(one["parameters"]), show(one["dev"].get("loss")), *cells])
    return rows


def _word(shots: int) -> str:
    return {0: "zero-shot", 1: "one-shot"}.get(shots, f"{shots}-shot")


def _cell(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "–"
    return f"{one['mean']:.1f}" + ("" if one["sd"] is None else f" ± {one['sd']:.1f}")
