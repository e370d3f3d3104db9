"""Tables, plots and one HTML page, made from run folders alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hfcourse.run_folder import RunFolder

__all__ = ["compare_report", "exits_report", "fewshot_report", "ladder_report", "report", "suite_report", "tour_report"]


def report(runs: Sequence[Path], out: Path | None = None) -> str:
    """Write one page about some runs and return the table to print.

    The page is ``report.html`` in the run's folder, for several runs in the nearest folder that holds them all.
    Parts that a run lacks are named on the page. RunFolderError where a folder holds no run.
    """
    from hfcourse.report.page import page, write
    from hfcourse.report.runs import common_parent, read_all
    from hfcourse.report.tables import pairs, text_of_pairs, text_of_scores

    found = read_all(runs)
    place = out or (found[0].path if len(found) == 1 else common_parent([run.path for run in found])) / "report.html"
    differences = pairs(found)
    write(page(found, differences), place)
    parts = [text_of_scores(found), text_of_pairs(differences)]
    parts += [f"{run.name}: {line}" for run in found for line in run.missing]
    return "\n\n".join(part for part in [*parts, f"report: {place}"] if part)


def tour_report(
    groups: Mapping[str, Mapping[str, RunFolder | Path]], out: Path, *, pretrain: RunFolder | Path | None = None
) -> str:
    """Write the page of the tour and return its table.

    `groups`: for each task the run from the ``pretrained`` and the one from the ``random`` start.
    `pretrain`: the run that made the pretrained model, for its loss curve.
    """
    from hfcourse.report.tour import tour

    return tour(groups, out, pretrain=pretrain)


def suite_report(summary: Mapping[str, Any], rows: Sequence[Sequence[str]], out: Path) -> str:
    """Write the page of a suite and return its table.

    `summary`: what scores.json holds. `rows`: the table's cells, its head first and the average last.
    """
    from hfcourse.report.suite import suite

    return suite(summary, rows, out)


def exits_report(run: RunFolder) -> str:
    """Write exits.html and table.md from a run's exits.json and return the table of the published thresholds."""
    from hfcourse.report.exits import exits

    return exits(run.read_json("exits.json"), run)


def fewshot_report(found: Mapping[str, Any], rows: Sequence[Sequence[str]], run: RunFolder) -> str:
    """Write the page of an evaluation by prompts and return its table.

    `found`: what scores.json holds. `rows`: the table's cells, its head first.
    """
    from hfcourse.report.fewshot import fewshot

    return fewshot(found, rows, run)


def ladder_report(run: RunFolder) -> str:
    """Write report.html and table.md from a ladder's ladder.json and return its table."""
    from hfcourse.report.ladder import ladder

    return ladder(run.read_json("ladder.json"), run)


def compare_report(run: RunFolder) -> str:
    """Write compare.html and table.md from a comparison's compare.json and return its table."""
    from hfcourse.report.compare import compare

    return compare(run.read_json("compare.json"), run)
