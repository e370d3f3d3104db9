"""Which examples are shown: the same ones for every model, as seed, task and row alone decide.

Fewer examples are the first of more: one seed's draw of 4 is the beginning of its draw of 8, so that a curve over
their number is not noisier than it need be. No row is ever shown itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any, Literal

from hfcourse.errors import ConfigError, DataError
from hfcourse.prompting.rendering import Row

Select = Literal["random", "first", "balanced", "nearest"]


@dataclass(frozen=True)
class Draw:
    """The examples of one task under one seed."""

    task: str
    """With the seed it decides what is drawn."""
    pool: Sequence[Row]
    """Where examples come from."""
    pool_name: str
    """What errors call it."""
    select: Select = "random"
    """How they are chosen: at random, the first ones, equally many of each class, or the most similar ones."""
    seed: int = 0
    """Decides what is random."""
    by_row: bool = False
    """Draw anew for every row, instead of once."""
    labels: Callable[[], Sequence[Hashable]] | None = None
    """The class of every example; None: the task has none."""
    neighbours: Neighbours | None = None
    """The search for similar examples."""

    @property
    def is_fixed(self) -> bool:
        """Whether another seed would show the same."""
        return self.select in {"first", "nearest"}

    @property
    def is_of_a_row(self) -> bool:
        """Whether rows have examples of their own."""
        return self.by_row or self.select == "nearest"

    def first(self, count: int) -> list[Row]:
        """The first of the order that all rows share."""
        return list(islice(self._fixed, count))

    def shown(self, row: Row, number: int, shots: int) -> list[Row]:
        """The examples in front of a row, the most similar one nearest to it.

        Args:
            row: the one that is asked about; never among its own examples.
            number: its place in the table.
            shots: how many.

        Raises:
            DataError: there are not as many.
        """
        if not shots:
            return []
        found = list(islice((example for example in self._order(row, number) if not _same(example, row)), shots))
        if len(found) < shots:
            raise DataError(
                f"task {self.task}: {shots} examples are asked for, and {self.pool_name} has "
                f"{len(found)}{' others' if len(found) < len(self.pool) else ''}: give fewer --shots"
            )
        return found[::-1] if self.select == "nearest" else found

    def _order(self, row: Row, number: int) -> Iterator[Row]:
        """The pool, best first."""
        if self.select == "nearest":
            assert self.neighbours is not None
            return (self.pool[place] for place in self.neighbours.of(number))
        if self.select == "first" or not self.by_row:
            return iter(self._fixed)
        return self._drawn(f"{number}")

    @cached_property
    def _fixed(self) -> _Remembered:
        """The order that all rows share."""
        return _Remembered(iter(self.pool) if self.select == "first" else self._drawn("all"))

    def _drawn(self, key: str) -> Iterator[Row]:
        rng = random.Random(f"{self.seed}/{self.task}/{key}")
        places = _turns(self._classes, rng) if self.select == "balanced" else _shuffled(range(len(self.pool)), rng)
        return (self.pool[place] for place in places)

    @cached_property
    def _classes(self) -> list[list[int]]:
        """The places of each class's examples."""
        if self.labels is None:
            raise ConfigError(f"select is balanced, and task {self.task} has no classes: take random")
        found: dict[Hashable, list[int]] = {}
        for place, label in enumerate(self.labels()):
            found.setdefault(label, []).append(place)
        return [found[label] for label in sorted(found, key=str)]


class _Remembered:
    """An iterator that can be begun again, and reads no further than somebody asks."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._known: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        yield from self._known
        for row in self._rows:
            self._known.append(row)
            yield row


def _same(example: Row, row: Row) -> bool:
    return dict(example) == dict(row)


def _shuffled(places: Sequence[int], rng: random.Random) -> Iterator[int]:
    """All of them in a random order, of which only the beginning need be computed."""
    moved: dict[int, int] = {}  # Fisher and Yates, on the places that were touched
    for done in range(len(places)):
        other = rng.randrange(done, len(places))
        yield places[moved.get(other, other)]
        moved[other] = moved.get(done, done)


def _turns(classes: Iterable[Sequence[int]], rng: random.Random) -> Iterator[int]:
    """One of each class in turn, in a new order each time, until all classes are used up."""
    orders = [_shuffled(places, rng) for places in classes]
    while orders:
        rng.shuffle(orders)
        for order in list(orders):
            place = next(order, None)
            if place is None:
                orders.remove(order)
            else:
                yield place


class Neighbours:
    """The most similar examples of every question, by TF-IDF over parts of words (KATE, arXiv 2101.06804).

    Parts of words need no list of words and no spaces: they serve any language.
    """

    def __init__(self, pool: Sequence[str], questions: Sequence[str], most: int) -> None:
        """
        Args:
            pool: the examples' questions.
            questions: what is asked.
            most: the largest number of neighbours that will be looked at.
        """
        self._texts = (pool, questions)
        self._most = min(most, len(pool))

    def of(self, number: int) -> list[int]:
        """Places in the pool of a question's neighbours, the nearest first; of equally near ones the first."""
        return self._found[number]  # type: ignore[no-any-return]

    @cached_property
    def _found(self) -> Any:
        import numpy as np
        from sklearn.feature_extraction.text import TfidfVectorizer

        pool, questions = self._texts
        vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), sublinear_tf=True, dtype=np.float32)
        examples = vectorizer.fit_transform(pool)
        asked = vectorizer.transform(questions)
        found: list[list[int]] = []
        for start in range(0, asked.shape[0], 256):
            near = -(asked[start : start + 256] @ examples.T).toarray()
            found += near.argsort(axis=1, kind="stable")[:, : self._most].tolist()
        return found
