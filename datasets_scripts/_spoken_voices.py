"""Who speaks: variants of espeak-ng's voice, made speakers by a dialect, a foreign accent, a pitch and a pace.

A variant belongs to one split. Left out are near-copies of another variant (by mean spectrum and pitch), so that an
unseen voice is one; robots; and Reed and caleb, whose breath is never the same twice.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache

import numpy as np

from ._espeak import Voice
from ._templates import lists, pick

VARIANTS = lists("""
train: f3 f4 m1 m2 m4 m7 m8 klatt Alex Alicia Andrea AnxiousAndy Denis Diogo Gene Hugo Jacky Marco Michael Nguyen
    RicishayMax adam antonio david ed edward ian iven iven2 iven4 kaukovalta linda michel mike2 pablo paul pedro rob
    robert shelby steph whisper
dev: f1 grandma anika m5 Mario boris marcelo quincy travis victor
test: f2 f5 Annie belinda zac m3 m6 klatt3 croak Andy Mike Lee Storm benjamin grandpa norbert sandro john
""")
# How many speakers are made of one variant.
_TURNS = {"train": 3, "dev": 2, "test": 2}
DIALECTS = ("en-US", "en", "en-GB-scotland", "en-GB-x-rp", "en-GB-x-gbclan", "en-GB-x-gbcwmd", "en-US-nyc", "en-029")
# English in espeak's phonemes -> as those say it who learnt another language first. The first, most often, is none.
_BEFORE_END = r"(?=[ _]|$)"
_DEVOICED = tuple((one + _BEFORE_END, other) for one, other in zip("bdgvz", "ptkfs", strict=True))
_SHORT_I = r"(?<![aeO])I(?![@2#R])"
ACCENTS: dict[str, tuple[tuple[str, str], ...]] = {
    "": (),
    "german": ((r"w#?", "v"), (r"T", "s"), (r"D", "z"), (r"r-?(?!3)", "R"), *_DEVOICED),
    "french": ((r"h", ""), (r"T", "s"), (r"D", "z"), (_SHORT_I, "i:"), (r"r-?(?!3)", "R")),
    "indian": ((r"w#?", "v"), (r"T", "t["), (r"D", "d["), (r"eI", "e:"), (r"oU", "o:")),
    "spanish": ((r"z", "s"), (r"v", "b"), (_SHORT_I, "i"), (r"dZ", "j"), (r"V", "a"), (r"r-?", "*")),
    "slavic": ((r"w#?", "v"), (r"T", "t"), (r"D", "d"), (r"N", "n"), (r"r-?", "*"), *_DEVOICED),
}


@dataclass(frozen=True)
class Speaker:
    """A voice that says everything in the same pitch, pace and accent."""

    name: str
    variant: str
    dialect: str
    accent: str
    pitch: int
    range: int
    rate: int

    def voice(self, language: str | None = None, pace: float = 1.0, pitch: int = 0) -> Voice:
        """For espeak-ng: in a language (its own English where not given), faster or higher than usual."""
        name = f"{language or 'gmw/' + self.dialect}+{self.variant}"
        return Voice(name, round(self.rate * pace), min(max(self.pitch + pitch, 0), 99), self.range)


def accented(phonemes: str, accent: str) -> str:
    """English phonemes with the sounds of an accent; stress marks and pauses stay."""
    for pattern, sound in ACCENTS[accent]:
        phonemes = re.sub(pattern, sound, phonemes)
    return phonemes


@cache
def speakers(split: str) -> tuple[Speaker, ...]:
    """Everybody of a split."""
    return tuple(_speaker(variant, turn) for turn in range(_TURNS[split]) for variant in VARIANTS[split])


@cache
def identities() -> tuple[Speaker, ...]:
    """One speaker of each variant, whatever its split: whom ``speakers`` tells apart."""
    return tuple(_speaker(variant, 0) for variants in VARIANTS.values() for variant in variants)


def _speaker(variant: str, turn: int) -> Speaker:
    """Its traits, drawn by its name."""
    name = f"{variant}-{turn}"
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(f"speaker/{name}".encode()).digest()[:8]))
    accents = list(ACCENTS)
    return Speaker(
        name,
        variant,
        pick(rng, DIALECTS),
        pick(rng, accents[1:]) if rng.random() < 0.4 else "",
        pitch=int(rng.integers(35, 66)),
        range=int(rng.integers(35, 76)),
        rate=int(rng.integers(145, 205)),
    )
