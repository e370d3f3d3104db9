"""Speech Commands v0.01 and v0.02 (arXiv 1804.03209): one word a recording.

``data_dir`` is the folder with a folder a word, ``_background_noise_``, ``validation_list.txt`` and
``testing_list.txt``, or the one above it. Where ``speech_commands_test_set_v0.0x`` lies in ``data_dir`` too, it is the
test split of ``v12``.

``v12`` takes its silence out of the background noise, as s3prl does, but at fixed places, so that every run hears the
same: cuts of a second, five a second (about as many rows as a word has), from the first eight tenths of each noise
for train, the ninth for dev, the last for test. Such rows have ``start`` and ``duration`` in seconds; whole files 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

CONFIGS = {
    "v12": "Ten commands, _unknown_ (all other words) and _silence_, as in SUPERB.",
    "all": "Every word is a class: 35 of v0.02, of which v0.01 has 30.",
}
COMMANDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
UNKNOWN, SILENCE = "_unknown_", "_silence_"
WORDS = (
    *COMMANDS,
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("bed", "bird", "cat", "dog", "happy", "house", "marvin", "sheila", "tree", "wow"),
    *("backward", "follow", "forward", "learn", "visual"),
)
_CLASSES = {"v12": (*COMMANDS, UNKNOWN, SILENCE), "all": WORDS}
_NOISE = "_background_noise_"
_LISTS = {"dev": "validation_list.txt", "test": "testing_list.txt"}
_SHARES = {"train": (0.0, 0.8), "dev": (0.8, 0.9), "test": (0.9, 1.0)}
_HOP = 0.2


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class SpeechCommands(speech.SpeechBuilder):
    """Rows are words; ``speaker`` is the hash in the file's name."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "v12"
    LAYOUT = "a folder with a folder a word, _background_noise_/, validation_list.txt and testing_list.txt"

    def _info(self) -> datasets.DatasetInfo:
        part = datasets.Value("float32")
        return speech.columns(label=speech.classes(_CLASSES[self.config.name]), start=part, duration=part)

    def rows(self) -> dict[str, list[speech.Row]]:
        root = self.folder(*_LISTS.values(), _NOISE)
        listed = {split: _listed(root, name) for split, name in _LISTS.items()}
        held_out = {path for paths in listed.values() for path in paths}
        words = [folder for folder in files.subfolders(root) if not folder.name.startswith(("_", "speech_commands"))]
        listed["train"] = [path for word in words for path in _recordings(word) if path not in held_out]
        rows = {split: [self._word(path) for path in listed[split]] for split in _SHARES}
        if self.config.name == "v12":
            noises = _recordings(files.needed(root, _NOISE, "silence is cut out of it"))
            for split in rows:
                rows[split] += [row for path in noises for row in _silence(path, split)]
            rows["test"] = self._test_set(root) or rows["test"]
        return rows

    def _word(self, path: Path) -> speech.Row:
        word = path.parent.name
        if self.config.name == "v12":
            label = word if word in _CLASSES["v12"] else UNKNOWN
        else:
            label = lists.one_of(word, WORDS, str(path.parent), "word")
        return _row(path, label)

    def _test_set(self, root: Path) -> list[speech.Row]:
        """Rows of the separate archive for testing, whose folders are the twelve classes."""
        found = files.matching(files.root(str(self.config.data_dir)), r"speech_commands_test_set.*")
        # Beside archives of both versions the one of the same version as the words counts.
        archives = sorted((path for path in found if path.is_dir()), key=lambda path: path.name[-5:] != root.name[-5:])
        folders = [folder for archive in archives[:1] for folder in files.subfolders(archive)]
        return [self._word(path) for folder in folders for path in _recordings(folder)]


def _row(path: Path, label: str, **more: Any) -> speech.Row:
    speaker, mark, _ = path.stem.partition("_nohash_")
    name = f"{path.parent.name}/{path.stem}"
    row = {"id": name, "audio": path, "speaker": speaker if mark else "", "label": label, "start": 0.0, "duration": 0.0}
    return row | more


def _listed(root: Path, name: str) -> list[Path]:
    path = files.needed(root, name, "the corpus comes with it")
    return [root / cells[0] for _, cells in lists.fields(path, 1, "right/a69b9b3e_nohash_0.wav")]


def _recordings(folder: Path) -> list[Path]:
    return files.matching(folder, r".*\.wav")


def _silence(path: Path, split: str) -> list[speech.Row]:
    """Cuts of one second out of a split's share of a noise."""
    length = files.seconds(path)
    if length < 0:
        raise ValueError(f"{path}: cannot be read, and silence is cut out of it: unpack it again")
    first, last = (share * length for share in _SHARES[split])
    starts = [first + _HOP * step for step in range(int((last - first - 1) / _HOP + 1 + 1e-6))]
    cut = {"seconds": 1.0, "duration": 1.0}
    return [_row(path, SILENCE, id=f"{SILENCE}/{path.stem}@{start:.1f}", start=start, **cut) for start in starts]
