"""The page of a comparison of methods: a table of costs and scores, and two plots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hfcourse.report.page import environment, write
from hfcourse.report.plots import Curve, line_plot
from hfcourse.report.scatter import Point, scatter_plot
from hfcourse.report.text import aligned, count, duration, show
from hfcourse.run_folder import RunFolder

FAMILIES = {
    "parts of the model": ("full", "linear", "bitfit", "ln"),
    "low rank and scales": ("lora", "dora", "rslora", "adalora", "vera", "ia3"),
    "adapters": ("houlsby", "pfeiffer", "parallel", "compacter", "fusion"),
    "virtual tokens": ("prefix", "prompt", "p_tuning"),
}
"""Methods of a kind share a colour."""
Rows = list[list[str]]


def compare(found: Mapping[str, Any], run: RunFolder) -> str:
    """See `hfcourse.report.compare_report`."""
    rows, curve_rows = _table(found), _curve_table(found)
    points, curves = _points(found), _curves(found)
    measured = f"{found['metric']} on {found['split']}"
    titles = {"title": measured, "x": "trained parameters"}
    by_examples: dict[str, Any] = {"title": measured, "x": "training examples", "log": False, "log_x": True}
    html = environment().get_template("compare.html.j2").render(
        title=f"{found['task']}: methods of fine-tuning",
        found=found,
        seconds=duration(found["seconds"]),
        precision="fp32" if found["precision"] == "no" else found["precision"],
        families=[(number, name) for number, name in enumerate(FAMILIES) if number in {p.run for p in points}],
        scatter=scatter_plot(points, size="large", **titles),
        narrow_scatter=scatter_plot(points, size="tall", **titles),
        names=list(enumerate(found["curves"])),
        curve=line_plot(curves, size="wide", **by_examples),
        narrow_curve=line_plot(curves, size="half", **by_examples),
        rows=rows,
        curve_rows=curve_rows,
    )  # fmt: skip
    out = run.path / "compare.html"
    write(html, out)
    tables = [one for one in (_with_missing(rows, found), curve_rows) if one]
    said = [f"{method} cannot take this model: {reason}" for method, reason in found["refused"].items()]
    said += [f"{name} failed twice: {reason}" for name, reason in found["failed"].items()]
    run.write_text("table.md", "\n".join([*map(_markdown, tables), *(f"{line}\n" for line in said)]))
    return "\n\n".join([*map(aligned, tables), *said, f"report: {out}"])


def _table(found: Mapping[str, Any]) -> Rows:
    splits = [split for split in ("test", "dev") if any(split in one["scores"] for one in found["methods"].values())]
    head = ["method", "lr", "trained", "%", "saved MB", "memory MiB", "time", "step"]
    rows = [[*head, *(f"{found['metric']}, {split}" for split in splits)]]
    for method, one in found["methods"].items():
        share = 100 * one["trained"] / found["parameters"]
        cells = [
            f"{one['lr']:g}",
            count(one["trained"]),
            f"{share:.2f}",
            f"{one['saved_bytes'] / 1e6:.2f}",
            f"{one['memory_bytes'] / 2**20:,.0f}",
            duration(one["seconds"]),
            "–" if one["step_ratio"] is None else f"{one['step_ratio']:.2f}",
        ]
        rows.append([method, *cells, *(_plus_minus(one["scores"].get(split)) for split in splits)])
    return rows


def _with_missing(rows: Rows, found: Mapping[str, Any]) -> Rows:
    """The table with a line for each method that is not in it."""
    missing = dict.fromkeys(found["refused"], "cannot take") | dict.fromkeys(found["failed"], "failed")
    return rows + [[name, said, *["–"] * (len(rows[0]) - 2)] for name, said in missing.items()]


def _curve_table(found: Mapping[str, Any]) -> Rows:
    sizes = sorted({point["examples"] for points in found["curves"].values() for point in points})
    if not sizes:
        return []
    rows = [["examples", *(f"{size:,}" for size in sizes)]]
    for method, points in found["curves"].items():
        by_size = {point["examples"]: point for point in points}
        rows.append([method, *(_plus_minus(by_size.get(size)) for size in sizes)])
    return rows


def _points(found: Mapping[str, Any]) -> list[Point]:
    families = {method: number for number, members in enumerate(FAMILIES.values()) for method in members}
    return [
        Point(method, one["trained"], score["mean"], score["sd"] or 0.0, families[method])
        for method, one in found["methods"].items()
        if (score := one["scores"].get(found["split"]))
    ]


def _curves(found: Mapping[str, Any]) -> list[Curve]:
    return [
        Curve(
            [point["examples"] for point in points],
            [point["mean"] for point in points],
            number,
            "dev",
            sd=[point["sd"] or 0.0 for point in points],
        )
        for number, points in enumerate(found["curves"].values())
    ]


def _plus_minus(score: Mapping[str, Any] | None) -> str:
    if not score:
        return "–"
    return show(score["mean"]) + ("" if score["sd"] is None else f" ± {show(score['sd'])}")


def _markdown(rows: Rows) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
