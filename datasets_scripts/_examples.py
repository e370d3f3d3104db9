"""What the builders of prompting tasks share: a config a file, and examples apart from the questions that are asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets

from ._splits import share
from .base import raw_files

Row = dict[str, str]

_TRAIN_SHARE = 0.25


def files_by_name(data_dir: str | None, *endings: str) -> dict[str, Path]:
    """The files of a folder with one of these endings, by their names without it; the first of several of a name."""
    found: dict[str, Path] = {}
    for path in raw_files(data_dir):
        ending = max((ending for ending in endings if path.name.endswith(ending)), key=len, default=None)
        if ending is not None:
            found.setdefault(path.name.removesuffix(ending), path)
    return found


def file_of(config: datasets.BuilderConfig, layout: str, *endings: str) -> Path:
    """The file of a config.

    Raises:
        FileNotFoundError: there is none, or no folder was given.
    """
    if config.data_dir is None:
        raise FileNotFoundError(f"it reads files that you have: give --task.data_dir {layout}")
    found = files_by_name(config.data_dir, *endings)
    if config.name not in found:
        raise FileNotFoundError(f"{config.data_dir}: expected {layout}")
    return found[config.name]


def texts(item: Any, names: tuple[str, ...], where: str) -> list[str]:
    """The texts of an object's fields.

    Raises:
        ValueError: it is no object, or a field lacks, is no text, or is blank.
    """
    if not isinstance(item, dict):
        raise ValueError(f"{where}: expected an object with {' and '.join(names)}")
    for name in names:
        if name not in item:
            raise ValueError(f"{where}: no {name}, only {', '.join(map(str, item)) or 'an empty object'}")
        if not isinstance(item[name], str) or not item[name].strip():
            raise ValueError(f"{where}: {name} must be a text, not {str(item[name])[:40]!r}")
    return [item[name] for name in names]


def split_generators(rows: list[Row], keys: list[str], path: Path) -> list[datasets.SplitGenerator]:
    """``train`` and ``test`` by a key of each row: what else a file holds moves no row.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError(f"{path}: the file holds no examples")
    splits: dict[str, list[Row]] = {"train": [], "test": []}
    for row, key in zip(rows, keys, strict=True):
        splits["train" if share(key) < _TRAIN_SHARE else "test"].append(row)
    return [datasets.SplitGenerator(split, {"rows": found}) for split, found in splits.items() if found]
