"""Libri2Mix (arXiv 2005.11262): two readers of LibriSpeech at a time, with noise and without.

``data_dir`` is the folder that LibriMix's scripts write, ``Libri2Mix/wav16k/min`` or ``max``, or one above it: in it
``train-100/``, ``train-360/``, ``dev/``, ``test/`` with ``mix_clean/``, ``mix_both/``, ``mix_single/``, ``s1/`` and
``s2/``, and perhaps ``metadata/mixture_*.csv``, which then says what has to be there. Where several folders are there,
16 kHz goes before 8, and ``max`` before ``min`` for diarization alone. ``train-360`` is the split train_360.

``diarization`` needs to be told who speaks when: ``*.rttm`` files, or Kaldi's ``segments`` and ``utt2spk``, anywhere in
``data_dir``, as LibriMix's ``scripts/prepare_diarization.py`` writes them. Parts for which none is there are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

CONFIGS = {
    "separation": "mix_clean, and its two voices as sources.",
    "separation_noisy": "mix_both, and its two voices as sources.",
    "enhancement": "mix_both, and mix_clean as the clean twin.",
    "enhancement_single": "mix_single (one voice and noise), and s1 as the clean twin.",
    "diarization": "mix_both (mix_clean where there is none), and who speaks when.",
}
_MIXES = {
    "separation": ("mix_clean",),
    "separation_noisy": ("mix_both",),
    "enhancement": ("mix_both",),
    "enhancement_single": ("mix_single",),
    "diarization": ("mix_both", "mix_clean"),
}
_TWINS = {"enhancement": "mix_clean", "enhancement_single": "s1"}
_SPLITS = {"train-100": "train", "train-360": "train_360", "dev": "dev", "test": "test"}
Turn = tuple[str, float, float]
Segments = dict[str, list[Turn]]


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class Libri2mix(speech.SpeechBuilder):
    """Rows are mixtures. A segment's speaker is the number of its voice in ``sources``."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "separation"
    LAYOUT = "Libri2Mix/wav16k/min (or max) with train-100/, dev/, test/, each with mix_clean/, mix_both/, s1/, s2/"

    def _info(self) -> datasets.DatasetInfo:
        if self.config.name in _TWINS:
            return speech.columns(clean=speech.audio())
        sources = datasets.List(speech.audio())
        if self.config.name != "diarization":
            return speech.columns(sources=sources)
        time = datasets.Value("float32")
        segment = {"speaker": datasets.Value("int32"), "start": time, "end": time}
        return speech.columns(sources=sources, segments=datasets.List(segment))

    def rows(self) -> dict[str, list[speech.Row]]:
        root = self.folder("libri2mix", "wav16k", "wav8k", "min", "max", *_SPLITS)
        home = _home(root, "max" if self.config.name == "diarization" else "min")
        rows = {split: self._part(home, part) for part, split in _SPLITS.items()}
        if self.config.name != "diarization":
            return rows
        spoken = _segments(files.root(str(self.config.data_dir)))
        return {split: _with_segments(found, spoken) for split, found in rows.items()}

    def _part(self, home: Path, part: str) -> list[speech.Row]:
        folder = files.child(home, part)
        mixes = [folder / mix for mix in _MIXES[self.config.name] if folder is not None and (folder / mix).is_dir()]
        if folder is None or not mixes:
            return []
        rows = []
        for name in _names(home, part, mixes[0]):
            row = {"id": name, "audio": mixes[0] / f"{name}.wav"}
            if self.config.name in _TWINS:
                row["clean"] = folder / _TWINS[self.config.name] / f"{name}.wav"
            else:
                row["sources"] = [folder / source / f"{name}.wav" for source in ("s1", "s2")]
            if self.config.name == "enhancement_single":
                row["speaker"] = _speakers(name)[0]
            rows.append(row)
        return rows


def _home(root: Path, preferred: str) -> Path:
    """The folder of the parts, some levels down."""
    folders = [root]
    for names in (("Libri2Mix",), ("wav16k", "wav8k"), (preferred, "min", "max")):
        below = [found for folder in folders for name in names if (found := files.child(folder, name)) is not None]
        folders = below or folders
    return folders[0]


def _names(home: Path, part: str, mix: Path) -> list[str]:
    """Mixtures of a part: those of its list where there is one, else those in the folder."""
    listed = home / "metadata" / f"mixture_{part}_{mix.name}.csv"
    if listed.is_file():
        return [cells["mixture_ID"] for _, cells in lists.table(listed, ("mixture_ID",))]
    return [path.stem for path in files.matching(mix, r".*\.wav")]


def _speakers(name: str) -> list[str]:
    """4640-19187-0026_4160-14187-0033 -> the readers 4640 and 4160."""
    return [utterance.partition("-")[0] for utterance in name.split("_")]


def _segments(root: Path) -> Segments:
    """Who speaks when in every recording, from all Kaldi folders and rttm files below.

    Raises:
        FileNotFoundError: there are none.
    """
    rttm = list(files.paths_below(root, r"rttm|.*\.rttm"))
    kaldi = [path for path in files.paths_below(root, "segments") if (path.parent / "utt2spk").is_file()]
    if not rttm and not kaldi:
        text = "no *.rttm, and no segments with utt2spk, to tell who speaks when"
        raise FileNotFoundError(f"{root}: {text}: write them here with LibriMix's scripts/prepare_diarization.py")
    # The same turns often come in both forms.
    return _gathered(map(_rttm, rttm)) | _gathered(map(_kaldi, kaldi))


def _gathered(lists: Iterable[Iterator[tuple[str, Turn]]]) -> Segments:
    found: Segments = {}
    for turns in lists:
        for recording, turn in turns:
            found.setdefault(recording.removesuffix(".wav"), []).append(turn)
    return found


def _rttm(path: Path) -> Iterator[tuple[str, Turn]]:
    for where, cells in lists.fields(path, 8, "SPEAKER 4640-19187-0026_4160-14187-0033 1 0.00 3.25 <NA> <NA> 4640"):
        if cells[0] == "SPEAKER":
            start, length = (lists.number(cell, where, "time") for cell in cells[3:5])
            yield cells[1], (cells[7], start, start + length)


def _kaldi(path: Path) -> Iterator[tuple[str, Turn]]:
    speakers = {cells[0]: cells[1] for _, cells in lists.fields(path.parent / "utt2spk", 2, "UTTERANCE SPEAKER")}
    for where, (utterance, recording, *times) in lists.fields(path, 4, "UTTERANCE RECORDING 0.00 3.25"):
        start, end = (lists.number(cell, where, "time") for cell in times[:2])
        if utterance not in speakers:
            raise ValueError(f"{where}: {utterance!r} has no speaker in {path.parent / 'utt2spk'}")
        yield recording, (speakers[utterance], start, end)


def _with_segments(rows: list[speech.Row], spoken: Segments) -> list[speech.Row]:
    silent = [row["id"] for row in rows if row["id"] not in spoken]
    if len(silent) == len(rows):
        return []
    if silent:
        raise ValueError(f"{len(silent)} of {len(rows)} mixtures have no segments: {files.shortened(silent)}")
    return [row | {"segments": _numbered(spoken[row["id"]], _speakers(row["id"]))} for row in rows]


def _numbered(turns: list[Turn], sources: list[str]) -> list[speech.Row]:
    """Turns in time, their speakers numbered as the sources are, or by who comes first where the names differ."""
    turns = sorted(turns, key=lambda turn: turn[1:])
    names = list(dict.fromkeys(speaker for speaker, _, _ in turns))
    names = sources if set(names) <= set(sources) else names
    return [{"speaker": names.index(speaker), "start": start, "end": end} for speaker, start, end in turns]
