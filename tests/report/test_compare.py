"""The page of a comparison: cells by hand, labels that hide nothing, axes as asked."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hfcourse.report import compare_report
from hfcourse.report.compare import FAMILIES
from hfcourse.report.plots import Curve, Size, line_plot
from hfcourse.report.scatter import Point, placed, scatter_plot
from hfcourse.run_folder import RunFolder


def method(trained: int, mean: float, ratio: float | None) -> dict[str, Any]:
    score = {"mean": mean, "sd": 0.01, "values": [mean]}
    return {
        "lr": 1e-3, "trained": trained, "saved_bytes": 2_500_000, "memory_bytes": 50 * 2**20, "seconds": 12.0,
        "step_ratio": ratio, "scores": {"dev": {"mean": 0.5, "sd": None, "values": [0.5]}, "test": score},
    }  # fmt: skip


FOUND: dict[str, Any] = {
    "model": "runs/<a>", "task": "pydocs/topic", "train_rows": 2000, "parameters": 2_000_000, "steps": 200, "batch": 32,
    "metric": "accuracy", "split": "test", "seeds": [0, 1], "device": "a cpu", "threads": 2, "precision": "no",
    "methods": {"full": method(2_000_000, 0.6, 1.0), "lora": method(25_000, 0.62, 0.75)},
    "curves": {"lora": [{"examples": 32, "mean": 0.3, "sd": 0.02}, {"examples": 2000, "mean": 0.62, "sd": 0.01}]},
    "refused": {"bitfit": "no biases"}, "failed": {"ln-seed1": "cosmic ray"}, "seconds": 100.0,
}  # fmt: skip


def made(folder: Path, **changes: Any) -> tuple[str, str, str]:
    run = RunFolder.create(folder, {"recipe": "peft/compare"})
    run.write_json("compare.json", FOUND | changes)
    said = compare_report(run)
    return said, (folder / "table.md").read_text(), (folder / "compare.html").read_text()


def test_tables_hold_the_numbers(tmp_path: Path) -> None:
    said, table, html = made(tmp_path / "run")
    methods, curve, *lines = table.strip().split("\n\n")
    assert methods.splitlines()[2:] == [
        "| full | 0.001 | 2.0 M | 100.00 | 2.50 | 50 | 12.0 s | 1.00 | 0.600 ± 0.010 | 0.500 |",
        "| lora | 0.001 | 25,000 | 1.25 | 2.50 | 50 | 12.0 s | 0.75 | 0.620 ± 0.010 | 0.500 |",
        "| bitfit | cannot take | – | – | – | – | – | – | – | – |",
        "| ln-seed1 | failed | – | – | – | – | – | – | – | – |",
    ]
    assert curve.splitlines() == [
        "| examples | 32 | 2,000 |", "| --- | --- | --- |", "| lora | 0.300 ± 0.020 | 0.620 ± 0.010 |"
    ]  # fmt: skip
    assert lines == ["bitfit cannot take this model: no biases", "ln-seed1 failed twice: cosmic ray"]
    assert "0.620 ± 0.010" in said and "compare.html" in said
    assert "runs/&lt;a&gt;" in html and "cannot take this model: no biases" in html and "Not every run" in html
    assert not re.search(r"(src|href)=\"(?!#)", html)


def test_plots_name_every_method_and_leave_out_what_is_not_there(tmp_path: Path) -> None:
    _, _, html = made(tmp_path / "run")
    plots = re.findall(r"<svg [^>]*role=\"img\".*?</svg>", html, flags=re.DOTALL)
    assert len(plots) == 4
    assert all(">full<" in plot and ">lora<" in plot and "trained parameters" in plot for plot in plots[:2])
    assert all(">32<" in plot and ">2,000<" in plot for plot in plots[2:])
    _, _, bare = made(tmp_path / "bare", methods={}, curves={}, split=None, metric=None, device=None)
    assert 'role="img"' not in bare and "cannot take this model" in bare


def test_every_method_is_of_one_family() -> None:
    from hfcourse.peft_settings import LEARNING_RATES

    members = [name for family in FAMILIES.values() for name in family]
    assert sorted(members) == sorted(LEARNING_RATES)


def test_names_hide_neither_each_other_nor_points() -> None:
    rng = np.random.default_rng(0)
    frame = (0.0, 0.0, 560.0, 260.0)
    for _ in range(5):
        # As methods lie: most of them in one corner.
        centres = [(40 + 120 * x, 30 + 200 * y) for x, y in rng.random((15, 2))] + [
            (520.0, 100.0),
            (552.0, 250.0),
            (8.0, 10.0),
        ]
        names = [f"method{number}"[: 3 + number % 6] for number in range(len(centres))]
        bodies = [(x - 4, y - 10, x + 4, y + 10) for x, y in centres]
        places = placed(names, centres, bodies, frame)
        boxes = []
        for name, (x, y), (dx, dy) in zip(names, centres, places, strict=True):
            half, high = 0.25 * 9 * len(name), 4.5
            boxes.append((x + dx - half, y + dy - high, x + dx + half, y + dy + high))
        assert all(box[0] >= 0 and box[1] >= 0 and box[2] <= 560 and box[3] <= 260 for box in boxes)
        pairs = list(itertools.combinations(boxes, 2)) + list(itertools.product(boxes, bodies))
        hidden = [(a, b) for a, b in pairs if a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]]
        assert not hidden


def test_a_plot_without_points_is_empty() -> None:
    assert scatter_plot([], title="t", x="x", size="large") == ""


@pytest.mark.parametrize("x", [10.0, 323.0, 3100.0, 12_345.0, 999_999.0])
@pytest.mark.parametrize("size", ["large", "tall"])
def test_a_single_point_has_a_tick(x: float, size: Size) -> None:
    plot = scatter_plot([Point("one", x, 0.0, 0.0, 0)], title="t", x="parameters", size=size)
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", plot)
    places = [float(text.replace(",", "").replace(" M", "e6")) for text in texts if re.fullmatch(r"[\d,]+( M)?", text)]
    assert "one" in texts and any(x / 1.7 <= place <= x * 1.7 for place in places)


def test_spread_is_drawn_where_it_is_given() -> None:
    with_sd = line_plot([Curve([1, 10], [0.1, 0.2], 0, "dev", sd=[0.01, 0.02])], title="t", log_x=True, log=False)
    without = line_plot([Curve([1, 10], [0.1, 0.2], 0, "dev")], title="t", log_x=True, log=False)
    bar = "stroke-opacity: 0.5"
    assert (with_sd.count(bar), without.count(bar)) == (2, 0)
