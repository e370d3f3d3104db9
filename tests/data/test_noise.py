"""Draws that belong to examples: statistics, budgets, words that stay whole, all against plain loops."""

from __future__ import annotations

from itertools import groupby, pairwise

import numpy as np
import pytest

from hfcourse.data import noise

ROWS, WIDTH = 400, 64


@pytest.fixture(scope="module")
def maskable() -> np.ndarray:
    """Rows of different lengths with a gap ([SEP]) inside; one row is all special."""
    generator = np.random.default_rng(0)
    inside = np.arange(WIDTH) < generator.integers(8, WIDTH, size=ROWS)[:, None]
    inside[:, 0] = False
    inside[np.arange(ROWS), generator.integers(1, 8, size=ROWS)] = False
    inside[7] = False
    return inside


@pytest.fixture(scope="module")
def starts() -> np.ndarray:
    return np.random.default_rng(1).random((ROWS, WIDTH)) < 0.6


def words_of(maskable: np.ndarray, starts: np.ndarray) -> list[list[list[int]]]:
    """Word by word, the positions of each row; a plain loop."""
    found = []
    for row, begin in zip(maskable, starts, strict=True):
        words: list[list[int]] = []
        for at in np.flatnonzero(row):
            if begin[at] or at == 0 or not row[at - 1]:
                words.append([])
            words[-1].append(int(at))
        found.append(words)
    return found


def test_numbers_are_uniform_and_independent() -> None:
    rows = np.arange(2000)
    draws = noise.uniform(1, 0, rows, 50)
    assert draws.shape == (2000, 50) and draws.dtype == np.float64
    assert draws.min() >= 0 and draws.max() < 1
    counts, _ = np.histogram(draws, bins=20, range=(0, 1))
    expected = draws.size / 20
    assert ((counts - expected) ** 2 / expected).sum() < 44  # chi squared, 19 degrees of freedom: p 0.001
    others = [noise.uniform(2, 0, rows, 50), noise.uniform(1, 1, rows, 50), noise.uniform(1, 0, rows, 50, stream=1)]
    for other in [*others, np.roll(draws, 1, axis=0), np.roll(draws, 1, axis=1)]:
        assert abs(np.corrcoef(draws.ravel(), other.ravel())[0, 1]) < 0.015
        assert (draws == other).mean() < 1e-4


def test_a_number_depends_on_seed_epoch_row_and_stream_alone() -> None:
    draws = noise.uniform(3, 5, np.array([4, 9, 2]), 6, stream=2)
    assert np.array_equal(draws[1], noise.uniform(3, 5, np.array([9]), 6, stream=2)[0])
    assert np.array_equal(draws[:, :4], noise.uniform(3, 5, np.array([4, 9, 2]), 4, stream=2))
    # Pinned: a resumed run on another machine must draw the same.
    pinned = noise.uniform(0, -1, np.array([0, 10**12]), 2)
    assert pinned[0].tolist() == PINNED[0]
    assert pinned[1].tolist() == PINNED[1]


PINNED = [[0.5223189630760005, 0.7687100133906105], [0.9023153673745693, 0.7719295692892835]]


@pytest.mark.parametrize("rate", [0.02, 0.15, 0.4, 0.99])
def test_tokens_are_chosen_by_rank(maskable: np.ndarray, rate: float) -> None:
    draws = noise.uniform(0, 0, np.arange(ROWS), WIDTH)
    chosen = noise.choose_tokens(maskable, rate, draws)
    for row, inside, draw in zip(chosen, maskable, draws, strict=True):
        allowed = np.flatnonzero(inside)
        count = min(max(round(rate * len(allowed)), 1), len(allowed))
        smallest = sorted(allowed, key=lambda at, d=draw: d[at])[:count]
        assert np.flatnonzero(row).tolist() == sorted(smallest)


def test_word_numbers(maskable: np.ndarray, starts: np.ndarray) -> None:
    numbers = noise.word_numbers(maskable, starts)
    for row, words in zip(numbers, words_of(maskable, starts), strict=True):
        assert {n: np.flatnonzero(row == n).tolist() for n in range(row.max() + 1)} == dict(enumerate(words))
    assert ((numbers == -1) == ~maskable).all()


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_whole_words(maskable: np.ndarray, starts: np.ndarray, rate: float) -> None:
    draws = noise.uniform(0, 0, np.arange(ROWS), WIDTH)
    chosen = noise.choose_words(maskable, starts, rate, draws)
    for row, draw, words in zip(chosen, draws, words_of(maskable, starts), strict=True):
        total = sum(map(len, words))
        budget = min(max(round(rate * total), 1), total)
        expected: list[int] = []
        for number in sorted(range(len(words)), key=lambda n, d=draw: d[n]):
            if expected and abs(len(expected) + len(words[number]) - budget) > abs(len(expected) - budget):
                break
            expected += words[number]
        assert np.flatnonzero(row).tolist() == sorted(expected)
    assert chosen[maskable].mean() == pytest.approx(rate, abs=0.01)


@pytest.mark.parametrize("rate", [0.15, 0.4])
def test_spans(rate: float) -> None:
    """Long rows, so that the ends of rows weigh little."""
    rows, width = 300, 400
    maskable = np.ones((rows, width), dtype=bool)
    maskable[:, [0, 150, -1]] = False
    starts = np.random.default_rng(1).random((rows, width)) < 0.7
    numbers = np.arange(rows)
    order, lengths = noise.uniform(0, 0, numbers, width), noise.uniform(0, 0, numbers, width, stream=1)
    chosen = noise.choose_spans(maskable, starts, rate, order, lengths)
    assert not chosen[~maskable].any()
    assert chosen[maskable].mean() == pytest.approx(rate, abs=0.01)
    runs: list[int] = []
    for row, words in zip(chosen, words_of(maskable, starts), strict=True):
        masked = [row[word] for word in words]
        assert all(word.all() or not word.any() for word in masked)
        runs += [sum(1 for _ in run) for on, run in groupby(word.all() for word in masked) if on]
    if rate == 0.15:  # at a low rate few runs touch each other: their lengths are those drawn, 3.8 words on average
        assert 3.8 < np.mean(runs) < 4.6


def test_span_lengths_are_geometric() -> None:
    """One word a token and everything chosen one run at a time: the first run of each row shows its drawn length."""
    rows, width = 4000, 40
    maskable = starts = np.ones((rows, width), dtype=bool)
    lengths = noise.uniform(0, 0, np.arange(rows), width, stream=1)
    first_run_first = np.tile(np.linspace(0, 0.9, width), (rows, 1))
    chosen = noise.choose_spans(maskable, starts, 0.001, first_run_first, lengths)
    counts = np.bincount(chosen.sum(axis=1), minlength=12)
    weights = 0.2 * 0.8 ** np.arange(10)
    assert counts[0] == counts[11] == 0
    assert counts[1:11] / rows == pytest.approx(weights / weights.sum(), abs=0.03)
    assert all((np.diff(np.flatnonzero(row)) == 1).all() and row[0] for row in chosen)


@pytest.mark.parametrize("kind", ["tokens", "words", "spans"])
def test_choices_do_not_depend_on_the_batch(maskable: np.ndarray, starts: np.ndarray, kind: str) -> None:
    def choose(rows: np.ndarray, epoch: int) -> np.ndarray:
        draws, lengths = (noise.uniform(0, epoch, rows, WIDTH, stream) for stream in (0, 1))
        if kind == "tokens":
            return noise.choose_tokens(maskable[rows], 0.15, draws)
        if kind == "words":
            return noise.choose_words(maskable[rows], starts[rows], 0.15, draws)
        return noise.choose_spans(maskable[rows], starts[rows], 0.15, draws, lengths)

    every, some = np.arange(ROWS), np.array([300, 7, 12])
    assert np.array_equal(choose(every, 0)[some], choose(some, 0))
    again, later = choose(every, 0), choose(every, 1)
    assert np.array_equal(again, choose(every, 0)) and not np.array_equal(again, later)
    assert not again[7].any()  # nothing to choose from
    assert again[maskable.any(axis=1)].any(axis=1).all()  # one at least


def test_eighty_ten_ten() -> None:
    rows = np.arange(2000)
    chosen = noise.choose_tokens(np.ones((2000, WIDTH), dtype=bool), 0.15, noise.uniform(0, 0, rows, WIDTH))
    action = noise.actions(chosen, noise.uniform(0, 0, rows, WIDTH, 1))
    assert ((action > 0) == chosen).all()
    shares = [(action[chosen] == a).mean() for a in (noise.MASK, noise.RANDOM, noise.KEEP)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    all_masked = noise.actions(chosen, noise.uniform(0, 0, rows, WIDTH, 1), random=0.0, keep=0.0)
    assert (all_masked[chosen] == noise.MASK).all()


def test_corrupt() -> None:
    rows = np.arange(500)
    ids = np.random.default_rng(0).integers(5, 30, size=(500, WIDTH))
    action = noise.actions(np.ones_like(ids, dtype=bool), noise.uniform(0, 0, rows, WIDTH), 0.4, 0.3)
    action[:, 0] = 0
    ordinary = np.arange(10, 20)
    noisy = noise.corrupt(ids, action, 4, ordinary, noise.uniform(0, 0, rows, WIDTH, 1))
    assert (noisy[action == noise.MASK] == 4).all()
    unchanged = (action == 0) | (action == noise.KEEP)
    assert (noisy[unchanged] == ids[unchanged]).all()
    drawn = noisy[action == noise.RANDOM]
    assert np.bincount(drawn, minlength=30)[10:20] / len(drawn) == pytest.approx(0.1, abs=0.02)
    assert np.isin(drawn, ordinary).all()


def test_rows_far_apart_and_next_to_each_other_differ() -> None:
    rows = np.concatenate([np.arange(1000), 10**9 + np.arange(1000), 2**40 + np.arange(1000)])
    first = noise.uniform(0, 0, rows, 1)[:, 0]
    assert len(np.unique(first)) == len(rows)
    assert all(abs(np.corrcoef(first[a:b], first[c:d])[0, 1]) < 0.1 for (a, b), (c, d) in pairwise(_thirds()))


def _thirds() -> list[tuple[int, int]]:
    return [(0, 1000), (1000, 2000), (2000, 3000)]
