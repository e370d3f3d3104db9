"""The page of early exit: score against speed-up, a curve a criterion, and the thresholds that are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hfcourse.report.page import environment, write
from hfcourse.report.plots import Curve, line_plot
from hfcourse.report.text import aligned, show
from hfcourse.run_folder import RunFolder

Rows = list[list[str]]


def exits(found: Mapping[str, Any], run: RunFolder) -> str:
    """See `hfcourse.report.exits_report`."""
    published, every = _published(found), _every(found)
    names = [*enumerate(found["chosen"]), (len(found["chosen"]), "full model")]
    curves = _curves(found)
    axis, title = "speed-up over the full model (time)", f"{found['metric']} on dev"
    html = environment().get_template("exits.html.j2").render(
        title=f"{found['task']}: early exit",
        found=found,
        trained="" if run.config.get("evaluate_only") else run.config["exits"]["train"],
        precision="fp32" if found["precision"] == "no" else found["precision"],
        names=names,
        plot=line_plot(curves, title=title, x=axis, log=False, size="wide", whole=False),
        narrow=line_plot(curves, title=title, x=axis, log=False, whole=False),
        published=published,
        every=every,
    )  # fmt: skip
    out = run.path / "exits.html"
    write(html, out)
    run.write_text("table.md", f"{_markdown(published)}\n{_markdown(every)}")
    return "\n\n".join([aligned(published), f"report: {out}"])


def _curves(found: Mapping[str, Any]) -> list[Curve]:
    """A curve a criterion, its published point ringed; the full model is a point."""
    curves = []
    for number, (criterion, chosen) in enumerate(found["chosen"].items()):
        points = sorted((p["speedup"], p["score"]) for p in found["points"] if p["criterion"] == criterion)
        mark = chosen["dev"]["speedup"] if chosen else None
        curves.append(Curve([x for x, _ in points], [y for _, y in points], number, "dev", mark))
    return [*curves, Curve([1.0], [found["full"]["dev"]["score"]], len(curves), "dev")]


def _published(found: Mapping[str, Any]) -> Rows:
    """The full model and each criterion's chosen threshold, on dev and on test."""
    rows = [_head(found)]
    rows += [["full model", "", *_cells(found, split, measured)] for split, measured in found["full"].items()]
    for criterion, chosen in found["chosen"].items():
        if chosen is None:
            rows.append([criterion, "none gives up so little", "dev", "–", "–", "–", "–"])
            continue
        measured = {split: chosen[split] for split in found["full"]}
        rows += [[criterion, f"{chosen['threshold']:g}", *_cells(found, split, one)] for split, one in measured.items()]
    return rows


def _every(found: Mapping[str, Any]) -> Rows:
    """Every threshold on dev."""
    rows = [_head(found), ["full model", "", *_cells(found, "dev", found["full"]["dev"])]]
    return [*rows, *([p["criterion"], f"{p['threshold']:g}", *_cells(found, "dev", p)] for p in found["points"])]


def _head(found: Mapping[str, Any]) -> list[str]:
    return ["criterion", "threshold", "split", found["metric"], "layers", "ms an input", "speed-up"]


def _cells(found: Mapping[str, Any], split: str, measured: Mapping[str, float]) -> list[str]:
    return [
        split,
        show(measured["score"]),
        show(measured["layers"], 2),
        show(1000 * measured["seconds"] / found["rows"][split], 2),
        show(measured["speedup"], 2),
    ]


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
