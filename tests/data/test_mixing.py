"""Steps over several tasks: shares worked out by hand, no step of two tasks, a pure function of seed and epoch."""

from __future__ import annotations

import numpy as np
import pytest

from hfcourse.data.batching import Plan
from hfcourse.data.mixing import mixed_plan, shares

SIZES = (4096, 256, 16)
LENGTHS = [np.random.default_rng(size).integers(3, 60, size=size) for size in SIZES]
ALL = np.concatenate(LENGTHS)
EDGES = np.cumsum(SIZES)


def counts_of(plan: Plan) -> list[int]:
    owners = np.searchsorted(EDGES, np.concatenate(list(plan)), side="right")
    return np.bincount(owners, minlength=len(SIZES)).tolist()


def test_shares_by_hand() -> None:
    # 4096, 256 and 16 to the power of 0.75 are 512, 64 and 8: of 584 parts, for 4368 rows.
    assert shares(SIZES, 0.75).tolist() == [3829, 479, 60]  # 3829.479, 478.685, 59.836: one row is left for each of two
    assert shares(SIZES, 1.0).tolist() == [4096, 256, 16]
    assert shares(SIZES, 0.5).tolist() == [3328, 832, 208]  # 64, 16 and 4 parts of 84
    assert shares((5, 5, 7), 0.0).tolist() == [6, 6, 5]


def test_batches_of_a_task_of_numbers_hold_all_lengths() -> None:
    """As those of one length have labels that are too much alike; the other tasks' stay bucketed."""
    steps = mixed_plan(LENGTHS, power=1.0, examples=16, mixes_lengths=(False, True, False), seed=1)
    spread: dict[int, list[float]] = {0: [], 1: []}
    for rows in steps:
        owner = int(np.searchsorted(EDGES, rows[0], side="right"))
        if owner < 2:
            spread[owner].append(float(ALL[rows].std()))
    drawn = LENGTHS[1].std()
    assert np.mean(spread[0]) < 0.2 * drawn < 0.8 * drawn < np.mean(spread[1])


@pytest.mark.parametrize("tokens", [0, 200])
@pytest.mark.parametrize("bucket", [True, False])
def test_a_step_is_one_tasks_and_holds_no_row_twice(tokens: int, bucket: bool) -> None:
    steps = mixed_plan(LENGTHS, power=0.75, examples=8, tokens=tokens, bucket=bucket, seed=1, epoch=3)
    assert counts_of(steps) == [3829, 479, 60]
    for rows in steps:
        assert len(set(np.searchsorted(EDGES, rows, side="right").tolist())) == 1
        assert len(set(rows.tolist())) == len(rows) <= 8
        assert not tokens or len(rows) == 1 or len(rows) * ALL[rows].max() <= tokens


def test_large_tasks_are_sampled_and_small_ones_repeated() -> None:
    drawn = [np.bincount(np.concatenate(list(mixed_plan(LENGTHS, power=0.75, examples=8, epoch=e)))) for e in (0, 1)]
    large = [times[:4096] for times in drawn]
    assert all(times.max() == 1 and times.sum() == 3829 for times in large)
    assert (large[0] != large[1]).any()  # others stay out in the next epoch
    assert all(set(times[4096:4352]) == {1, 2} and set(times[4352:]) == {3, 4} for times in drawn)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def steps(seed: int, epoch: int) -> list[list[int]]:
        return [rows.tolist() for rows in mixed_plan(LENGTHS, power=0.75, examples=8, seed=seed, epoch=epoch)]

    assert steps(1, 2) == steps(1, 2)
    assert steps(1, 2) != steps(1, 3) and steps(1, 2) != steps(2, 2)


def test_tasks_alternate_and_the_widest_batch_comes_first() -> None:
    plan = mixed_plan(LENGTHS, power=0.5, examples=8, epoch=0)
    padded = [len(rows) * int(ALL[rows].max()) for rows in plan]
    assert padded[0] == max(padded)
    owners = np.array([int(np.searchsorted(EDGES, rows[0], side="right")) for rows in plan])
    # As often as chance has it: two neighbours are of different tasks with 1 - (0.76² + 0.19² + 0.05²) = 0.38.
    assert np.mean(owners[1:] != owners[:-1]) == pytest.approx(0.38, abs=0.06)


def test_an_evaluation_sees_every_row_once_task_by_task() -> None:
    plan = mixed_plan(LENGTHS, power=0.75, shuffle=False, examples=4368, tokens=500)
    rows = np.concatenate(list(plan))
    assert sorted(rows.tolist()) == list(range(4368))
    owners = [set(np.searchsorted(EDGES, batch, side="right").tolist()) for batch in plan]
    assert owners == sorted(owners, key=min) and all(len(owner) == 1 for owner in owners)
    assert len(mixed_plan([np.zeros(0, dtype=np.int64)] * 2, power=1, shuffle=False, examples=1)) == 0
