"""Alignment against every path there is, against torchaudio's on the whole, and in memory that does not grow."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio.functional

from hfcourse.data.forced_alignment import align, frames_needed


def emissions(frames: int, columns: int, seed: int = 0) -> np.ndarray:
    generator = torch.Generator().manual_seed(seed)
    return (2 * torch.randn(frames, columns, generator=generator)).log_softmax(dim=-1).numpy()


def collapsed(labels: tuple[int, ...]) -> list[int]:
    """CTC's rule: repeated labels are one, blanks are none."""
    return [label for label, _ in itertools.groupby(labels) if label]


@pytest.mark.parametrize("tokens", [[1, 2], [1, 1], [2, 1, 2], [1, 1, 1], [3]])
@pytest.mark.parametrize("block", [2, 3, 100])
def test_it_is_the_best_of_all_paths(tokens: list[int], block: int) -> None:
    for seed in range(8):
        values = emissions(7, 4, seed)
        paths = [path for path in itertools.product(range(4), repeat=7) if collapsed(path) == tokens]
        best = max(paths, key=lambda path: values[np.arange(7), list(path)].sum())
        found = align(values, np.array(tokens), block=block)
        labels = np.zeros(7, dtype=int)
        for token, begin, end, score in zip(tokens, found.begins, found.ends, found.scores, strict=True):
            labels[begin:end] = token
            assert score == pytest.approx(values[begin:end, token].sum(), abs=1e-5)
        assert labels.tolist() == list(best)


@pytest.mark.parametrize("block", [2, 7, 50, 399])
def test_blocks_change_nothing(block: int) -> None:
    values = emissions(400, 6)
    tokens = np.random.default_rng(0).integers(1, 6, 120)
    found = align(values, tokens, block=block)
    labels, scores = torchaudio.functional.forced_align(
        torch.from_numpy(values)[None], torch.from_numpy(tokens.astype(np.int32))[None]
    )
    spans = torchaudio.functional.merge_tokens(labels[0], scores[0])
    assert [span.start for span in spans] == found.begins.tolist() and [s.end for s in spans] == found.ends.tolist()
    lengths = found.ends - found.begins
    assert found.scores / lengths == pytest.approx([span.score for span in spans], abs=1e-4)


def test_a_text_that_just_fits() -> None:
    tokens = np.array([1, 1, 2, 2, 2])
    assert frames_needed(tokens) == 8
    for block in (2, 3):
        assert align(emissions(8, 3), tokens, block=block).begins.tolist() == [0, 2, 3, 5, 7]
    with pytest.raises(ValueError, match="5 tokens do not fit into 7 frames"):
        align(emissions(7, 3), tokens)
    with pytest.raises(ValueError, match="0 tokens"):
        align(emissions(7, 3), np.zeros(0, dtype=np.int64))


def test_the_way_back_is_that_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten minutes: no piece has more than a block's frames, nor more tokens than are said there."""
    values = np.memmap(tmp_path / "emissions", dtype=np.float32, mode="w+", shape=(30_000, 30))
    generator = np.random.default_rng(0)
    tokens = generator.integers(1, 30, 1000)
    true = np.sort(generator.choice(15_000, 1000, replace=False)) * 2
    values[:] = -8.0
    values[:, 0] = -0.1
    values[true, 0], values[true, tokens] = -8.0, -0.1
    shapes, forced_align = [], torchaudio.functional.forced_align

    def watched(known: torch.Tensor, targets: torch.Tensor, **how: int) -> tuple[torch.Tensor, torch.Tensor]:
        shapes.append((known.shape[1], targets.shape[1]))
        return forced_align(known, targets, **how)

    monkeypatch.setattr(torchaudio.functional, "forced_align", watched)
    found = align(values, tokens)
    assert found.begins.tolist() == true.tolist() and found.ends.tolist() == (true + 1).tolist()
    assert len(shapes) == 30 and {frames for frames, _ in shapes} == {1000}
    assert max(count for _, count in shapes) < 60 and sum(count for _, count in shapes) == 1000
