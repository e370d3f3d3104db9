"""Writing that leaves nothing half-done, and what the file system refuses in one clear line."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from hfcourse.errors import RunFolderError

ADVICE = "free some space, or give another --output_dir"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_FULL_TEXTS = ("No space left on device", "Disk quota exceeded")
_REFUSED = {
    *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EFBIG, errno.EIO),
}


@contextlib.contextmanager
def clear_errors(place: Path, advice: str = ADVICE) -> Iterator[None]:
    """Turn what the file system refuses into one line."""
    try:
        yield
    except Exception as error:
        # safetensors reports the system's errors as its own, by their text.
        number = getattr(error, "errno", None)
        if number in _FULL or any(text in str(error) for text in _FULL_TEXTS):
            raise RunFolderError(f"{place}: the disk is full: {advice}") from error
        if number in _REFUSED:
            reason = os.strerror(number)
            raise RunFolderError(f"{place}: cannot write here ({reason}): give another --output_dir") from error
        raise


def swap(side: Path, folder: Path) -> None:
    """Put `side` where `folder` is; the old one is away only between two renames."""
    old = folder.with_name(f".{folder.name}.old.partial")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    side.replace(folder)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    shutil.rmtree(old, ignore_errors=True)


def is_torn(file: BinaryIO) -> bool:
    """Whether the last line lacks its end."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


def read_lines(place: Path, *, may_be_torn: bool) -> list[dict[str, Any]]:
    """The records of a file with one JSON object a line; none if it is not there.

    Raises:
        RunFolderError: a damaged line, unless lines may be torn: those are left out.
    """
    if not place.is_file():
        return []
    records = []
    for number, line in enumerate(place.read_text(encoding="utf-8", errors="replace").split("\n"), start=1):
        try:
            record = json.loads(line) if line else None
        except json.JSONDecodeError:
            record = line
        if isinstance(record, dict):
            records.append(record)
        elif line and not may_be_torn:
            raise RunFolderError(f"{place}, line {number}: damaged: run again with --overwrite to answer anew")
    return records
