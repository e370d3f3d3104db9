"""LibriSpeech (Panayotov et al. 2015): read books, for recognition.

``data_dir`` is the folder with ``train-clean-100/``, ``dev-clean/``, ... (some of them are enough), or one of these;
each holds ``SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac`` and ``SPEAKER-CHAPTER.trans.txt``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

CONFIGS = {
    "clean": "All of train-clean-*, dev-clean, test-clean.",
    "clean_100": "train-clean-100, dev-clean, test-clean: what SUPERB learns recognition from.",
    "other": "The harder half: train-other-500, dev-other, test-other.",
    "all": "Every part; dev-other and test-other are the splits dev_other and test_other.",
}
_SUBSET = r"(train|dev|test)-(clean|other)(-\d+)?"


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class Librispeech(speech.SpeechBuilder):
    """Rows are utterances; ``text`` is in capitals without punctuation, as it is published."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "clean"
    LAYOUT = "a folder with train-clean-100/SPEAKER/CHAPTER/*.flac and *.trans.txt, dev-clean/, test-clean/, ..."

    def _info(self) -> datasets.DatasetInfo:
        return speech.columns(text=speech.STRING)

    def rows(self) -> dict[str, list[speech.Row]]:
        splits: dict[str, list[speech.Row]] = {}
        for folder in self._subsets():
            split = _split(folder.name.lower(), self.config.name)
            if split is not None:
                splits.setdefault(split, []).extend(_utterances(folder))
        return splits

    def _subsets(self) -> list[Path]:
        if self.config.data_dir is not None:
            alone = files.root(self.config.data_dir)
            if alone.is_dir() and re.fullmatch(_SUBSET, alone.name, re.IGNORECASE):
                return [alone]
        return [path for path in files.matching(self.folder(_SUBSET), _SUBSET) if path.is_dir()]


def _split(subset: str, config: str) -> str | None:
    """The split in which a config has a subset such as ``train-clean-100``; None: it has it not."""
    part, kind, *_ = subset.split("-")
    if config == "all":
        return part if part == "train" or kind == "clean" else f"{part}_other"
    if config == "clean_100":
        return part if kind == "clean" and (part != "train" or subset == "train-clean-100") else None
    return part if kind == config else None


def _utterances(folder: Path) -> Iterator[speech.Row]:
    for speaker in files.subfolders(folder):
        for chapter in files.subfolders(speaker):
            listed = f"{speaker.name}-{chapter.name}.trans.txt"
            path = files.needed(chapter, listed, "the chapter's transcripts")
            for _, (name, text) in lists.fields(path, 2, "84-121123-0000 GO DO YOU HEAR", rest=True):
                yield {"id": name, "audio": chapter / f"{name}.flac", "speaker": speaker.name, "text": text}
