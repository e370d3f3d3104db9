"""Free Spoken Digit Dataset: digits in English, six speakers, at 8 kHz.

``data_dir`` is the folder ``recordings/`` of ``DIGIT_SPEAKER_TAKE.wav``, or the one above it. Takes 0 to 4 of every
digit and speaker are test, as its authors say; there is no dev split. ``leave_out_A_B`` trains on four speakers and
tests on the two others.
"""

from __future__ import annotations

import itertools

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
DIGITS = tuple("0123456789")
_PAIRS = {f"leave_out_{a}_{b}": (a, b) for a, b in itertools.combinations(SPEAKERS, 2)}
CONFIGS = {
    "digits": "Which digit is said? The official split: every speaker is in both.",
    "speakers": "Which of the six speaks?",
    **{name: f"Which digit is said? Tests on {a} and {b}, whom train has not." for name, (a, b) in _PAIRS.items()},
}
_NAME = r"(\d)_([a-z]+)_(\d+)\.wav"
_TEST_TAKES = 5


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class Fsdd(speech.SpeechBuilder):
    """Rows are digits."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "digits"
    LAYOUT = "a folder with recordings/0_george_0.wav, ..."

    def _info(self) -> datasets.DatasetInfo:
        return speech.columns(label=speech.classes(SPEAKERS if self.config.name == "speakers" else DIGITS))

    def rows(self) -> dict[str, list[speech.Row]]:
        splits: dict[str, list[speech.Row]] = {"train": [], "test": []}
        for path in files.matching(self.folder(_NAME), _NAME):
            digit, speaker, take = str(path.stem).lower().split("_")
            lists.one_of(speaker, SPEAKERS, str(path), "speaker")
            left_out = _PAIRS.get(self.config.name)
            tested = speaker in left_out if left_out else int(take) < _TEST_TAKES
            label = speaker if self.config.name == "speakers" else digit
            row = {"id": path.stem, "audio": path, "speaker": speaker, "label": label}
            splits["test" if tested else "train"].append(row)
        return splits
