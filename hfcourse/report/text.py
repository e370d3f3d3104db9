"""Numbers and small tables as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

_LOWER_IS_BETTER = ("loss", "perplexity", "mse", "rmse", "mae", "bits")


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of a metric is the better one, by its name."""
    return any(word in metric.lower() for word in _LOWER_IS_BETTER)


def show(value: float | None, digits: int = 3) -> str:
    """A score for people: 0.8312 -> 0.831, 83.12 -> 83.1, nan or None -> a dash."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value) or abs(value) >= 10_000:
        return f"{value:.3g}"
    return f"{value:.{digits if abs(value) < 10 else max(0, digits - 2)}f}"


def signed(value: float) -> str:
    """A difference with its sign."""
    return ("+" if value >= 0 else "−") + show(abs(value))


def count(value: float | int | None) -> str:
    """11170560 -> 11.2 M, 4230 -> 4,230."""
    if value is None:
        return "–"
    for limit, letter in ((1e9, "G"), (1e6, "M")):
        if value >= limit:
            return f"{value / limit:.1f} {letter}"
    return f"{int(value):,}"


def duration(seconds: float | None) -> str:
    """4000 -> 1 h 06 min."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return (
        f"{minutes // 60} h {minutes % 60:02d} min"
        if minutes >= 60
        else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    )


def words(value: Any) -> str:
    """A small mapping in one line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {words(item)}" for key, item in value.items() if item not in (None, "", []))
    return ", ".join(map(words, value)) if isinstance(value, list) else "" if value is None else str(value)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns padded to their widest cell, a rule under the first row, columns of numbers to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    to_right = [_is_numeric(column[1:]) for column in columns]

    def line(row: Sequence[str]) -> str:
        cells = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, to_right, strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join([line(rows[0]), "  ".join("─" * width for width in widths), *map(line, rows[1:])])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The same as a table of Markdown."""
    ruled = [rows[0], ["---"] * len(rows[0]), *rows[1:]]
    return "\n".join("| " + " | ".join(row) + " |" for row in ruled) + "\n"


def _is_numeric(cells: Sequence[str]) -> bool:
    filled = [cell for cell in cells if cell not in ("", "–")]
    return bool(filled) and all(cell.lstrip("+−-").replace(",", "").replace(".", "").isdigit() for cell in filled)


def percent(value: float | None) -> str:
    """0.123 -> 12 % with a space that does not break."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"
