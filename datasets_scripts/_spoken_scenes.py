"""Rows of spoken that are made of several recordings: two speakers at once, trials, searches, a voice and its noise.

Each maker yields the rows of a split, as many as it is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import partial

import numpy as np

from . import _spoken_texts as texts
from ._augment import NOISES, RATE, Conditions, at_snr, levelled, microphone, noise, quantised, room, through
from ._spoken_rows import new_texts, spoken_row
from ._spoken_voices import Speaker
from ._studio import Row, Studio, Utterance, flac
from ._templates import drawn, pick, split_of

_TURNS = (2, 5)
# Seconds between one's end and the other's beginning; below 0 both speak.
_GAPS = (-1.5, 0.5)
_TRIAL = Conditions(snr=(8.0, 25.0), microphone=3.0)
_SEARCHED, _SEARCHING = Conditions(), Conditions(snr=(15.0, 30.0), room=0.3, telephone=0.0)
_QUERIES, _FITTING = 0.25, 0.8
# What is looked for; a word of this many letters is heard well enough to be found.
_TERMS, _SHORTEST = ("noun", "nouns", "place", "job"), 5


def mixtures(studio: Studio, count: int) -> Iterator[Row]:
    """Two people who take turns and at times speak at once: the sum of what each says, and who speaks when."""
    for number in range(count):
        rng = studio.rng(number)
        pair = [studio.speakers[k] for k in rng.choice(len(studio.speakers), 2, replace=False)]
        segments, tracks = _conversation(studio, rng, pair)
        heard = [through(track, room(rng), microphone(rng, 2.0)) for track in tracks]
        length = max(map(len, heard))
        heard = [np.pad(levelled(track, -25 + rng.uniform(-3, 3)), (0, length - len(track))) for track in heard]
        loudest = np.abs(heard[0] + heard[1]).max()
        # Whole numbers add up to whole numbers: the sources are the mixture to the last bit.
        sources = [quantised(track * min(1.0, 0.98 / loudest)) for track in heard]
        row = studio.row(number, sources[0] + sources[1], " ".join(speaker.name for speaker in pair))
        files = [flac(source, f"{row['id']}-{k}") for k, source in enumerate(sources)]
        yield row | {"segments": segments, "sources": files}


def _conversation(studio: Studio, rng: np.random.Generator, pair: list[Speaker]) -> tuple[list[Row], list[np.ndarray]]:
    """Who speaks from when to when, and a track for each of the two, equally long."""
    placed: list[tuple[int, int, Utterance]] = []
    segments: list[Row] = []
    free = [0.0, 0.0]
    for turn in range(int(rng.integers(*_TURNS))):
        who = turn % 2
        spoken = studio.say(texts.sentence(rng), pair[who])
        # Nobody interrupts himself.
        start = max(free[1 - who] + rng.uniform(*_GAPS), free[who] + 0.2)
        sample = max(round((start - spoken.start) * RATE), 0)
        offset = sample / RATE
        segments.append({"speaker": who, "start": offset + spoken.start, "end": offset + spoken.end})
        free[who] = offset + spoken.end
        placed.append((who, sample, spoken))
    length = max(sample + len(spoken.samples) for _, sample, spoken in placed)
    tracks = [np.zeros(length, np.float32) for _ in pair]
    for who, sample, spoken in placed:
        tracks[who][sample : sample + len(spoken.samples)] += spoken.samples
    return sorted(segments, key=lambda segment: segment["start"]), tracks


def verification(studio: Studio, count: int) -> Iterator[Row]:
    """In train one recording with its speaker; in dev and test two recordings, and whether one voice speaks in both."""
    for number, rng, text in new_texts(studio, count, texts.sentence):
        speaker = pick(rng, studio.speakers)
        row = studio.row(number, _trial(studio, rng, text, speaker), speaker.name)
        if studio.split == "train":
            yield row | {"audio_pair": None, "label": -1}
            continue
        same = rng.random() < 0.5
        others = [other for other in studio.speakers if other.variant != speaker.variant]
        other_text = drawn(partial(texts.sentence, rng), studio.split, {text})
        second = _trial(studio, rng, other_text, speaker if same else pick(rng, others))
        label = "same" if same else "different"
        yield row | {"audio_pair": flac(second, f"{row['id']}-pair"), "label": label}


def _trial(studio: Studio, rng: np.random.Generator, text: str, speaker: Speaker) -> np.ndarray:
    spoken = studio.say(text, speaker, pace=rng.uniform(0.9, 1.15), pitch=int(rng.integers(-4, 5)))
    return studio.record(spoken.samples, rng, _TRIAL)


def queries(studio: Studio, count: int) -> Iterator[Row]:
    """Documents are sentences; a query is one word of some of them, said alone. No two splits search the same term."""
    terms = searched(studio.split)
    number_of_documents = count - max(1, round(_QUERIES * count))
    documents: dict[str, list[str]] = {}
    for number, rng, text in new_texts(studio, number_of_documents, partial(_document, terms)):
        row, _ = spoken_row(studio, number, rng, text, conditions=_SEARCHED)
        documents[row["id"]] = text.split()
        yield row | {"role": "document", "text": text, "matches": []}
    found = sorted({word for words in documents.values() for word in words}.intersection(terms))
    for number in range(number_of_documents, count):
        rng = studio.rng(number)
        term = pick(rng, found)
        row, _ = spoken_row(studio, number, rng, term, conditions=_SEARCHING)
        matches = [name for name, words in documents.items() if term in words]
        yield row | {"role": "query", "text": term, "matches": matches}


def _document(terms: Collection[str], rng: np.random.Generator) -> str:
    """A sentence; most of them have one of the terms."""
    wanted = rng.random() < _FITTING
    while True:
        text = texts.sentence(rng)
        if not wanted or not set(terms).isdisjoint(text.split()):
            return text


def searched(split: str) -> list[str]:
    """The terms of a split's queries: words that stand in no other word."""
    known = texts.words()
    terms = sorted({word for name in _TERMS for word in texts.words(name) if len(word) >= _SHORTEST})
    alone = [term for term in terms if not any(term in word for word in known if word != term)]
    return [term for term in alone if split_of(term) == split]


def noisy(studio: Studio, count: int) -> Iterator[Row]:
    """A voice in noise, and without."""
    for number, rng, text in new_texts(studio, count, texts.sentence):
        speaker, spoken = studio.anybody(rng, text)
        clean = levelled(through(spoken.samples, np.ones(1, np.float32), microphone(rng, 2.0)), rng.uniform(-32, -22))
        kind, snr = pick(rng, NOISES), rng.uniform(0, 15)
        heard = clean + at_snr(clean, noise(kind, len(clean), rng, studio.babble()), snr)
        scale = np.float32(min(1.0, 0.98 / np.abs(heard).max()))
        row = studio.row(number, heard * scale, speaker.name, text=text, noise=kind, snr=snr)
        yield row | {"clean": flac(clean * scale, f"{row['id']}-clean")}
