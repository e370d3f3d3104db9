"""Clipping in the optimizer's own pass against torch's clipping before it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from hfcourse.engine import optim
from hfcourse.engine.settings import OptimConfig


@pytest.mark.parametrize("limit", [0.1, 3.0, float("inf")])
def test_the_steps_of_a_loop_that_clips_first(limit: float) -> None:
    """Over steps whose gradients lie above and below the limit."""
    torch.manual_seed(0)
    mine = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3), nn.Linear(3, 5))
    mine[3].weight.requires_grad_(False)  # a parameter without a gradient
    theirs = copy.deepcopy(mine)
    optimizers = [
        optim.make_optimizer(optim.parameter_groups(net, [], OptimConfig(lr=0.01)), OptimConfig(lr=0.01))
        for net in (mine, theirs)
    ]
    assert optim.clips_itself(optimizers[0])
    above = 0
    for size in (0.1, 10.0, 1.0, 30.0):
        states = size * torch.randn(16, 6)
        for net, optimizer in zip((mine, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            net(states).square().mean().backward()
            if net is mine:
                norm = optim.clip_in_step(optimizer, limit)
            else:
                expected = nn.utils.clip_grad_norm_(net.parameters(), limit)
            optimizer.step()
        torch.testing.assert_close(norm, expected)
        above += int(norm > limit)
    assert above == {0.1: 4, 3.0: 2}.get(limit, 0)
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_muon_is_clipped_before_its_step() -> None:
    net = nn.Sequential(nn.Linear(4, 4))
    groups = [{"params": list(net.parameters()), "hidden": True, "weight_decay": 0.0, "lr": 0.1, "scale": 1.0}]
    groups[0]["params"] = [net[0].weight]
    assert not optim.clips_itself(optim.make_optimizer(groups, OptimConfig(name="muon", lr=0.1)))
