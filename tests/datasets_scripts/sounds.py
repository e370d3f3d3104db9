"""Tiny sounds and lists in the layouts of published corpora."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from .build import Rows, write

RATE = 8000


def sound(path: Path, seconds: float = 0.1) -> Path:
    """A file of silence, of the kind that its name tells."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(round(seconds * RATE), np.float32), RATE)
    return path


def corpus(root: Path, sounds: list[str], lists: dict[str, str] | None = None) -> Path:
    """A folder with these sounds and texts."""
    for name in sounds:
        sound(root / name)
    for name, text in (lists or {}).items():
        write(root / name, text)
    return root


def of(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    """Some columns of rows; of audio the path within the test's folder."""
    return [tuple(_short(row[name]) for name in names) for row in rows]


def _short(value: Any) -> Any:
    return value["path"] if isinstance(value, dict) and "path" in value else value


def relative(rows: Rows, root: Path, column: str = "audio") -> dict[str, list[str]]:
    """Paths of an audio column by split, as they are below a folder; they are absolute and hold no bytes."""
    found: dict[str, list[str]] = {}
    for split, table in rows.items():
        assert all(row[column]["bytes"] is None and Path(row[column]["path"]).is_file() for row in table)
        found[split] = [Path(row[column]["path"]).relative_to(root.absolute()).as_posix() for row in table]
    return found
