"""VoiceBank-DEMAND (Valentini-Botinhao et al. 2016): read speech in noise, each with its clean twin.

``data_dir`` is the folder with ``clean_trainset_28spk_wav/``, ``noisy_trainset_28spk_wav/``, ``clean_testset_wav/`` and
``noisy_testset_wav/`` (also with ``_16k`` at the end). Speakers p226 and p287 of the training set are dev, as is usual.
"""

from __future__ import annotations

from pathlib import Path

import datasets

from . import _files as files
from . import _speech as speech

DEV_SPEAKERS = ("p226", "p287")
_PARTS = {"train": "trainset_28spk", "test": "testset"}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class VoicebankDemand(speech.SpeechBuilder):
    """Rows are sentences: ``audio`` is noisy, ``clean`` is not."""

    LAYOUT = (
        "a folder with clean_trainset_28spk_wav/, noisy_trainset_28spk_wav/, clean_testset_wav/, noisy_testset_wav/"
    )

    def _info(self) -> datasets.DatasetInfo:
        return speech.columns(clean=speech.audio())

    def rows(self) -> dict[str, list[speech.Row]]:
        root = self.folder(*(_pattern("noisy", part) for part in _PARTS.values()))
        rows = {split: _pairs(root, part) for split, part in _PARTS.items()}
        rows["dev"] = [row for row in rows["train"] if row["speaker"] in DEV_SPEAKERS]
        rows["train"] = [row for row in rows["train"] if row["speaker"] not in DEV_SPEAKERS]
        return rows


def _pattern(kind: str, part: str) -> str:
    return rf"{kind}_{part}_wav(_16k)?"


def _pairs(root: Path, part: str) -> list[speech.Row]:
    """Sentences of a part, by the names in both of its folders; none if it is not there."""
    noisy, clean = (files.matching(root, _pattern(kind, part)) for kind in ("noisy", "clean"))
    if not noisy and not clean:
        return []
    if not noisy or not clean:
        kind = "clean" if noisy else "noisy"
        raise FileNotFoundError(f"{root}: no {kind}_{part}_wav/, the twin of {(noisy + clean)[0].name}/")
    names = {path.name for folder in (noisy[0], clean[0]) for path in files.matching(folder, r".*\.wav")}
    return [
        {"id": Path(name).stem, "audio": noisy[0] / name, "clean": clean[0] / name, "speaker": name.partition("_")[0]}
        for name in sorted(names)
    ]
