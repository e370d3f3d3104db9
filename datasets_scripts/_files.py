"""Looking for the files of a speech corpus: they may be hundreds of thousands.

The library puts its own, slower ``Path`` into the modules of builders: paths that come from here are plain ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

_SHOWN = 3


def root(data_dir: str) -> Path:
    """The folder that a user names."""
    return Path(data_dir).expanduser().absolute()


def files_below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Every file below a folder in the order of names, links followed once, hidden ones left out.

    Large corpora hold hundreds of thousands of files: this asks the system about each no more than is needed.
    """
    seen = set()
    waiting = [str(folder)]
    while waiting:
        place = waiting.pop()
        if not Path(place).is_dir() or (real := os.path.realpath(place)) in seen:
            continue
        seen.add(real)
        with os.scandir(place) as entries:
            shown = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
        yield from (entry for entry in shown if entry.is_file())
        waiting += [entry.path for entry in reversed(shown) if entry.is_dir()]


def paths_below(folder: Path, pattern: str) -> Iterator[Path]:
    """Every file below a folder that has a name of a pattern, in any case, in the order of names."""
    fits = re.compile(pattern, re.IGNORECASE).fullmatch
    yield from (Path(entry.path) for entry in files_below(folder) if fits(entry.name))


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
