"""Fluent Speech Commands (arXiv 1904.03670): spoken orders to a house, each with action, object and location.

``data_dir`` is the folder with ``wavs/speakers/`` and ``data/train_data.csv``, ``valid_data.csv``, ``test_data.csv``.
"""

from __future__ import annotations

from pathlib import Path

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

ACTIONS = ("activate", "bring", "change language", "deactivate", "decrease", "increase")
OBJECTS = (
    *("Chinese", "English", "German", "Korean", "heat", "juice", "lamp"),
    *("lights", "music", "newspaper", "none", "shoes", "socks", "volume"),
)
LOCATIONS = ("bedroom", "kitchen", "none", "washroom")
SLOTS = {"action": ACTIONS, "object": OBJECTS, "location": LOCATIONS}
_TABLES = {"train": "train_data.csv", "dev": "valid_data.csv", "test": "test_data.csv"}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class FluentSpeechCommands(speech.SpeechBuilder):
    """Rows are orders; no speaker is in two splits."""

    LAYOUT = "a folder with wavs/speakers/ and data/train_data.csv, valid_data.csv, test_data.csv"

    def _info(self) -> datasets.DatasetInfo:
        return speech.columns(text=speech.STRING, **{slot: speech.classes(names) for slot, names in SLOTS.items()})

    def rows(self) -> dict[str, list[speech.Row]]:
        root = self.folder("wavs")
        tables = files.needed(root, "data", "the folder of train_data.csv, valid_data.csv and test_data.csv")
        return {split: _orders(root, files.needed(tables, name, "orders")) for split, name in _TABLES.items()}


def _orders(root: Path, path: Path) -> list[speech.Row]:
    rows = []
    for where, cells in lists.table(path, ("path", "speakerId", "transcription", *SLOTS)):
        name = str(Path(cells["path"]).with_suffix(""))
        row = {"id": name, "audio": root / cells["path"], "speaker": cells["speakerId"], "text": cells["transcription"]}
        rows.append(row | {slot: lists.one_of(cells[slot], names, where, slot) for slot, names in SLOTS.items()})
    return rows
