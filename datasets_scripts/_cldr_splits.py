"""Which split of cldr a concept belongs to: an earlier split holds no phrase of a later one, not even as a part."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from ._splits import share

SPLITS = ("train", "dev", "test")
_HELD_OUT = 0.16
# Between words; and the scripts that write none between them, whose characters are taken one by one.
_BREAKS = re.compile(r"[\s!-/:-@\[-`{-~¡-¿،\u2000-\u206f\u3000-\u303f\uff00-\uff0f]+")
_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")

Words = tuple[str, ...]


class Splits:
    """The splits of concepts, drawn by their names and then moved.

    A short phrase is often a part of longer ones: a month of dates, ``seven`` of ``one hundred and seven``. What is
    said inside a phrase of ``train`` moves there, and what is then said inside one of ``dev`` moves to ``dev``; so do
    concepts of one name.

    Args:
        phrases: each concept with a phrase of it, in whichever language.
    """

    def __init__(self, phrases: Iterable[tuple[str, str]]) -> None:
        said = [(concept, words(text)) for concept, text in phrases]
        self._concepts: dict[Words, set[str]] = defaultdict(set)
        for concept, phrase in said:
            self._concepts[phrase].add(concept)
        parts: dict[str, set[str]] = defaultdict(set)
        for concept, phrase in said:
            parts[concept].update(self._parts(phrase))
        self._of = {concept: _drawn(concept) for concept in parts}
        for split in SPLITS[:-1]:
            self._pull(split, parts)

    def __getitem__(self, concept: str) -> str:
        return self._of[concept]

    def may_hold(self, split: str, text: str) -> bool:
        """Whether nothing in a text is a phrase of a later split."""
        return not any(_later(self[concept], split) for concept in self._parts(words(text)))

    def _parts(self, phrase: Words) -> Iterator[str]:
        for run in runs(phrase):
            yield from self._concepts.get(run, ())

    def _pull(self, split: str, parts: dict[str, set[str]]) -> None:
        waiting = [concept for concept, of in self._of.items() if of == split]
        while waiting:
            for part in parts[waiting.pop()]:
                if _later(self._of[part], split):
                    self._of[part] = split
                    waiting.append(part)


def words(text: str) -> Words:
    """A text's words, without case and punctuation."""
    spaced = _UNSPACED.sub(r" \g<0> ", text.casefold())
    return tuple(word for word in _BREAKS.split(spaced) if word)


def runs(phrase: Words) -> Iterator[Words]:
    """Every run of one or more words."""
    ends = range(1, len(phrase) + 1)
    return (phrase[start:end] for end in ends for start in range(end))


def _drawn(concept: str) -> str:
    drawn = share(f"cldr/{concept}")
    return "test" if drawn < _HELD_OUT else "dev" if drawn < 2 * _HELD_OUT else "train"


def _later(one: str, other: str) -> bool:
    return SPLITS.index(one) > SPLITS.index(other)
