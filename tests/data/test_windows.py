"""Windows over a token store: every token once, spread under a limit, cut between words where asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hfcourse.data.token_shards import TokenStore
from hfcourse.data.windows import MovingWindows, Windows

STARTS = np.arange(100) < 40
"""Entries below 40 begin a word."""


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    """Three pieces of made-up tokens."""
    made = TokenStore(tmp_path)
    generator = np.random.default_rng(0)
    pieces = [generator.integers(0, 100, size=size).astype(np.uint16) for size in (1003, 5, 777)]
    made.__dict__["shards"] = [(tokens, np.array([0, len(tokens)])) for tokens in pieces]
    return made


def test_every_window_is_the_stream(store: TokenStore) -> None:
    windows = Windows(store, 10)
    wanted = [list(t[n : n + 10]) for t, _ in store.shards for n in range(0, len(t) // 10 * 10, 10)]
    assert len(windows) == len(wanted) == 177
    assert windows.windows(range(177)).tolist() == wanted
    assert windows.lengths.tolist() == [10] * 177
    rows = windows.take([176, 0])
    assert [row["row"] for row in rows] == [176, 0]
    assert [row["window"].tolist() for row in rows] == [wanted[176], wanted[0]]
    assert rows[0]["source"] is windows


def test_a_limit_takes_from_all_over(store: TokenStore) -> None:
    every = Windows(store, 10).windows(range(177)).tolist()
    some = Windows(store, 10, limit=20)
    assert len(some) == 20
    numbers = [every.index(window) for window in some.windows(range(20)).tolist()]
    assert numbers == [n * 177 // 20 for n in range(20)]
    assert len(Windows(store, 10, limit=10_000)) == 177


def test_parts_share_nothing(store: TokenStore) -> None:
    every = Windows(store, 10).windows(range(177)).tolist()
    train, dev = Windows(store, 10, part=(0.0, 0.9)), Windows(store, 10, part=(0.9, 1.0))
    parts = [part.windows(range(len(part))).tolist() for part in (train, dev)]
    assert parts[0] + parts[1] == every and len(dev) == 18


def test_windows_begin_and_end_between_words(store: TokenStore) -> None:
    windows = Windows(store, 50, starts=STARTS)
    found = windows.windows(range(len(windows)))
    assert found.shape == (len(windows), 50)
    at = 0
    for tokens, _ in store.shards:
        for number in range(max(len(tokens) - 16, 0) // 50):
            moves = [m for m in range(16) if STARTS[tokens[number * 50 + m]]]
            moves = [m for m in moves if STARTS[tokens[number * 50 + m + 50]]] or moves
            begin = number * 50 + (moves[0] if moves else 0)
            assert found[at].tolist() == tokens[begin : begin + 50].tolist()
            at += 1
    assert at == len(windows)


def test_too_few_tokens_are_no_window(store: TokenStore) -> None:
    assert len(Windows(store, 2000)) == 0


def test_windows_that_overlap_ask_for_every_token_once(store: TokenStore) -> None:
    windows = Windows(store, 11, overlap=1)
    wanted = [list(t[n : n + 11]) for t, _ in store.shards for n in range(0, (len(t) - 1) // 10 * 10, 10)]
    assert windows.windows(range(len(windows))).tolist() == wanted
    assert windows.lengths.tolist() == [10] * len(wanted)


def test_a_shift_moves_all_but_what_would_run_over(store: TokenStore) -> None:
    windows = Windows(store, 11, overlap=1, part=(0.0, 0.9))
    plain, moved = (windows.windows(range(len(windows)), shift=shift) for shift in (0, 4))
    ends = {99, len(windows) - 1}  # of the first piece, of the part
    for row in range(len(windows)):
        if row in ends:
            assert np.array_equal(moved[row], plain[row])
        else:
            assert np.array_equal(moved[row], np.concatenate([plain[row][4:], plain[row + 1][1:5]]))


def test_moving_windows_leave_the_reading_to_the_batch(store: TokenStore) -> None:
    windows = MovingWindows(store, 11, overlap=1)
    assert windows.take([3, 0]) == [{"row": 3, "source": windows}, {"row": 0, "source": windows}]
