"""What the builders of speech corpora share: rows that name audio files.

A builder gives rows whose audio is a path, None or a list of paths. `SpeechBuilder` looks whether all of the files are
there, makes audio columns of them without copying or decoding any, and reads ``seconds`` off their headers.
"""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import datasets

from . import _files, _lists
from .base import fingerprint_of

Row = dict[str, Any]

STRING = datasets.Value("string")
STRINGS = datasets.List(STRING)
_ARCHIVES = r".*\.(zip|tgz|tar|tar\.gz|tar\.bz2)"


def fingerprint_of_corpus(module_file: str, data_dir: str | None) -> str:
    """Changes with a builder, with what it shares, and with the name, size or time of any file of the corpus."""
    digest = hashlib.sha256()
    if data_dir is not None:
        root = _files.root(data_dir)
        digest.update(f"{root}\n".encode())
        for entry in _files.files_below(root):
            status = entry.stat()
            digest.update(f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    shared = [Path(str(module)) for module in (__file__, _files.__file__, _lists.__file__)]
    return fingerprint_of(module_file, shared, digest.hexdigest())


def audio() -> datasets.Audio:
    """An audio column that keeps path and bytes as they are given."""
    feature = datasets.Audio(decode=False)
    # The library's own method wants torchcodec, even where there is nothing to encode.
    feature.encode_example = _as_it_is
    return feature


def _as_it_is(value: Any) -> Any:
    return value


def columns(**more: Any) -> datasets.DatasetInfo:
    """The columns that every speech corpus has, and those given."""
    shared = {"id": STRING, "audio": audio(), "speaker": STRING, "seconds": datasets.Value("float32")}
    return datasets.DatasetInfo(features=datasets.Features(shared | more))


def classes(names: Collection[str]) -> datasets.ClassLabel:
    """A column of classes."""
    return datasets.ClassLabel(names=list(names))


class SpeechBuilder(datasets.GeneratorBasedBuilder):
    """A builder that is made of `_info`, `LAYOUT` and `rows`."""

    VERSION = datasets.Version("1.0.0")
    LAYOUT = ""
    """What the folder has to hold: the end of an error's line."""

    @abstractmethod
    def rows(self) -> dict[str, list[Row]]:
        """Rows by split. Audio is a path; ``speaker`` may be left out, ``seconds`` where it is the file's length."""

    def folder(self, *patterns: str) -> Path:
        """The folder given, or the only one right below it, that holds something of these names (in any case).

        Raises:
            FileNotFoundError: there is none, or no folder was given.
            ValueError: several folders below hold one.
        """
        if self.config.data_dir is None:
            raise FileNotFoundError(f"it reads files that you have: give --task.data_dir {self.LAYOUT}")
        root = _files.root(self.config.data_dir)
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: not a folder: expected {self.LAYOUT}")
        if _files.matching(root, *patterns):
            return root
        below = [folder for folder in _files.subfolders(root) if _files.matching(folder, *patterns)]
        if len(below) > 1:
            names = _files.shortened([path.name for path in below])
            raise ValueError(f"{root}: several folders fit: give the path of one of {names}")
        if not below:
            packed = [path.name for path in _files.matching(root, _ARCHIVES)]
            hint = f": unpack {_files.shortened(packed)} first" if packed else ""
            raise FileNotFoundError(f"{root}: expected {self.LAYOUT}{hint}")
        return below[0]

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        splits = {split: rows for split, rows in self.rows().items() if rows}
        if not splits:
            where = f"{self.config.data_dir}: nothing here for {self.config.name!r}"
            raise FileNotFoundError(f"{where}: expected {self.LAYOUT}")
        _files.refuse_missing([path for rows in splits.values() for row in rows for path in _paths(row)])
        return [datasets.SplitGenerator(split, {"rows": rows}) for split, rows in splits.items()]

    def _generate_examples(self, rows: list[Row]) -> Iterator[tuple[int, Row]]:
        for number, row in enumerate(rows):
            whole = {"speaker": ""} | row if "audio" in row else row
            if "audio" in row and "seconds" not in row:
                whole["seconds"] = _files.seconds(row["audio"])
            yield number, {name: _stored(value) for name, value in whole.items()}


def _paths(row: Row) -> Iterator[Path]:
    for value in row.values():
        yield from (item for item in (value if isinstance(value, list) else [value]) if isinstance(item, os.PathLike))


def _stored(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return {"bytes": None, "path": str(value)}
    return [_stored(item) for item in value] if isinstance(value, list) else value


def spread(name: str) -> bytes:
    """A key by which names sort in an order that has nothing to do with what they mean, the same everywhere."""
    return hashlib.sha256(name.encode()).digest()
