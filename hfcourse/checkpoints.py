"""Checkpoint folders: sealed with the hashes of their files, so that a truncated or altered one is recognised."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from pathlib import Path

MANIFEST = "manifest.json"
_NAME = re.compile(r"checkpoint-(\d+)")


def step_of(place: Path) -> int | None:
    """The step that a checkpoint folder's name tells; None for other names."""
    match = _NAME.fullmatch(place.name)
    return int(match[1]) if match else None


def found(run: Path) -> list[Path]:
    """Every checkpoint of a run folder, newest first, good or not."""
    places = [(step, place) for place in run.glob("checkpoint-*") if (step := step_of(place)) is not None]
    return [place for _, place in sorted(places, reverse=True)]


def seal(folder: Path) -> None:
    """Write the manifest (size and SHA-256 of every file) and push everything to the disk."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    manifest = {str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": _hash(file)} for file in files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for file in [*files, folder / MANIFEST, folder]:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, in a few words; None if every file is as it was written."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest == {}:
            return "its manifest names no files"
        for name, entry in manifest.items():
            file = folder / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != entry["bytes"]:
                return f"{name} has {file.stat().st_size} bytes instead of {entry['bytes']}"
            if _hash(file) != entry["sha256"]:
                return f"{name} was altered"
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return "its manifest cannot be read"
    return None


def newest_good(run: Path) -> Path | None:
    """The newest undamaged checkpoint; each damaged one passed over is named in a warning."""
    for place in found(run):
        wrong = damage(place)
        if wrong is None:
            return place
        warnings.warn(f"{place} is damaged ({wrong}): passing it over", stacklevel=2)
    return None


def _hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
