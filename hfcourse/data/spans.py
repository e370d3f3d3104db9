"""Masks over time: runs of neighbouring states, as the objectives on sound draw them. Shapes: rows B, states S."""

from __future__ import annotations

import numpy as np


def fixed_spans(states: np.ndarray, rate: float, span: int, draws: np.ndarray) -> np.ndarray:
    """Runs of `span` states that do not overlap, until `rate` of each row is masked (Mockingjay), bool (B, S).

    A row's states are cut into runs from a drawn first one on; as many runs as come nearest to the rate are chosen, at
    least one.

    Args:
        states: states of each row, int64 (B,).
        rate: share of the states to mask.
        span: states of a run.
        draws: uniform numbers, (B, S) with S the largest of `states`.
    """
    width = draws.shape[1]
    at = np.arange(width)
    shift = (draws[:, 0] * span).astype(np.int64)
    run = (at[None, :] + shift[:, None]) // span  # number of the run that a state belongs to
    inside = at[None, :] < states[:, None]
    runs = int(run.max()) + 1
    last = np.where(inside, run, -1).max(axis=1)
    rank = _ranks(_per_run(draws, runs), np.arange(runs)[None, :] <= last[:, None])
    number = np.maximum(1, np.rint(rate * states / span)).astype(np.int64)
    chosen = np.take_along_axis(rank, run, axis=1) < number[:, None]
    masked: np.ndarray = chosen & inside
    return masked


def meeting_spans(states: np.ndarray, rate: float, span: int, draws: np.ndarray) -> np.ndarray:
    """Runs of `span` states whose starts are drawn without putting back and may overlap (wav2vec 2.0), bool (B, S).

    Of each row ``rate x states / span`` starts are drawn (rounded by a draw, at least one), so `rate` would be masked
    if no two runs met: 0.65 in runs of 10 leaves about half of the states masked.

    Args:
        states: states of each row, int64 (B,).
        rate: share of the states that would be masked if runs never met.
        span: states of a run; a row with fewer is masked whole but for one state.
        draws: uniform numbers, (B, S + 1): one that rounds, then one for each start.
    """
    width = draws.shape[1] - 1
    length = np.minimum(span, np.maximum(states - 1, 1))
    possible = states - length + 1
    number = np.minimum(np.maximum(1, (rate * states / span + draws[:, 0]).astype(np.int64)), possible)
    ranks = _ranks(draws[:, 1:], np.arange(width)[None, :] < possible[:, None])
    starts = (ranks < number[:, None]).astype(np.int64)
    # A state is masked where a run has begun among the last `length` states: a difference of running sums.
    sums = np.pad(starts.cumsum(axis=1), ((0, 0), (span, 0)))
    before = np.take_along_axis(sums, span + np.arange(width)[None, :] - length[:, None], axis=1)
    masked: np.ndarray = sums[:, span:] > before
    return masked


def _ranks(draws: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """The rank of each draw in its row, those that are not allowed last, (B, S)."""
    ranks: np.ndarray = np.where(allowed, draws, np.inf).argsort(axis=1).argsort(axis=1)
    return ranks


def _per_run(draws: np.ndarray, runs: int) -> np.ndarray:
    """Uniform numbers (B, runs) out of (B, S), the first of which has been used."""
    return np.resize(draws[:, 1:], (len(draws), runs)) if draws.shape[1] - 1 < runs else draws[:, 1 : runs + 1]
