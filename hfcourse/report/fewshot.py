"""The page of an evaluation by prompts: accuracy by number of examples, the scores, one prompt of each task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hfcourse.report.page import environment, write
from hfcourse.report.plots import Size, frame, ink, svg_of
from hfcourse.report.text import aligned
from hfcourse.run_folder import RunFolder

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLE = "mean accuracy, per cent"
Curves = list[tuple[str, Mapping[str, Any]]]
"""Name and, by number of examples, mean and deviation."""


def fewshot(found: Mapping[str, Any], rows: Sequence[Sequence[str]], run: RunFolder) -> str:
    """See `hfcourse.report.fewshot_report`."""
    curves = _curves(found)
    html = environment().get_template("fewshot.html.j2").render(
        title=f"{found['model']}: in-context learning",
        found=found,
        names=[(number, name) for number, (name, _) in enumerate(curves)],
        plot=_plot(curves, "wide"),
        narrow=_plot(curves, "half"),
        head=rows[0],
        rows=rows[1:],
        notes=_notes(found),
        examples=_examples(found, run),
    )  # fmt: skip
    out = run.path / "report.html"
    write(html, out)
    return "\n\n".join([aligned(rows), *_notes(found), f"report: {out}"])


def _curves(found: Mapping[str, Any]) -> Curves:
    """The mean of all tasks, then of each group where there are several."""
    groups = [(name, one["shots"]) for name, one in found["groups"].items()] if len(found["groups"]) > 1 else []
    return [(name, shots) for name, shots in [("all tasks", found["average"]["shots"]), *groups] if shots]


def _plot(curves: Curves, size: Size) -> str:
    """An ``<svg>`` of scores over numbers of examples, which stand at equal distances; empty without scores."""
    counts = sorted({int(k) for _, shots in curves for k in shots})
    if not counts:
        return ""

    def draw(axes: Axes) -> None:
        frame(axes, _TITLE, "examples in the prompt", whole=True)
        axes.set_xticks(range(len(counts)), [f"{count:,}" for count in counts])
        axes.set_xlim(-0.3, len(counts) - 0.7)
        for number, (_, shots) in enumerate(curves):
            points = sorted((counts.index(int(k)), one["mean"], one["sd"] or 0.0) for k, one in shots.items())
            x, y, sd = zip(*points, strict=True)
            axes.errorbar(
                x, y, sd, color=ink(number), marker="o", markersize=5, linewidth=2.4 if not number else 1.2,
                elinewidth=1.2, zorder=4 if not number else 3,
            )  # fmt: skip

    return svg_of(draw, title=_TITLE, size=size, runs=range(len(curves)))


def _notes(found: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers must know of each task."""
    notes = []
    for name, task in found["tasks"].items():
        for k, one in task["shots"].items():
            if one["dropped"]:
                notes.append(f"{name}, {k}-shot: {one['dropped']:,} examples left out where they did not fit the model")
            if one["too_long"]:
                notes.append(f"{name}, {k}-shot: {one['too_long']:,} rows do not fit the model and are not judged")
    return notes


def _examples(found: Mapping[str, Any], run: RunFolder) -> list[dict[str, Any]]:
    """Of each task the first answered row, with the largest number of examples."""
    chosen = []
    for name, task in found["tasks"].items():
        shots = max(map(int, task["shots"]))
        stem = f"{name.replace('/', '-')}-{shots}shot"
        files = sorted(path.stem for path in (run.path / "predictions").glob(f"{stem}*.jsonl"))
        files = [file for file in files if file == stem or file.startswith(f"{stem}-seed")]
        records = run.read_predictions(files[0]) if files else []
        first = next((one for one in records if not one.get("too_long")), None)
        if first is not None:
            answer = first.get("answer", first.get("prediction", ""))
            chosen.append({"task": name, "shots": shots, **first, "answer": answer})
    return chosen
