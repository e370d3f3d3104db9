"""The page and the tables of early exit, from a file whose numbers are known."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hfcourse.report import exits_report
from hfcourse.run_folder import RunFolder


def measured(score: float, layers: float, seconds: float, speedup: float) -> dict[str, float]:
    return {"score": score, "layers": layers, "seconds": seconds, "speedup": speedup}


def found(*, test: bool) -> dict[str, Any]:
    full = {"dev": measured(0.9, 6, 2.0, 1.0)} | ({"test": measured(0.88, 6, 1.0, 1.0)} if test else {})
    entropy = {"threshold": 0.2, "dev": measured(0.895, 3.5, 1.25, 1.6)}
    entropy |= {"test": measured(0.871, 3.4, 0.5, 2.0)} if test else {}
    points = [(0.2, 0.895, 3.5, 1.25, 1.6), (0.5, 0.81, 2.0, 0.8, 2.5)]
    entries = [{"criterion": "entropy", "threshold": t} | measured(*rest) for t, *rest in points]
    return {
        "task": "<glue>/cola", "metric": "matthews", "layers": 6, "give_up": 0.01, "batch": 32,
        "repeats": 5, "rows": {"dev": 1000} | ({"test": 500} if test else {}), "full": full,
        "points": [*entries, {"criterion": "layer", "threshold": 3.0} | measured(0.7, 3, 1.0, 2.0)],
        "chosen": {"entropy": entropy, "layer": None}, "precision": "no", "device": "cpu",
        "hardware": {"threads": 1},
    }  # fmt: skip


def made(folder: Path, *, test: bool) -> tuple[str, str, str]:
    run = RunFolder.create(folder, {"recipe": "bert/early_exit", "exits": {"train": "after"}})
    run.write_json("exits.json", found(test=test))
    said = exits_report(run)
    return said, (folder / "table.md").read_text(), (folder / "exits.html").read_text()


def test_tables_hold_the_numbers(tmp_path: Path) -> None:
    said, table, html = made(tmp_path / "run", test=True)
    published, every = table.split("\n\n")
    assert published.splitlines() == [
        "| criterion | threshold | split | matthews | layers | ms an input | speed-up |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| full model |  | dev | 0.900 | 6.00 | 2.00 | 1.00 |",
        "| full model |  | test | 0.880 | 6.00 | 2.00 | 1.00 |",
        "| entropy | 0.2 | dev | 0.895 | 3.50 | 1.25 | 1.60 |",
        "| entropy | 0.2 | test | 0.871 | 3.40 | 1.00 | 2.00 |",
        "| layer | none gives up so little | dev | – | – | – | – |",
    ]
    assert every.splitlines()[2:] == [
        "| full model |  | dev | 0.900 | 6.00 | 2.00 | 1.00 |",
        "| entropy | 0.2 | dev | 0.895 | 3.50 | 1.25 | 1.60 |",
        "| entropy | 0.5 | dev | 0.810 | 2.00 | 0.80 | 2.50 |",
        "| layer | 3 | dev | 0.700 | 3.00 | 1.00 | 2.00 |",
    ]
    assert "0.871" in said and "exits.html" in said
    assert "&lt;glue&gt;/cola: early exit" in html and "judged on 500 inputs of test" in html
    assert "6 layers, exits trained after" in html


def test_the_plot_has_a_curve_a_criterion_and_the_full_model(tmp_path: Path) -> None:
    _, _, html = made(tmp_path / "run", test=False)
    plots = re.findall(r"<svg role=\"img\".*?</svg>|<svg [^>]*role=\"img\".*?</svg>", html, flags=re.DOTALL)
    assert len(plots) == 2 and all("speed-up over the full model (time)" in plot for plot in plots)
    assert all(f"var(--series-{number})" in plots[0] for number in (1, 2, 3)) and "--series-4" not in plots[0]
    assert "no labels to judge it on" in html
    assert not re.search(r"(src|href)=\"(?!#)", html)
