"""VoxCeleb1 (arXiv 1706.08612): celebrities in interviews, for telling speakers apart.

``data_dir`` is the folder with ``wav/`` (or ``dev/wav/`` and ``test/wav/``, as the archives unpack) of
``id10001/VIDEO/00001.wav``, and beside it the published lists: ``iden_split.txt`` (1 train, 2 dev, 3 test) for
``speakers``, ``veri_test.txt`` (1 or 0 and two recordings) for ``verification``.

There are no published dev trials. Here a twentieth of the training speakers (at most 40), drawn by name, makes them: of
each up to twenty recordings, each once beside another of the same speaker and once beside one of another dev speaker.
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
    "speakers": "Which of 1,251 speakers is it? The published identification split.",
    "verification": "Are two recordings of one speaker? No speaker of the trials is in train.",
}
SPEAKERS = tuple(f"id{number}" for number in range(10001, 11252))
_SPLITS = {"1": "train", "2": "dev", "3": "test"}
_IDENTIFICATION = ("iden_split.txt", "veri_test_class.txt")  # the second is s3prl's name for the same list
_TRIALS = ("veri_test.txt", "veri_test2.txt", "voxceleb1_test_v2.txt")
_RECORDING = "id10270/5r0dWxy17C8/00001.wav"
_MOST_DEV_SPEAKERS, _MOST_RECORDINGS = 40, 20


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class Voxceleb1(speech.SpeechBuilder):
    """Rows are recordings, or trials of two; training rows of ``verification`` have no pair and the label -1."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "speakers"
    LAYOUT = (
        "a folder with wav/id10001/VIDEO/00001.wav, ... (or dev/wav/ and test/wav/) and iden_split.txt or veri_test.txt"
    )

    def _info(self) -> datasets.DatasetInfo:
        if self.config.name == "speakers":
            return speech.columns(label=speech.classes(SPEAKERS))
        return speech.columns(audio_pair=speech.audio(), label=speech.classes(["different", "same"]))

    def rows(self) -> dict[str, list[speech.Row]]:
        root = self.folder("wav", "dev", "test", r"id\d{5}", *_IDENTIFICATION, *_TRIALS)
        folders = _speaker_folders(root)
        if not folders:
            raise FileNotFoundError(f"{root}: expected {self.LAYOUT}")
        if self.config.name == "speakers":
            return _identification(_list(root, _IDENTIFICATION), folders)
        return _verification(_list(root, _TRIALS), folders)


def _speaker_folders(root: Path) -> dict[str, Path]:
    """Each speaker's folder, in whichever of the archives it came."""
    homes = [root]
    for name in ("dev", "test", "wav"):
        homes += [found for home in homes if (found := files.child(home, name)) is not None and found.is_dir()]
    return {folder.name: folder for home in homes for folder in files.matching(home, r"id\d{5}")}


def _list(root: Path, names: tuple[str, ...]) -> Path:
    folders = [root, *(folder for folder in files.subfolders(root) if not re.fullmatch(r"id\d{5}", folder.name))]
    found = [path for folder in folders for name in names if (path := files.child(folder, name)) is not None]
    if not found:
        raise FileNotFoundError(f"{root}: no {names[0]}: it stands on the corpus's page, put it beside wav/")
    return found[0]


def _identification(path: Path, folders: dict[str, Path]) -> dict[str, list[speech.Row]]:
    rows: dict[str, list[speech.Row]] = {split: [] for split in _SPLITS.values()}
    known = dict.fromkeys(SPEAKERS)
    for where, (number, name, *_) in lists.fields(path, 2, f"1 {_RECORDING}"):
        split = _SPLITS[lists.one_of(number, _SPLITS, where, "split")]
        speaker = lists.one_of(_speaker(name), known, where, "speaker")
        rows[split].append({"id": name, "audio": _file(name, folders), "speaker": speaker, "label": speaker})
    return rows


def _verification(path: Path, folders: dict[str, Path]) -> dict[str, list[speech.Row]]:
    test = []
    for where, (answer, first, second, *_) in lists.fields(path, 3, f"1 {_RECORDING} id10270/8jEAjG6SegY/00008.wav"):
        same = lists.one_of(answer, ("0", "1"), where, "answer") == "1"
        test.append(_trial(f"test-{len(test)}", _file(first, folders), _file(second, folders), same))
    tested = {_speaker(_name(path)) for row in test for path in (row["audio"], row["audio_pair"])}
    others = sorted(folders.keys() - tested)
    aside = sorted(others, key=speech.spread)[: min(len(others) // 2, _MOST_DEV_SPEAKERS, max(2, len(others) // 20))]
    aside = aside if len(aside) > 1 else []
    dev = list(_own_trials({speaker: _recordings(folders[speaker]) for speaker in sorted(aside)}))
    train = [
        {"id": _name(path), "audio": path, "audio_pair": None, "speaker": speaker, "label": -1}
        for speaker in others
        if speaker not in aside
        for path in _recordings(folders[speaker])
    ]
    return {"train": train, "dev": dev, "test": test}


def _own_trials(recordings: dict[str, list[Path]]) -> Iterator[speech.Row]:
    """Each recording beside another of its speaker, from another video if there is one, and beside one of another."""
    drawn = {speaker: sorted(paths, key=_order)[:_MOST_RECORDINGS] for speaker, paths in recordings.items()}
    number = 0
    for speaker, paths in drawn.items():
        strangers = [path for other, found in drawn.items() if other != speaker for path in found]
        for path in paths:
            own = [other for other in recordings[speaker] if other.parent != path.parent]
            own = own or [other for other in recordings[speaker] if other != path]
            for candidates, same in ((own, True), (strangers, False)):
                if candidates:
                    pair = min(candidates, key=lambda other, path=path: speech.spread(f"{_name(path)} {_name(other)}"))
                    yield _trial(f"dev-{number}", path, pair, same)
                    number += 1


def _trial(name: str, first: Path, second: Path, same: bool) -> speech.Row:
    return {"id": name, "audio": first, "audio_pair": second, "speaker": first.parts[-3], "label": int(same)}


def _recordings(folder: Path) -> list[Path]:
    return list(files.paths_below(folder, r".*\.wav"))


def _file(name: str, folders: dict[str, Path]) -> Path:
    speaker, _, rest = name.partition("/")
    return folders.get(speaker, next(iter(folders.values())).parent / speaker) / rest


def _speaker(name: str) -> str:
    return name.partition("/")[0]


def _name(path: Path) -> str:
    return "/".join(path.parts[-3:])


def _order(path: Path) -> bytes:
    return speech.spread(_name(path))
