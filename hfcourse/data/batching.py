"""Which rows form which optimizer step: buckets of similar length under a budget.

The plan of an epoch is a pure function of lengths, budget, seed and epoch. It knows nothing of processes or devices,
and any step of it can be read at once: resuming computes a position, it never replays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

POOL = 64
"""Batches whose rows are sorted by length together: enough to pad little, few enough to stay random."""


@dataclass(frozen=True)
class Plan:
    """The optimizer steps of one epoch: ``plan[i]`` are the row numbers of step i, int64."""

    order: np.ndarray
    """Row numbers, (rows,)."""
    edges: np.ndarray
    """Where each batch starts in `order`, and at last its end, (batches + 1,)."""
    steps: np.ndarray
    """Which batch each step takes, (batches,)."""

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, step: int) -> np.ndarray:
        batch = self.steps[step]
        return self.order[self.edges[batch] : self.edges[batch + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[step] for step in range(len(self)))


def plan(
    lengths: np.ndarray,
    *,
    examples: int,
    tokens: int = 0,
    bucket: bool = True,
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
) -> Plan:
    """The optimizer steps of one epoch; every row occurs in exactly one.

    The first step of a run takes the batch with the most padded tokens: what does not fit in memory fails at once,
    and memory that is taken whole is not cut up by smaller batches before.

    Args:
        lengths: tokens of each row, (rows,).
        examples: most rows in one step.
        tokens: most padded tokens (rows x longest) in one step; 0 for no bound. A longer row stands alone.
        bucket: put rows of similar length together.
        shuffle: without it rows keep their order, or under `bucket` go from long to short: what does not fit
            in memory fails at once.
        seed: the run's seed.
        epoch: counted from 0.
    """
    count = len(lengths)
    generator = np.random.default_rng([seed, epoch, count])
    order = generator.permutation(count) if shuffle else np.arange(count)
    pool = POOL * examples if shuffle else max(count, 1)
    varied = count > 0 and lengths.min() != lengths.max()
    if bucket and varied:
        # Stable sorts keep the shuffled order among equal lengths.
        direction = 1 if shuffle else -1
        by_length = np.argsort(direction * lengths[order], kind="stable")
        order = order[by_length[np.argsort(by_length // pool, kind="stable")]]
    edges = _edges(lengths[order], examples=examples, tokens=tokens, pool=pool)
    batches = len(edges) - 1
    steps = generator.permutation(batches) if shuffle and bucket and varied else np.arange(batches)
    if epoch == 0 and shuffle and varied:
        widest_first(steps, edges, lengths[order])
    return Plan(order=order, edges=edges, steps=steps)


def widest_first(steps: np.ndarray, edges: np.ndarray, lengths: np.ndarray) -> None:
    """Let the first step, in place, take the batch with the most padded tokens; `lengths` are in the plan's order."""
    widths = np.maximum.reduceat(lengths, edges[:-1]) * np.diff(edges)
    widest = int(np.flatnonzero(steps == widths.argmax())[0])
    steps[[0, widest]] = steps[[widest, 0]]


def micro_batches(
    rows: np.ndarray, lengths: np.ndarray, *, process: int, processes: int, tokens: int, alike: int = 0
) -> list[np.ndarray]:
    """One process's share of a step, cut into forward passes of at most `tokens` padded tokens (0: not cut).

    Rows are dealt in turn, so that every process gets the same spread of lengths. A process without a row
    gets an empty list. Where `alike` is given, passes are also cut to about so many rows, of similar length each.
    """
    share = rows[process::processes]
    groups = max(1, len(share) // alike) if alike else 1
    if groups > 1:
        share = share[np.argsort(lengths[share], kind="stable")]
    parts = []
    for group in np.array_split(share, groups):
        edges = _edges(lengths[group], examples=max(len(group), 1), tokens=tokens, pool=max(len(group), 1))
        parts += [group[start:end] for start, end in pairwise(edges)]
    return parts


def _edges(lengths: np.ndarray, *, examples: int, tokens: int, pool: int) -> np.ndarray:
    """Greedy cuts of a sequence of lengths; a batch never reaches over the edge of a pool."""
    count = len(lengths)
    if not tokens or (count and int(lengths.max()) * examples <= tokens):
        return np.append(np.arange(0, count, examples), count)  # pools are whole multiples of `examples`
    edges = [0]
    while edges[-1] < count:
        start = edges[-1]
        end = min(start + examples, (start // pool + 1) * pool, count)
        widest = np.maximum.accumulate(lengths[start:end])
        fits = int(np.searchsorted(widest * np.arange(1, end - start + 1), tokens, side="right"))
        edges.append(start + max(fits, 1))
    return np.asarray(edges)
