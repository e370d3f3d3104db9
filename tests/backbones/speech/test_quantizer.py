"""Codebooks: which entry is chosen, how gradients pass, what is counted."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from hfcourse.backbones.speech.quantizer import GumbelQuantizer, KMeansQuantizer, perplexity
from hfcourse.engine.state import fill, tensors_of


def test_perplexity_is_summed_over_groups() -> None:
    shares = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    assert float(perplexity(shares)) == pytest.approx(4 + 1, abs=1e-4)
    assert float(perplexity(torch.tensor([[0.5, 0.25, 0.25, 0.0]]))) == pytest.approx(
        math.exp(1.5 * math.log(2)), abs=1e-4
    )


def kmeans() -> KMeansQuantizer:
    torch.manual_seed(0)
    return KMeansQuantizer(12, groups=2, codes=5).eval()


def test_the_nearest_entry_by_brute_force() -> None:
    net, states = kmeans(), torch.randn(2, 7, 12)
    with torch.no_grad():
        entries, found, loss = net(states, None)
    projected = (states @ net.project.weight.T).detach()
    used: list[list[int]] = [[], []]
    losses = []
    for row in range(2):
        for state in range(7):
            squares = []
            for group in range(2):
                part = projected[row, state, 6 * group : 6 * group + 6]
                part = (part - part.mean()) / (part.var(correction=0) + 1e-5).sqrt()
                distances = [float((part - entry).square().sum()) for entry in net.codebook[group].detach()]
                best = distances.index(min(distances))
                used[group].append(best)
                assert torch.allclose(
                    entries[row, state, 6 * group : 6 * group + 6], net.codebook[group, best], atol=1e-5
                )
                squares.append(min(distances))
            losses.append(1.25 * sum(squares) / 12)
    assert net.indices(states).flatten(0, 1).T.tolist() == used
    assert float(loss) == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    expected = 0.0
    for group in used:
        shares = [group.count(code) / 14 for code in set(group)]
        expected += math.exp(-sum(share * math.log(share) for share in shares))
    assert float(found) == pytest.approx(expected, rel=1e-4)


def test_gradients_pass_straight_through() -> None:
    """What moves the entries' sum moves the normalised states as if nothing had been chosen."""
    net = kmeans()
    states, weights = torch.randn(1, 3, 12, requires_grad=True), torch.randn(1, 3, 12)
    entries, _, _ = net(states, None)
    (entries * weights).sum().backward()
    passed, own = states.grad, states.detach().clone().requires_grad_()
    parts = F.layer_norm((own @ net.project.weight.T).unflatten(-1, (2, 6)), (6,)).flatten(2)
    (parts * weights).sum().backward()
    assert passed is not None and own.grad is not None
    torch.testing.assert_close(passed, own.grad)
    assert net.codebook.grad is None  # entries learn from the loss alone


def test_the_loss_draws_entries_and_states_together() -> None:
    net, states = kmeans().train(), torch.randn(4, 9, 12)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    first = None
    for _ in range(60):
        _, _, loss = net(states, None)
        first = float(loss.detach()) if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.7 * first


def test_entries_that_nobody_chooses_become_states() -> None:
    """In the beginning all of them; later those that were left out for long. Padding becomes none."""
    net = kmeans().train()
    states, mask = 5 + torch.randn(2, 8, 12), torch.tensor([[True] * 5 + [False] * 3, [True] * 8])
    states[0, 5:] = 1000.0
    before = net.codebook.detach().clone()
    _, few, _ = net(states, mask)
    net.revive()
    chosen = [set(group.unique().tolist()) for group in net.indices(states)[mask].T]
    assert float(few) < 4, "these states have much in common"
    parts = net._parts(states)[mask]
    for group in range(2):
        for code in range(5):
            is_state = bool((net.codebook[group, code] == parts[:, group]).all(dim=-1).any())
            assert is_state != torch.equal(net.codebook[group, code], before[group, code])
    assert any(chosen) and float(net.eval()(states, mask)[1]) > float(few) + 1
    # Of two clusters of states one is no longer heard: its entries are kept for a while.
    held = net.train().codebook.detach().clone()
    for _ in range(net.PATIENCE - 1):
        net(states[1:, :1], None)
        net.revive()
    assert torch.equal(net.codebook, held)
    again = kmeans().train()
    fill(again, tensors_of(net))
    for one in (net, again):  # patience is kept in checkpoints
        one(states[1:, :1], None)
        one.revive()
        assert not torch.equal(one.codebook, held)
        assert (one.codebook[0] - parts[5, 0]).abs().amax(dim=-1).lt(1e-5).sum() >= 4


@pytest.mark.parametrize("kind", [GumbelQuantizer, KMeansQuantizer])
def test_padding_counts_for_nothing(kind: type[GumbelQuantizer] | type[KMeansQuantizer]) -> None:
    torch.manual_seed(1)
    net = kind(12, groups=2, codes=5).eval()
    states = torch.randn(2, 6, 12)
    mask = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    rest = list(net(states, mask)[1:])
    states[0, 4:] = 100 * torch.randn(2, 12)
    for own, other in zip(rest, net(states, mask)[1:], strict=True):
        assert torch.equal(own, other)


def test_gumbel_draws_entries_as_often_as_their_share() -> None:
    torch.manual_seed(2)
    net = GumbelQuantizer(4, groups=1, codes=3)
    net.logits.weight.data.zero_()
    net.logits.bias.data = torch.tensor([0.5, 0.3, 0.2]).log()
    entries, _ = net(torch.zeros(1, 20_000, 4), None)
    drawn = (entries[0, :, None] == net.codebook[0]).all(dim=-1).float().mean(dim=0)
    assert drawn.tolist() == pytest.approx([0.5, 0.3, 0.2], abs=0.02)
    net.eval()
    chosen, _ = net(torch.zeros(1, 10, 4), None)
    assert torch.equal(chosen, net.codebook[0, 0].expand(1, 10, 4))


def test_gradients_pass_through_gumbel_draws() -> None:
    torch.manual_seed(0)
    net = GumbelQuantizer(12, groups=2, codes=5)
    states = torch.randn(2, 3, 12, requires_grad=True)
    entries, _ = net(states, None)
    entries.square().sum().backward()
    assert states.grad is not None and states.grad.abs().sum() > 0
    assert net.codebook.grad is not None and net.codebook.grad.abs().sum() > 0


def test_the_temperature_cools_to_its_end_and_is_kept_in_checkpoints() -> None:
    net = GumbelQuantizer(4, groups=1, codes=3, temperatures=(2.0, 0.5, 0.9))
    net.cool(3)
    assert float(net.temperature) == pytest.approx(2.0 * 0.9**3)
    again = GumbelQuantizer(4, groups=1, codes=3, temperatures=(2.0, 0.5, 0.9))
    fill(again, tensors_of(net))
    assert torch.equal(again.temperature, net.temperature)
    net.cool(1000)
    assert float(net.temperature) == 0.5


def test_processes_with_different_numbers_of_passes_exchange_once_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry is in use where any pass of the step chose it, and a pass waits for no other process."""
    exchanged: list[int] = []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "broadcast", lambda tensor, source: exchanged.append(source))
    net, states = kmeans().train(), torch.randn(6, 1, 12)
    chosen = [set(group.unique().tolist()) for group in net.indices(states).flatten(0, 1).T]
    before = net.codebook.detach().clone()
    for one in states:
        net(one[None], None)
    assert not exchanged and torch.equal(net.codebook, before)
    net.revive()
    net.revive()  # nothing has passed since
    assert exchanged == [0, 0]  # entries, and how long they have been idle
    for group, used in enumerate(chosen):
        assert 1 < len(used) < 5 and not net.idle[group].any()
        assert all(torch.equal(net.codebook[group, code], before[group, code]) for code in used)
        assert not any(torch.equal(net.codebook[group, code], before[group, code]) for code in {*range(5)} - used)
