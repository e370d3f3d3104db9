"""What the builders share: a cache key that sees changes, and UTF-8 text whose errors name the line.

Every builder module has ``fingerprint(data_dir) -> str``. Whoever makes a builder passes it on as ``hash=``: the
library's own cache key sees neither a change of the raw files nor one of the builder's code.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# Words in the names of files and folders that tell a split.
SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "devel", "development", "val", "valid", "validation", "eval", "testa"), "dev"),
    **dict.fromkeys(("test", "testing", "testb"), "test"),
    "trial": "trial",
}


def fingerprint_of(module_file: str, raw: Iterable[Path] = (), extra: str = "") -> str:
    """SHA-256 over a builder's source, the raw files' names, sizes and times, and anything else that counts."""
    digest = hashlib.sha256(Path(module_file).read_bytes())
    digest.update(Path(__file__).read_bytes())
    for path in sorted(raw):
        status = path.stat()
        digest.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    digest.update(extra.encode())
    return digest.hexdigest()


def raw_files(data_dir: str | None) -> list[Path]:
    """All files below `data_dir` (or the one it names), sorted; empty where it is missing."""
    if data_dir is None:
        return []
    path = Path(data_dir).expanduser()
    if path.is_file():
        return [path]
    found = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts))


def files_by_split(data_dir: str | None, pattern: str) -> dict[str | None, list[Path]]:
    """Raw files whose lower-case name (``.gz`` aside) fits `pattern`, by the split that their path tells; None: none.

    The last word decides: ``test/train-1.txt`` is ``train``.
    """
    root = Path(data_dir).expanduser() if data_dir is not None else Path()
    splits: dict[str | None, list[Path]] = {}
    for path in raw_files(data_dir):
        name = path.name.lower().removesuffix(".gz")
        if not re.search(pattern, name):
            continue
        words = re.split(r"[^a-z]+", name if path == root else str(path.relative_to(root)).lower())
        named = [SPLITS[word] for word in words if word in SPLITS]
        splits.setdefault(named[-1] if named else None, []).append(path)
    return splits


def read_bytes(path: Path) -> bytes:
    """A file's content, gzipped or not.

    Raises:
        ValueError: a damaged archive.
    """
    raw = path.read_bytes()
    if path.suffix != ".gz":
        return raw
    try:
        return gzip.decompress(raw)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error})") from error


def read_text(path: Path, *, exact: bool = False) -> str:
    """A text file, gzipped or not; without a byte order mark and with plain line ends, unless it is wanted `exact`.

    Raises:
        ValueError: a byte that is not UTF-8, with its line; a damaged archive.
    """
    try:
        text = read_bytes(path).decode("utf-8" if exact else "utf-8-sig")
        return text if exact else text.replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line, byte = error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
        raise ValueError(f"{path}, line {line}: not UTF-8 (byte {byte:#04x}): convert the file") from error


def read_json(path: Path) -> Any:
    """A JSON file, gzipped or not.

    Raises:
        ValueError: not UTF-8 or not JSON, with the line; a damaged archive.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
