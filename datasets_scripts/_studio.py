"""Where the rows of spoken are made: a speaker says a text, it is recorded, and stands as FLAC in a row.

Everything is drawn from generators keyed by config, split and row. The rows of a split are made in order by one copy of
espeak-ng, so that the first of them are the same however many are made.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile

from . import _spoken_texts as texts
from ._augment import RATE, Conditions, quantised, recorded, resampled
from ._espeak import Espeak
from ._spoken_phones import ARPABET
from ._spoken_voices import Speaker, accented, speakers
from ._templates import pick

Row = dict[str, Any]
Timed = tuple[str, float, float]

# Utterances of so many seconds are kept, so many of them, to make babble of.
_LONG, _KEPT = 1.0, 6


@dataclass(frozen=True)
class Utterance:
    """What was said: float32 samples at 16 kHz, and espeak's phonemes with start and end in seconds, without pauses."""

    samples: np.ndarray
    phonemes: list[Timed]

    @property
    def start(self) -> float:
        """Where the first phoneme begins."""
        return self.phonemes[0][1]

    @property
    def end(self) -> float:
        """Where the last phoneme ends."""
        return self.phonemes[-1][2]

    def phones(self) -> list[Timed]:
        """English phonemes by the names of `_spoken_phones`, without those that are silent."""
        unknown = {name for name, _, _ in self.phonemes} - ARPABET.keys()
        if unknown:
            raise ValueError(f"_spoken_phones.py knows no {', '.join(sorted(unknown))}: install espeakng-loader 0.2.4")
        found = [(ARPABET[name], start, end) for name, start, end in self.phonemes]
        return [phone for phone in found if phone[0] and phone[2] > phone[1]]


class Studio:
    """For one split of one config."""

    def __init__(self, espeak: Espeak, config: str, split: str) -> None:
        self.config, self.split = config, split
        self.speakers = speakers(split)
        self._espeak, self._said = espeak, 0
        self._heard: deque[np.ndarray] = deque(maxlen=_KEPT)
        rng = self.rng("babble")
        for _ in range(_KEPT):
            self.say(texts.sentence(rng), pick(rng, self.speakers))

    def rng(self, key: int | str) -> np.random.Generator:
        """Draws for one row."""
        digest = hashlib.sha256(f"spoken/{self.config}/{self.split}/{key}".encode()).digest()
        return np.random.default_rng(int.from_bytes(digest[:8]))

    def say(
        self,
        text: str,
        speaker: Speaker,
        *,
        language: str | None = None,
        pace: float = 1.0,
        pitch: int = 0,
        speed: float = 1.0,
    ) -> Utterance:
        """A text in a speaker's own English, or in another language of espeak-ng's.

        Args:
            text: in that language.
            speaker: who says it.
            language: espeak's name of it.
            pace: times as fast as the speaker is used to.
            pitch: how much higher, of 100.
            speed: of the playback, which changes the pitch too.
        """
        voice = speaker.voice(language, pace, pitch)
        foreign = language is None and bool(speaker.accent)
        if foreign:
            text = accented(self._espeak.transcribed(text, voice), speaker.accent)
        self._said += 1
        speech = self._espeak.say(text, voice, seed=self._said, phonemes=foreign)
        samples = resampled(speech.samples.astype(np.float32) / 32768, self._espeak.rate, speed)
        moments = [sample / self._espeak.rate / speed for _, sample in speech.phonemes]
        ends = [*moments[1:], len(samples) / RATE]
        timed = [(name, *at) for (name, _), *at in zip(speech.phonemes, moments, ends, strict=True)]
        if len(samples) >= _LONG * RATE:
            self._heard.append(samples)
        return Utterance(samples, [phoneme for phoneme in timed if not phoneme[0].startswith("_")])

    def anybody(self, rng: np.random.Generator, text: str, language: str | None = None) -> tuple[Speaker, Utterance]:
        """A text said by a drawn speaker of the split, in a drawn pace and pitch."""
        speaker = pick(rng, self.speakers)
        pace, pitch, speed = rng.uniform(0.8, 1.25), int(rng.integers(-10, 11)), int(rng.integers(92, 109)) / 100
        return speaker, self.say(text, speaker, language=language, pace=pace, pitch=pitch, speed=speed)

    def record(self, samples: np.ndarray, rng: np.random.Generator, conditions: Conditions) -> np.ndarray:
        """A voice under drawn conditions, before the babble of who spoke last."""
        return recorded(samples, rng, conditions, self.babble())

    def babble(self) -> list[np.ndarray]:
        """What was said before the last utterance."""
        return list(self._heard)[:-1]

    def row(self, number: int, samples: np.ndarray, speaker: str, **columns: Any) -> Row:
        """A row with its sound."""
        name = f"{self.config}-{self.split}-{number:05d}"
        seconds = len(samples) / RATE
        return {"id": name, "audio": flac(samples, name), "speaker": speaker, "seconds": seconds, **columns}


def flac(samples: np.ndarray, name: str) -> Row:
    """Samples, floats or 16-bit integers, as the bytes of a FLAC file."""
    stream = io.BytesIO()
    whole = samples if samples.dtype == np.int16 else quantised(samples)
    soundfile.write(stream, whole, RATE, format="FLAC", subtype="PCM_16")
    return {"bytes": stream.getvalue(), "path": f"{name}.flac"}
