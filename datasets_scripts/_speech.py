"""What the builders of speech corpora share: rows that name audio files, and looking for those.

A builder gives rows whose audio is a path, None or a list of paths. `SpeechBuilder` looks whether all of the files are
there, makes audio columns of them without copying or decoding any, and reads ``seconds`` off their headers.
"""

from __future__ import annotations

import hashlib
import os
import re
from abc import abstractmethod
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import datasets

from . import _lists
from .base import fingerprint_of

Row = dict[str, Any]

STRING = datasets.Value("string")
STRINGS = datasets.List(STRING)
_SHOWN = 3
_ARCHIVES = r".*\.(zip|tgz|tar|tar\.gz|tar\.bz2)"


def fingerprint_of_corpus(module_file: str, data_dir: str | None) -> str:
    """Changes with a builder, with what it shares, and with the name, size or time of any file of the corpus."""
    digest = hashlib.sha256()
    if data_dir is not None:
        root = Path(data_dir).expanduser().absolute()
        digest.update(f"{root}\n".encode())
        for entry in files_below(root):
            status = entry.stat()
            digest.update(f"{entry.path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return fingerprint_of(module_file, [Path(__file__), Path(_lists.__file__)], digest.hexdigest())


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
        root = Path(self.config.data_dir).expanduser().absolute()
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: not a folder: expected {self.LAYOUT}")
        if matching(root, *patterns):
            return root
        below = [folder for folder in subfolders(root) if matching(folder, *patterns)]
        if len(below) > 1:
            raise ValueError(f"{root}: several folders fit: name one of {shortened([path.name for path in below])}")
        if not below:
            packed = [path.name for path in matching(root, _ARCHIVES)]
            hint = f": unpack {shortened(packed)} first" if packed else ""
            raise FileNotFoundError(f"{root}: expected {self.LAYOUT}{hint}")
        return below[0]

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        splits = {split: rows for split, rows in self.rows().items() if rows}
        if not splits:
            where = f"{self.config.data_dir}: nothing here for {self.config.name!r}"
            raise FileNotFoundError(f"{where}: expected {self.LAYOUT}")
        refuse_missing([path for rows in splits.values() for row in rows for path in _paths(row)])
        return [datasets.SplitGenerator(split, {"rows": rows}) for split, rows in splits.items()]

    def _generate_examples(self, rows: list[Row]) -> Iterator[tuple[int, Row]]:
        for number, row in enumerate(rows):
            if "audio" in row:
                row = {"speaker": "", "seconds": row["seconds"] if "seconds" in row else seconds(row["audio"])} | row
            yield number, {name: _stored(value) for name, value in row.items()}


def _paths(row: Row) -> Iterator[Path]:
    for value in row.values():
        if isinstance(value, Path):
            yield value
        elif isinstance(value, list):
            yield from (item for item in value if isinstance(item, Path))


def _stored(value: Any) -> Any:
    if isinstance(value, Path):
        return {"bytes": None, "path": str(value)}
    return [_stored(item) for item in value] if isinstance(value, list) else value


# Files and folders


def files_below(root: Path) -> Iterator[os.DirEntry[str]]:
    """Every file below a folder in the order of names, links followed once, hidden ones left out.

    Large corpora hold hundreds of thousands of files: this asks the system about each no more than is needed.
    """
    seen = set()
    waiting = [str(root)]
    while waiting:
        folder = waiting.pop()
        if not Path(folder).is_dir() or (real := os.path.realpath(folder)) in seen:
            continue
        seen.add(real)
        with os.scandir(folder) as entries:
            shown = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
        yield from (entry for entry in shown if entry.is_file())
        waiting += [entry.path for entry in reversed(shown) if entry.is_dir()]


def subfolders(folder: Path) -> list[Path]:
    """The folders right in a folder, sorted, hidden ones left out."""
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def matching(folder: Path, *patterns: str) -> list[Path]:
    """What lies right in a folder and has a name of one of these patterns, in any case, sorted."""
    pattern = re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)
    return sorted(path for path in folder.iterdir() if pattern.fullmatch(path.name) and not path.name.startswith("."))


def child(folder: Path, name: str) -> Path | None:
    """What lies right in a folder under this name, in any case."""
    exact = folder / name
    return exact if exact.exists() else next(iter(matching(folder, re.escape(name))), None)


def needed(folder: Path, name: str, what: str) -> Path:
    """As `child`.

    Raises:
        FileNotFoundError: there is none.
    """
    found = child(folder, name)
    if found is None:
        raise FileNotFoundError(f"{folder}: no {name} ({what})")
    return found


def refuse_missing(paths: list[Path]) -> None:
    """Nothing if all of these files are there.

    Raises:
        FileNotFoundError: some are not, with their number and the first of them.
    """
    # One look into a folder is much cheaper than one at each of its files.
    held: dict[Path, set[str]] = {}
    missing = []
    for path in dict.fromkeys(paths):
        if path.parent not in held:
            held[path.parent] = _names(path.parent)
        if path.name not in held[path.parent]:
            missing.append(path)
    if missing:
        names = shortened([str(path) for path in missing])
        raise FileNotFoundError(f"{len(missing)} of {len(set(paths))} listed audio files are not there: {names}")


def _names(folder: Path) -> set[str]:
    if not folder.is_dir():
        return set()
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries}


def shortened(names: list[str]) -> str:
    """The first few names."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def seconds(path: Path) -> float:
    """The length of an audio file by its header; -1 where it cannot be read (whoever decodes it counts those)."""
    import soundfile

    try:
        info = soundfile.info(str(path))
    except (soundfile.SoundFileError, OSError):
        return -1.0
    return float(info.frames / info.samplerate)


def spread(name: str) -> bytes:
    """A key by which names sort in an order that has nothing to do with what they mean, the same everywhere."""
    return hashlib.sha256(name.encode()).digest()
