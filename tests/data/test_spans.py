"""Masks over time against plain loops, the share that they mask, short rows, and that a row is masked on its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from hfcourse.data.noise import uniform
from hfcourse.data.spans import fixed_spans, meeting_spans, places

Mask = Callable[[np.ndarray, float, int, np.ndarray], np.ndarray]
STATES = np.array([1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 21, 50, 99, 100])


def draws_for(states: np.ndarray, extra: int = 0, seed: int = 0) -> np.ndarray:
    return uniform(seed, 0, np.arange(len(states)), int(states.max()) + extra)


def nearest_runs(states: int, rate: float, span: int, draws: list[float]) -> set[int]:
    """One row of `fixed_spans`: runs are written down, ordered by their draws, and the first few are masked."""
    shift = int(draws[0] * span)
    runs: list[list[int]] = []
    for state in range(states):
        if state == 0 or (state + shift) % span == 0:
            runs.append([])
        runs[-1].append(state)
    keys = [draws[0] * span - shift, *draws[1:]][: len(runs)]
    order = sorted(range(len(runs)), key=lambda run: keys[run])
    number = max(1, round(rate * states / span))
    return {state for run in order[:number] for state in runs[run]}


def overlapping_runs(states: int, rate: float, span: int, draws: list[float]) -> set[int]:
    """One row of `meeting_spans`: starts in the order of their draws, each masks what follows it."""
    length = span if states > span else max(states - 1, 1)
    starts = range(states - length + 1)
    number = max(1, int(rate * states / span + draws[0]))
    order = sorted(starts, key=lambda start: draws[1 + start])
    return {state for start in order[:number] for state in range(start, start + length)}


@pytest.mark.parametrize("span", [1, 2, 4, 7, 10])
@pytest.mark.parametrize("rate", [0.15, 0.4, 0.65])
@pytest.mark.parametrize(
    ("function", "one", "extra"), [(fixed_spans, nearest_runs, 0), (meeting_spans, overlapping_runs, 1)]
)
def test_equals_a_plain_loop(
    function: Mask, one: Callable[[int, float, int, list[float]], set[int]], extra: int, rate: float, span: int
) -> None:
    for seed in range(3):
        draws = draws_for(STATES, extra, seed)
        found = function(STATES, rate, span, draws)
        assert found.shape == (len(STATES), 100) and found.dtype == bool
        for row, states in enumerate(STATES.tolist()):
            assert set(np.flatnonzero(found[row]).tolist()) == one(states, rate, span, draws[row].tolist()), states


def test_wav2vec_masks_half_of_the_states() -> None:
    """fairseq's 0.65 in runs of 10 leaves 49 % masked (arXiv 2006.11477, section 4.2), 14.7 states together."""
    states = np.full(2000, 500)
    mask = meeting_spans(states, 0.65, 10, draws_for(states, 1))
    assert abs(mask.mean() - 0.49) < 0.01
    runs = np.diff(np.pad(mask, ((0, 0), (1, 0))).astype(int), axis=1) == 1
    assert abs(mask.sum() / runs.sum() - 14.7) < 0.5


def test_rates_are_met_on_average() -> None:
    """The number of runs is rounded by a draw, so that short rows are masked as much as long ones."""
    for length in (37, 64, 500):
        states = np.full(4000, length)
        for rate, span in ((0.3, 4), (0.65, 10)):
            starts = meeting_spans(states, rate, 1, draws_for(states, 1))
            assert abs(starts.mean() - rate) < 0.01, "runs of one state never meet"
            number = meeting_spans(states, rate, span, draws_for(states, 1)).sum(axis=1)
            assert number.max() <= span * (rate * length / span + 1)
    states = np.full(4000, 500)
    assert abs(fixed_spans(states, 0.15, 7, draws_for(states)).mean() - 0.15) < 0.005


def test_every_state_is_masked_about_as_often() -> None:
    states = np.full(8000, 60)
    often = fixed_spans(states, 0.3, 6, draws_for(states)).mean(axis=0)
    assert often.min() > 0.9 * often.mean() and often.max() < 1.1 * often.mean()
    often = meeting_spans(states, 0.5, 6, draws_for(states, 1)).mean(axis=0)[6:-6]  # fewer runs reach the ends
    assert often.min() > 0.9 * often.mean() and often.max() < 1.1 * often.mean()


def test_short_rows() -> None:
    states = np.arange(1, 11)
    meeting = meeting_spans(states, 0.65, 10, draws_for(states, 1)).sum(axis=1)
    assert meeting.tolist() == [1, 1, 2, 3, 4, 5, 6, 7, 8, 9], "whole but for one state"
    fixed = fixed_spans(states, 0.15, 7, draws_for(states)).sum(axis=1)
    assert (fixed >= 1).all() and (fixed <= np.minimum(states, 7)).all()


@pytest.mark.parametrize("span", [1, 2, 7])
@pytest.mark.parametrize(("function", "extra"), [(fixed_spans, 0), (meeting_spans, 1)])
def test_a_row_is_masked_alike_in_any_batch(function: Mask, extra: int, span: int) -> None:
    draws = draws_for(STATES, extra)
    together = function(STATES, 0.5, span, draws)
    for row, states in enumerate(STATES.tolist()):
        alone = function(STATES[row : row + 1], 0.5, span, draws[row : row + 1, : states + extra])
        assert (together[row, :states] == alone[0]).all() and not together[row, states:].any(), states


def test_places_of_masked_states() -> None:
    mask = np.array([[0, 1, 1, 0], [1, 1, 0, 1], [0, 0, 0, 0]], dtype=bool)
    assert places(mask).tolist() == [[1, 2, -1], [0, 1, 3], [-1, -1, -1]]
