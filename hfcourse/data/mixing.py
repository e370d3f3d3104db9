"""Which rows form which optimizer step where several tasks are learned at once: no step mixes two of them.

The rows of an epoch are drawn by the tasks' sizes to a power below 1 (BERT and PALs, arXiv 1902.02671), so that small
tasks are not drowned by large ones; a batch of one task, then one of any other, is MT-DNN's order (arXiv 1901.11504).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hfcourse.data.batching import Plan, plan, widest_first


def shares(sizes: Sequence[int], power: float) -> np.ndarray:
    """Rows of each task in an epoch, int64: in proportion to ``size ** power``, together as many as there are.

    What rounding down leaves goes to the largest remainders.
    """
    weights = np.asarray(sizes, dtype=np.float64) ** power
    exact = weights / weights.sum() * sum(sizes)
    whole: np.ndarray = np.floor(exact).astype(np.int64)
    left = sum(sizes) - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:left]] += 1
    return whole


def mixed_plan(
    lengths: Sequence[np.ndarray],
    *,
    power: float,
    bucket: bool = True,
    mixes_lengths: Sequence[bool] = (),
    shuffle: bool = True,
    seed: int = 0,
    epoch: int = 0,
    **how: Any,
) -> Plan:
    """The optimizer steps of one epoch over several tasks, each step of one task.

    A task that is due more rows than it has is passed through several times, and no row stands twice in a batch; of
    one that is due fewer, other ones are drawn in every epoch. Without `shuffle` every row comes once, task by task.

    Args:
        lengths: tokens of each task's rows. Row numbers count through the tasks in this order.
        power: of the size, to which a task's rows in an epoch are in proportion.
        bucket: put rows of similar length into one batch.
        mixes_lengths: which tasks' batches are not bucketed where they are drawn; empty: none's.
        shuffle: draw, and mix the batches.
        seed: the run's seed.
        epoch: counted from 0.
        how: the rest of what `plan` takes.
    """
    sizes = [len(own) for own in lengths]
    generator = np.random.default_rng([seed, epoch, sum(sizes), len(sizes)])
    counts = shares(sizes, power) if shuffle else np.asarray(sizes)
    order, edges, batches = [], [np.zeros(1, dtype=np.int64)], 0
    done = 0
    bucketed = [bucket and not (mixes and shuffle) for mixes in mixes_lengths] or [bucket] * len(sizes)
    for start, own, count, by_length in zip(np.cumsum([0, *sizes]), lengths, counts.tolist(), bucketed, strict=False):
        for first in range(0, count, max(len(own), 1)):
            rows = generator.permutation(len(own))[: count - first] if shuffle else np.arange(len(own))
            part = plan(own[rows], bucket=by_length, shuffle=shuffle, seed=seed, epoch=epoch, **how)
            order.append(start + rows[part.order])
            edges.append(done + part.edges[1:])
            done, batches = done + len(rows), batches + len(part)
    if not order:
        return plan(np.zeros(0, dtype=np.int64), **how)
    mixed = Plan(
        order=np.concatenate(order),
        edges=np.concatenate(edges),
        steps=generator.permutation(batches) if shuffle else np.arange(batches),
    )
    if epoch == 0 and shuffle:
        widest_first(mixed.steps, mixed.edges, np.concatenate(lengths)[mixed.order])
    return mixed
