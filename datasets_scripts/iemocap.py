"""IEMOCAP (Busso et al. 2008): acted dialogues, for the four emotions that everybody tells apart.

``data_dir`` is the folder with ``Session1/`` ... ``Session5/``, each with ``sentences/wav/DIALOGUE/UTTERANCE.wav`` and
``dialog/EmoEvaluation/DIALOGUE.txt``. Excited counts as happy; utterances of other emotions are left out (5,531 stay).

Config ``foldN`` tests on session N, whose two speakers no other has. Of the other sessions a fifth of the dialogues,
drawn by name, is dev: it shares speakers with train, but no conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

EMOTIONS = ("neutral", "happy", "sad", "angry")
_SESSIONS = tuple(f"Session{number}" for number in range(1, 6))
_NAMES = {"neu": "neutral", "hap": "happy", "exc": "happy", "sad": "sad", "ang": "angry"}
_OTHERS = ("fru", "sur", "fea", "dis", "oth", "xxx")
_DEV_SHARE = 5


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class Iemocap(speech.SpeechBuilder):
    """Rows are utterances; a config a session that is tested on."""

    BUILDER_CONFIGS = [  # noqa: RUF012
        datasets.BuilderConfig(name=f"fold{number}", description=f"Tests on {session}.")
        for number, session in enumerate(_SESSIONS, start=1)
    ]
    DEFAULT_CONFIG_NAME = "fold1"
    LAYOUT = "a folder with Session1/ ... Session5/, each with sentences/wav/ and dialog/EmoEvaluation/"

    def _info(self) -> datasets.DatasetInfo:
        return speech.columns(label=speech.classes(EMOTIONS))

    def rows(self) -> dict[str, list[speech.Row]]:
        root = self.folder(*_SESSIONS)
        sessions = {name: files.needed(root, name, "all five are needed") for name in _SESSIONS}
        tested = sessions.pop(f"Session{self.config.name[-1]}")
        train = [row for session in sessions.values() for row in _utterances(session)]
        dialogues = sorted({_dialogue(row) for row in train}, key=speech.spread)
        aside = set(dialogues[: -(-len(dialogues) // _DEV_SHARE)])
        return {
            "train": [row for row in train if _dialogue(row) not in aside],
            "dev": [row for row in train if _dialogue(row) in aside],
            "test": list(_utterances(tested)),
        }


def _dialogue(row: speech.Row) -> str:
    return str(row["id"]).rpartition("_")[0]


def _utterances(session: Path) -> Iterator[speech.Row]:
    judged = files.needed(files.needed(session, "dialog", "judgements"), "EmoEvaluation", "judgements")
    sounds = files.needed(files.needed(session, "sentences", "utterances"), "wav", "utterances")
    for path in files.matching(judged, r".*\.txt"):
        for where, line in lists.lines(path):
            # Only the first line of an utterance starts with a bracket; each judge's opinion follows.
            if not line.startswith("["):
                continue
            cells = line.split("\t")
            if len(cells) < 3:
                raise ValueError(f"{where}: expected [START - END], utterance, emotion between tabs")
            name, emotion = cells[1].strip(), cells[2].strip()
            lists.one_of(emotion, (*_NAMES, *_OTHERS), where, "emotion")
            if emotion in _NAMES:
                # Ses01F_impro01_M003: the first F tells who wore the markers, the M who speaks.
                dialogue, _, turn = name.rpartition("_")
                speaker = name[:5] + turn[:1]
                audio = sounds / dialogue / f"{name}.wav"
                yield {"id": name, "audio": audio, "speaker": speaker, "label": _NAMES[emotion]}
