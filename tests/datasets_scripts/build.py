"""What the tests of the builders share."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from hfcourse.data.loading import load
from hfcourse.errors import DataError

Rows = dict[str, list[dict[str, Any]]]


def built(name: str, data_dir: Path) -> Rows:
    """Every split's rows; the cache lies beside the folder that is read."""
    splits = load(name, data_dir=str(data_dir), cache_dir=str(data_dir.parent / "cache"))
    return {split: table.to_list() for split, table in splits.items()}


def failure(name: str, data_dir: Path) -> str:
    """The one line that says why a builder refuses a folder."""
    with pytest.raises(DataError) as error:
        built(name, data_dir)
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path: Path, text: str) -> Path:
    """A text file in a folder that may be new, gzipped if its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def counts(name: str, data_dir: Path, cache: Path) -> dict[str, int]:
    """Rows of each split."""
    return {split: len(table) for split, table in load(name, data_dir=str(data_dir), cache_dir=str(cache)).items()}
