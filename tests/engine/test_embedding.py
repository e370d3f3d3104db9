"""Gradients of an embedding are torch's own, bit for bit, whoever else has a part in them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hfcourse.engine import embedding as ours
from hfcourse.engine.embedding import RowGradientEmbedding, gradient_of, row_gradients_in
from hfcourse.engine.optim import clip_in_step


class Net(nn.Module):
    """Words -> one number; with `borrows`, words -> words over the same table."""

    def __init__(self, padding: int | None, borrows: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(50, 8, padding_idx=padding)
        self.places = nn.Embedding(12, 8)
        self.out = nn.Linear(8, 1)
        self.borrows = borrows

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        states = torch.tanh(self.words(ids) + self.places(torch.arange(ids.shape[1])))
        answer: torch.Tensor = self.out(states).square().mean()
        return answer + (states @ self.words.weight.T).logsumexp(-1).mean() if self.borrows else answer


@pytest.fixture(autouse=True)
def every_table_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "_LARGE", 50 * 8)


def train(net: Net, micro_batches: int = 1) -> list[torch.Tensor]:
    """Gradients and weights of a few steps with clipping, each over other words."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(1)
    found = []
    for _ in range(4):
        for _ in range(micro_batches):
            net(torch.randint(0, 50, (3, 5), generator=generator)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        assert net.words.weight.grad is not None
        found.append(net.words.weight.grad.clone())
        optimizer.step()
        optimizer.zero_grad()
    return [*found, net.words.weight.detach().clone()]


@pytest.mark.parametrize("padding", [None, 0])
@pytest.mark.parametrize("borrows", [False, True])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_gradients_are_torchs_own(padding: int | None, borrows: bool, micro_batches: int) -> None:
    theirs = train(Net(padding, borrows), micro_batches)
    net = Net(padding, borrows)
    with row_gradients_in([net]):
        assert type(net.words) is RowGradientEmbedding and type(net.places) is nn.Embedding
        mine = train(net, micro_batches)
        assert net.words.rows.shared is borrows
    assert type(net.words) is nn.Embedding and not hasattr(net.words, "rows")
    for one, other in zip(mine, theirs, strict=True):
        if borrows:
            torch.testing.assert_close(one, other)
        else:
            assert torch.equal(one, other)


def test_the_table_stays_the_same() -> None:
    net = Net(None)
    with row_gradients_in([net]):
        net(torch.tensor([[1, 2, 3]])).backward()
        table = net.words.weight.grad
        net.zero_grad()
        net(torch.tensor([[4, 4, 5]])).backward()
        assert net.words.weight.grad is table and table is not None
        assert table.abs().sum(dim=1).nonzero().flatten().tolist() == [4, 5]


@pytest.mark.parametrize("borrows", [False, True])
def test_the_norm_reads_what_is_there_alone(borrows: bool) -> None:
    net = Net(0, borrows)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
    with row_gradients_in([net]):
        for ids in ([[1, 2, 3], [3, 0, 7]], [[4, 4, 5]]):
            optimizer.zero_grad()
            net(torch.tensor(ids)).backward()
            net(torch.tensor([[9, 1, 0]])).backward()
            rows = len({one for row in ids for one in row} | {9, 1}) - any(0 in row for row in ids)
            assert len(gradient_of(net.words.weight)) == (50 if borrows else rows)
            norm = clip_in_step(optimizer, limit=1e-3)
            whole = torch.cat([p.grad.flatten() for p in net.parameters()]).norm()  # type: ignore[union-attr]
            torch.testing.assert_close(norm, whole)
    assert gradient_of(net.out.weight) is net.out.weight.grad


def test_tied_and_frozen_tables_are_left_alone() -> None:
    tied, frozen = Net(None), Net(None)
    other = nn.Linear(8, 50, bias=False)
    other.weight = tied.words.weight
    frozen.words.requires_grad_(False)
    with row_gradients_in([tied, other]), row_gradients_in([frozen]):
        assert type(tied.words) is nn.Embedding and type(frozen.words) is nn.Embedding
