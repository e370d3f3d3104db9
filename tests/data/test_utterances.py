"""Words put together to utterances: cut at the longest pauses, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from hfcourse.data.utterances import Words


def words(begins: list[float], ends: list[float], counts: list[int] | None = None) -> Words:
    """Words of one token each, of a second's frames and a score by its number."""
    number = len(begins)
    return Words(
        texts=[f"w{at}" for at in range(len(counts or begins))],
        offsets=np.concatenate([[0], np.cumsum(counts or [1] * number)]),
        begins=np.array(begins),
        ends=np.array(ends),
        scores=-np.arange(number, dtype=np.float64),
        frames=np.arange(number) % 3,
    )


def test_cut_at_the_longest_pause_first() -> None:
    found = words([0, 2, 4.5, 7, 9.1], [1.6, 4, 6, 9, 10])
    assert found.cut(10) == [(0, 5)]
    assert found.cut(9) == [(0, 3), (3, 5)]  # a second behind word 2
    assert found.cut(5) == [(0, 2), (2, 3), (3, 5)]
    assert found.cut(0.1) == [(at, at + 1) for at in range(5)]


def test_no_scraps_where_there_is_a_choice() -> None:
    found = words([0, 1, 3], [0.2, 2.5, 4])
    assert found.cut(3.5) == [(0, 2), (2, 3)]  # the pause behind word 0 is longer
    assert words([0, 1], [0.2, 2.5]).cut(2) == [(0, 1), (1, 2)]


def test_what_is_not_spoken_stays_with_the_word_before() -> None:
    found = words([0, 5, 10], [1, 6, 11], counts=[0, 1, 0, 1, 0, 0, 1])
    assert found.cut(2) == [(0, 3), (3, 6), (6, 7)]


def test_margins_end_at_half_a_pause() -> None:
    found = words([0.1, 2, 4.5], [1.5, 4, 6])
    starts, ends = found.times([(0, 1), (1, 3)], margin=0.4, last=6.1)
    assert starts == pytest.approx([0.0, 1.75]) and ends == pytest.approx([1.75, 6.1])
    assert found.confidence(0, 3) == pytest.approx(-3 / 3) and np.isnan(found.confidence(0, 1))
