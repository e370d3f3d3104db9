"""Common Voice (arXiv 1912.06670): sentences read by volunteers, in many languages.

``data_dir`` is a language's folder with ``clips/``, ``train.tsv``, ``dev.tsv`` and ``test.tsv``, or a folder of those,
such as ``cv-corpus-17.0-2024-03-15/``, or the one above that. A config is a language that is there; none has to be
named where there is but one.
"""

from __future__ import annotations

from pathlib import Path

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

_SPLITS = ("train", "dev", "test")
_TABLES = tuple(rf"{split}\.tsv" for split in _SPLITS)


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


def configs(data_dir: str | None) -> list[str]:
    """The languages that are in a folder."""
    return sorted(_languages(data_dir))


class CommonVoice(speech.SpeechBuilder):
    """Rows are clips; ``speaker`` is the volunteer's id."""

    LAYOUT = "a folder with clips/, train.tsv, dev.tsv and test.tsv, or a folder of those of several languages"

    def _info(self) -> datasets.DatasetInfo:
        return speech.columns(text=speech.STRING)

    def rows(self) -> dict[str, list[speech.Row]]:
        found = _languages(self.config.data_dir).get(self.config.name)
        folder = found or self.folder(*_TABLES)
        tables = {split: files.child(folder, f"{split}.tsv") for split in _SPLITS}
        lengths = _lengths(folder)
        return {split: _clips(path, folder / "clips", lengths) for split, path in tables.items() if path is not None}


def _languages(data_dir: str | None) -> dict[str, Path]:
    """Folders with tables, by their names: the one given, or those at most two below it."""
    root = files.root(data_dir) if data_dir is not None else None
    if root is None or not root.is_dir():
        return {}
    level = [root]
    for _ in range(3):
        if found := {folder.name: folder for folder in level if files.matching(folder, *_TABLES)}:
            return found
        level = [below for folder in level for below in files.subfolders(folder)]
    return {}


def _lengths(folder: Path) -> dict[str, float]:
    """Seconds of each clip, which newer releases list: reading a million headers takes minutes."""
    path = files.child(folder, "clip_durations.tsv")
    if path is None:
        return {}
    rows = lists.table(path, ("clip", "duration[ms]"))
    return {cells["clip"]: lists.number(cells["duration[ms]"], where, "duration") / 1000 for where, cells in rows}


def _clips(path: Path, clips: Path, lengths: dict[str, float]) -> list[speech.Row]:
    rows = []
    for _, cells in lists.table(path, ("client_id", "path", "sentence")):
        name = cells["path"] if cells["path"].endswith(".mp3") else f"{cells['path']}.mp3"
        length = {"seconds": lengths[name]} if name in lengths else {}
        row = {"id": name.removesuffix(".mp3"), "audio": clips / name, "speaker": cells["client_id"]}
        rows.append(row | {"text": cells["sentence"]} | length)
    return rows
