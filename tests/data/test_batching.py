from __future__ import annotations

import numpy as np
import pytest

from hfcourse.data.batching import micro_batches, plan

LENGTHS = np.random.default_rng(0).integers(3, 200, size=5003)


@pytest.mark.parametrize("tokens", [0, 1000, 150])
@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_once_and_within_the_budget(tokens: int, bucket: bool, shuffle: bool) -> None:
    steps = list(plan(LENGTHS, examples=8, tokens=tokens, bucket=bucket, shuffle=shuffle, seed=1, epoch=2))
    assert sorted(np.concatenate(steps).tolist()) == list(range(len(LENGTHS)))
    assert max(map(len, steps)) <= 8
    if tokens:
        assert all(len(rows) == 1 or len(rows) * LENGTHS[rows].max() <= tokens for rows in steps)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    def first(seed: int, epoch: int) -> list[int]:
        return plan(LENGTHS, examples=8, seed=seed, epoch=epoch).order.tolist()

    assert first(1, 1) == first(1, 1)
    assert first(1, 1) != first(1, 2)
    assert first(1, 1) != first(2, 1)


def test_buckets_pad_little_and_stay_random() -> None:
    def padding(bucket: bool) -> float:
        steps = plan(LENGTHS, examples=32, bucket=bucket, seed=0, epoch=0)
        return 1 - LENGTHS.sum() / sum(len(rows) * int(LENGTHS[rows].max()) for rows in steps)

    assert padding(True) < 0.05 < 0.3 < padding(False)
    widths = [int(LENGTHS[rows].max()) for rows in plan(LENGTHS, examples=32, seed=0, epoch=0)]
    assert abs(np.corrcoef(widths[:-1], widths[1:])[0, 1]) < 0.3  # no drift from short to long
    # Rows of one batch are near in length, not the nearest of the whole split: two epochs mix them differently.
    together = [{tuple(sorted(rows)) for rows in plan(LENGTHS, examples=32, seed=0, epoch=e)} for e in (0, 1)]
    assert not together[0] & together[1]


def test_long_rows_come_first_without_shuffling() -> None:
    steps = plan(LENGTHS, examples=8, shuffle=False)
    assert LENGTHS[steps[0]].min() >= LENGTHS[steps[1]].max()


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize("tokens", [0, 700])
def test_a_run_begins_with_the_batch_that_takes_most_memory(tokens: int, bucket: bool) -> None:
    lengths = np.random.default_rng(3).integers(1, 200, size=300)
    first, second = (list(plan(lengths, examples=8, tokens=tokens, bucket=bucket, epoch=epoch)) for epoch in (0, 1))
    padded = [len(rows) * lengths[rows].max() for rows in first]
    assert padded[0] == max(padded)
    later = [len(rows) * lengths[rows].max() for rows in second]
    assert later[0] != max(later)  # of later epochs none in particular
    assert sorted(np.concatenate(first)) == list(range(300))


def test_empty_split_has_no_step() -> None:
    assert len(plan(np.zeros(0, dtype=np.int64), examples=8, tokens=100)) == 0


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("tokens", [0, 300])
def test_processes_share_a_step_without_overlap(processes: int, tokens: int) -> None:
    for rows in plan(LENGTHS, examples=8, seed=3, epoch=0):
        shares = [micro_batches(rows, LENGTHS, process=p, processes=processes, tokens=tokens) for p in range(processes)]
        assert sorted(np.concatenate([part for share in shares for part in share]).tolist()) == sorted(rows.tolist())
        for part in [part for share in shares for part in share]:
            assert len(part) and (not tokens or len(part) == 1 or len(part) * LENGTHS[part].max() <= tokens)


@pytest.mark.parametrize("tokens", [0, 120])
def test_passes_of_alike_lengths_leave_the_step_as_it_is(tokens: int) -> None:
    def padding(parts: list[np.ndarray]) -> int:
        return sum(len(part) * int(LENGTHS[part].max()) - int(LENGTHS[part].sum()) for part in parts)

    for rows in plan(LENGTHS, examples=32, bucket=False, seed=3, epoch=0):
        whole, apart = (
            micro_batches(rows, LENGTHS, process=0, processes=1, tokens=tokens, alike=alike) for alike in (0, 8)
        )
        assert sorted(np.concatenate(apart).tolist()) == sorted(rows.tolist())
        assert all(len(part) <= 15 for part in apart)
        if len(rows) == 32 and not tokens:  # a bound of tokens cuts into narrow passes anyhow
            assert len(apart) == 4 and padding(apart) < padding(whole) / 2
