"""What the builders share: a cache key that sees changes, and UTF-8 text whose errors name the line.

Every builder module has ``fingerprint(data_dir) -> str``. Whoever makes a builder passes it on as ``hash=``: the
library's own cache key sees neither a change of the raw files nor one of the builder's code.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterable
from pathlib import Path


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
    return sorted(file for file in path.rglob("*") if file.is_file())


def read_text(path: Path) -> str:
    """A text file, gzipped or not.

    Raises:
        ValueError: a byte that is not UTF-8, with its line.
    """
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8 (byte {raw[error.start]:#04x}): convert the file") from error
