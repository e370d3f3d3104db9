"""A row of a padded batch gets the states that transformers gives it alone, and its gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from hfcourse.backbones.speech.row_norm import RowNorm, RowPositions, listen_by_row
from tests.objectives.speech import waves_clusters as waves

LENGTHS = (4000, 6400, 3111)


def padded() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    counts = torch.tensor(LENGTHS)
    values = torch.zeros(len(LENGTHS), max(LENGTHS))
    for row, length in enumerate(LENGTHS):
        values[row, :length] = torch.from_numpy(waves.tones(row, length / waves.RATE))
    return values, (torch.arange(max(LENGTHS)) < counts[:, None]).long(), counts


NETS: dict[str, dict[str, Any]] = {
    "hubert": {"feat_extract_norm": "group"},
    "wav2vec2": {"feat_extract_norm": "group"},
    "data2vec-audio": {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7},
}


@pytest.mark.parametrize("kind", NETS)
def test_padding_changes_no_state_and_no_gradient(kind: str) -> None:
    model = waves.net(kind, **NETS[kind]).eval()
    theirs: Any = copy.deepcopy(model)
    listen_by_row(model)
    values, mask, _ = padded()
    states = model(values, attention_mask=mask).last_hidden_state
    total, alone_total = torch.zeros(()), torch.zeros(())
    for row, length in enumerate(LENGTHS):
        alone = theirs(values[row : row + 1, :length]).last_hidden_state[0]
        torch.testing.assert_close(states[row, : len(alone)], alone, atol=2e-5, rtol=1e-4)
        weights = torch.randn(alone.shape, generator=torch.Generator().manual_seed(row))
        total = total + (states[row, : len(alone)] * weights).sum()
        alone_total = alone_total + (alone * weights).sum()
    total.backward()
    alone_total.backward()
    for (name, mine), plain in zip(model.named_parameters(), theirs.parameters(), strict=True):
        if plain.grad is not None:
            torch.testing.assert_close(mine.grad, plain.grad, atol=1e-3, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    # Without being told, it is transformers' own.
    with torch.no_grad():
        one, two = (net(values).last_hidden_state for net in (model, theirs))
        leaking = theirs(values, attention_mask=mask).last_hidden_state
    assert torch.equal(one, two) and (leaking[2] - states[2]).abs().max() > 1e-3
    assert model.state_dict().keys() == theirs.state_dict().keys()


def test_quiet_states_far_from_zero_lose_no_digits() -> None:
    """A microphone's constant offset, 500 times as large as what is heard: variances as in float64."""
    norm, counts = RowNorm(4, 4), torch.tensor([3000, 1200])
    norm.counts = counts
    states = (5 + 0.01 * torch.randn(2, 4, 3000, generator=torch.Generator().manual_seed(0))).requires_grad_()
    exact = states.detach().double().requires_grad_()
    weights = torch.randn(2, 4, 3000, generator=torch.Generator().manual_seed(1))
    total, wanted = torch.zeros(()), torch.zeros((), dtype=torch.float64)
    found = norm(states)
    for row, count in enumerate(counts.tolist()):
        alone = nn.functional.group_norm(exact[row : row + 1, :, :count], 4)[0]
        torch.testing.assert_close(found[row, :, :count].double(), alone, atol=1e-4, rtol=0)
        total = total + (found[row, :, :count] * weights[row, :, :count]).sum()
        wanted = wanted + (alone * weights[row, :, :count]).sum()
    (mine,), (theirs,) = torch.autograd.grad(total, states), torch.autograd.grad(wanted, exact)
    torch.testing.assert_close(mine.double(), theirs, atol=1e-4 * float(theirs.abs().max()), rtol=0)


def test_nets_without_such_a_norm_stay_as_they_are() -> None:
    model = waves.net(feat_extract_norm="layer")
    listen_by_row(model)
    assert not any(isinstance(module, RowNorm | RowPositions) for module in model.modules())
    assert not model._forward_pre_hooks
    listen_by_row(nn.Linear(2, 2))


def test_a_net_is_made_so_once_and_wherever_it_stands() -> None:
    model = nn.ModuleDict({"inner": waves.net(feat_extract_norm="group")})
    for _ in range(2):
        listen_by_row(model)
    assert len(model["inner"]._forward_pre_hooks) == 1 and not model._forward_pre_hooks
