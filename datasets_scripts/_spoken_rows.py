"""Rows of spoken in which one voice says one thing.

Each maker yields the rows of a split, as many as it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from . import _spoken_texts as texts
from ._augment import NOISES, RATE, Conditions, levelled, noise
from ._spoken_languages import SOURCES, WORDS, foreign, phrase
from ._spoken_lecture import lecture
from ._spoken_voices import identities
from ._studio import Row, Studio, Utterance
from ._templates import Item, drawn, pick, written

COMMANDS = (*texts.COMMANDS, "unknown", "silence")
RATES, PITCHES, VOLUMES = ("slow", "normal", "fast"), ("low", "normal", "high"), ("soft", "normal", "loud")
_USUAL = Conditions()
# A voice is to be known by more than the mean of its spectrum, which the microphones change most.
_ANY_MICROPHONE = Conditions(microphone=8.0, telephone=0.2)
# Pretraining hears better recordings too.
_MIXED = Conditions(snr=(5.0, 35.0), room=0.5)
# The background is as loud for everybody, so that a soft voice is one against it, whatever the level of the whole.
_PROSODY = Conditions(snr=None, room=0.5, microphone=3.0, telephone=0.0, level=None)
_PACES, _HEIGHTS = (0.62, 1.0, 1.55), (-28, 0, 28)
_LEVELS, _TILTS, _BACKGROUND = (-38.0, -28.0, -18.0), (-0.5, 0.0, 0.5), -48.0
_SECOND = RATE


def new_texts(
    studio: Studio, count: int, make: Callable[[np.random.Generator], Item], text: Callable[[Item], str] = str
) -> Iterator[tuple[int, np.random.Generator, Item]]:
    """For each row its number, its draws and something of this split to say, new as long as there is something new."""
    said: set[str] = set()
    for number in range(count):
        rng = studio.rng(number)
        yield number, rng, drawn(partial(make, rng), studio.split, said, text)


def spoken_row(
    studio: Studio,
    number: int,
    rng: np.random.Generator,
    text: str,
    language: str | None = None,
    conditions: Conditions = _USUAL,
) -> tuple[Row, Utterance]:
    """A row with a text said by anybody of the split, under drawn conditions, and what was said before those."""
    speaker, spoken = studio.anybody(rng, text, language)
    return studio.row(number, studio.record(spoken.samples, rng, conditions), speaker.name), spoken


def unlabelled(studio: Studio, count: int) -> Iterator[Row]:
    """English, and thirty other languages: their words as they come."""
    languages = sorted(WORDS)

    def words(rng: np.random.Generator) -> tuple[str | None, str]:
        language = pick(rng, languages) if rng.random() < 0.6 else None
        return language, foreign(rng, language) if language else texts.sentence(rng)

    for number, rng, (language, text) in new_texts(studio, count, words, lambda found: found[1]):
        row, _ = spoken_row(studio, number, rng, text, language, _MIXED)
        yield row | {"language": language or "en"}


def commands(studio: Studio, count: int) -> Iterator[Row]:
    """A second with one of ten words, another word or none, anywhere in it."""
    others = texts.others()
    for number in range(count):
        rng = studio.rng(number)
        label = pick(rng, COMMANDS)
        if label == "silence":
            sound = noise(pick(rng, NOISES[:3]), _SECOND, rng)
            yield studio.row(number, levelled(sound, rng.uniform(-50, -25)), "", label=label)
        else:
            yield _clip(studio, number, rng, pick(rng, others) if label == "unknown" else label, label)


def digits(studio: Studio, count: int) -> Iterator[Row]:
    """A second with one digit, anywhere in it."""
    for number in range(count):
        rng = studio.rng(number)
        digit = pick(rng, texts.DIGITS)
        yield _clip(studio, number, rng, digit, digit)


def _clip(studio: Studio, number: int, rng: np.random.Generator, word: str, label: str) -> Row:
    speaker, spoken = studio.anybody(rng, word)
    rest = max(_SECOND - len(spoken.samples), 0)
    before = int(rng.integers(rest + 1))
    heard = studio.record(np.pad(spoken.samples, (before, rest - before)), rng, _USUAL)
    # Cut where a room's tail goes on after the second.
    return studio.row(number, heard[: len(spoken.samples) + rest], speaker.name, label=label)


def voices(studio: Studio, count: int) -> Iterator[Row]:
    """Which of all voices it is, those that other configs test on among them; sentences and microphones change."""
    for number, rng, text in new_texts(studio, count, texts.sentence):
        speaker = pick(rng, identities())
        spoken = studio.say(text, speaker, pace=rng.uniform(0.85, 1.2), pitch=int(rng.integers(-6, 7)))
        heard = studio.record(spoken.samples, rng, _ANY_MICROPHONE)
        yield studio.row(number, heard, speaker.name, label=speaker.name)


def phones(studio: Studio, count: int) -> Iterator[Row]:
    """A sentence with its phones and when each is said."""
    for number, rng, text in new_texts(studio, count, texts.sentence):
        row, spoken = spoken_row(studio, number, rng, text)
        names, starts, ends = zip(*spoken.phones(), strict=True)
        yield row | {"text": text, "phones": names, "starts": starts, "ends": ends}


def sentences(studio: Studio, count: int) -> Iterator[Row]:
    """A sentence with its transcript."""
    for number, rng, text in new_texts(studio, count, texts.sentence):
        row, _ = spoken_row(studio, number, rng, text)
        yield row | {"text": text}


def intents(studio: Studio, count: int) -> Iterator[Row]:
    """An order for a home: what is to be done, to what, and where."""
    for number, rng, order in new_texts(studio, count, texts.order, lambda found: found[0]):
        row, _ = spoken_row(studio, number, rng, order[0])
        yield row | dict(zip(("text", "action", "object", "location"), order, strict=True))


def slots(studio: Studio, count: int) -> Iterator[Row]:
    """A request, with the words that fill its slots."""
    for number, rng, (tokens, tags) in new_texts(studio, count, texts.request, lambda found: " ".join(found[0])):
        text = " ".join(tokens)
        row, _ = spoken_row(studio, number, rng, text)
        yield row | {"text": text, "tokens": tokens, "tags": tags}


def prosody(studio: Studio, count: int) -> Iterator[Row]:
    """Pace, pitch and volume against what is usual for the voice. A loud one is brighter, as an effort makes it."""
    for number, rng, text in new_texts(studio, count, texts.sentence):
        rate, pitch, volume = rng.integers(3, size=3)
        speaker = pick(rng, studio.speakers)
        pace, height = _PACES[rate] * rng.uniform(0.92, 1.08), _HEIGHTS[pitch] + int(rng.integers(-5, 6))
        samples = studio.say(text, speaker, pace=pace, pitch=height).samples
        samples = samples - np.float32(_TILTS[volume]) * np.concatenate([samples[:1], samples[:-1]])
        heard = levelled(studio.record(samples, rng, _PROSODY), _LEVELS[volume] + rng.uniform(-2, 2))
        heard = heard + levelled(noise("pink", len(heard), rng), _BACKGROUND)
        named = {"rate": RATES[rate], "pitch": PITCHES[pitch], "volume": VOLUMES[volume]}
        yield studio.row(number, heard, speaker.name, text=text, label="-".join(named.values()), **named)


def translation(studio: Studio, count: int) -> Iterator[Row]:
    """A German, French or Mandarin phrase with its transcript, and in English: no two splits say the same there."""

    def phrases(rng: np.random.Generator) -> tuple[str, str, str]:
        language = pick(rng, list(SOURCES))
        return language, *phrase(rng, language)

    for number, rng, (language, text, english) in new_texts(studio, count, phrases, lambda found: found[2]):
        row, _ = spoken_row(studio, number, rng, text, SOURCES[language])
        yield row | {"text": written(text), "translation": english, "language": language}


def lectures(studio: Studio, count: int) -> Iterator[Row]:
    """A sentence of a lecture in Mandarin with English terms, with its transcript, and in English."""
    for number, rng, (text, english) in new_texts(studio, count, lecture, lambda found: found[1]):
        row, _ = spoken_row(studio, number, rng, text, SOURCES["mandarin"])
        yield row | {"text": written(text), "translation": english}
