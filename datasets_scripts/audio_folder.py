"""Any folder of audio files: .wav, .flac, .ogg, .opus, .mp3, .aiff and other kinds that libsndfile knows, at any depth.

Files in folders named train, dev (valid, ...) or test make splits, others are ``train``; the last such folder decides.
``speaker`` is the name of the folder that holds the file, unless that names a split. ``seconds`` is -1 where a header
cannot be read: whoever decodes the files counts those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import datasets

from . import _files as files
from . import _speech as speech
from .base import SPLITS

CONFIGS = {
    "unlabelled": "Sound alone.",
    "labelled": "A folder a class: its name is the label, and names no split.",
}
_ENDINGS = "wav|wave|flac|ogg|oga|opus|mp3|aif|aiff|aifc|au|snd|caf|w64|sph|m4a"  # the last: to be counted


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class AudioFolder(speech.SpeechBuilder):
    """Rows are files."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "unlabelled"
    LAYOUT = "a folder with audio files (.wav, .flac, .ogg, .mp3, ...), at any depth"

    def _info(self) -> datasets.DatasetInfo:
        if self.config.name == "unlabelled":
            return speech.columns()
        return speech.columns(label=speech.classes(sorted({path.parent.name for path in _files(self.config.data_dir)})))

    def rows(self) -> dict[str, list[speech.Row]]:
        root = self.folder(".*")
        splits: dict[str, list[speech.Row]] = {"train": [], "dev": [], "test": []}
        for path in _files(self.config.data_dir):
            folders = path.relative_to(root).parts[:-1]
            named = bool(folders) and (self.config.name == "labelled" or _split(folders[-1]) is None)
            row = {"id": path.relative_to(root).as_posix(), "audio": path, "speaker": folders[-1] if named else ""}
            if self.config.name == "labelled":
                row["label"] = _label(path, folders)
                folders = folders[:-1]
            split = next(filter(None, map(_split, reversed(folders))), "train")
            splits.setdefault(split, []).append(row)
        return splits


def _files(data_dir: str | None) -> Iterator[Path]:
    if data_dir is not None:
        yield from files.paths_below(files.root(data_dir), rf".*\.({_ENDINGS})")


def _split(folder: str) -> str | None:
    """The split that a folder's name tells: train-clean-100 is train."""
    named = [SPLITS[word] for word in re.split(r"[^a-z]+", folder.lower()) if word in SPLITS]
    return named[-1] if named else None


def _label(path: Path, folders: tuple[str, ...]) -> str:
    if not folders or folders[-1].lower() in SPLITS:
        raise ValueError(f"{path}: lies in no folder of a class: expected such as train/CLASS/{path.name}")
    return folders[-1]
